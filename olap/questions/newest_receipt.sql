-- A look-up: the ledger transfers of the newest paid ride.
SELECT transfer_id, ride_id, kind, from_account_id, to_account_id, amount_cents, moved_at
FROM ledger
WHERE ride_id = (SELECT MAX(ride_id) FROM ledger)
ORDER BY transfer_id
