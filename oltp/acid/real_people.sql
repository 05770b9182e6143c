-- Creates riders and drivers in the store, in its first zone; returns the riders.
WITH place AS (SELECT zone_id, city_id FROM zones ORDER BY zone_id LIMIT 1),
rider_accounts AS (
    INSERT INTO accounts (kind, balance_cents)
    SELECT 'rider', %(start_cents)s FROM generate_series(1, %(riders)s) RETURNING account_id),
paid_in AS (
    INSERT INTO ledger (from_account_id, to_account_id, amount_cents, moved_at, kind)
    SELECT 1, account_id, %(start_cents)s, clock_timestamp(), 'top_up' FROM rider_accounts),
driver_accounts AS (
    INSERT INTO accounts (kind, balance_cents)
    SELECT 'driver', 0 FROM generate_series(1, %(drivers)s) RETURNING account_id),
new_drivers AS (
    INSERT INTO drivers (account_id, city_id, zone_id, status, name)
    SELECT account_id, city_id, zone_id, 'available', 'driver ' || account_id FROM driver_accounts, place),
new_riders AS (
    INSERT INTO riders (account_id, city_id, username)
    SELECT account_id, city_id, 'rider_' || account_id FROM rider_accounts, place RETURNING rider_id)
SELECT rider_id, zone_id FROM new_riders, place ORDER BY rider_id;
