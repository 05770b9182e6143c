-- A look-up: the receipt of one ride, with both accounts of each transfer.
-- $ride_id = 1: the ride's id
SELECT
    ledger.transfer_id,
    ledger.kind,
    payer.kind AS paid_by,
    payee.kind AS paid_to,
    ledger.amount_cents,
    ledger.moved_at
FROM ledger
JOIN accounts AS payer ON payer.account_id = ledger.from_account_id
JOIN accounts AS payee ON payee.account_id = ledger.to_account_id
WHERE ledger.ride_id = $ride_id
ORDER BY ledger.transfer_id
