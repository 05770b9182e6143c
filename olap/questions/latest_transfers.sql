-- A look-up: the twenty newest transfers of the ledger.
SELECT transfer_id, kind, from_account_id, to_account_id, amount_cents, ride_id, moved_at
FROM ledger
ORDER BY transfer_id DESC
LIMIT 20
