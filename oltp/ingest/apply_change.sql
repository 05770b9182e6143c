-- Adds the new transfers to the balances. Locks accounts by id, as all other functions do. The platform's accounts have
-- no balance.
WITH locked AS (
    SELECT account_id FROM accounts JOIN change USING (account_id)
    WHERE balance_cents IS NOT NULL ORDER BY account_id FOR NO KEY UPDATE OF accounts)
UPDATE accounts SET balance_cents = balance_cents + change_cents
FROM locked JOIN change USING (account_id)
WHERE accounts.account_id = locked.account_id AND change_cents <> 0
