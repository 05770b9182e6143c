-- Riders and drivers in the real schema, in the first zone there is; returns the riders.
WITH place AS (SELECT zone_id, city_id FROM zones ORDER BY zone_id LIMIT 1),
purses AS (
    INSERT INTO accounts (kind, balance_cents)
    SELECT 'rider', %(start_cents)s FROM generate_series(1, %(riders)s) RETURNING account_id),
paid_in AS (
    INSERT INTO ledger (from_account_id, to_account_id, amount_cents, moved_at, kind)
    SELECT 1, account_id, %(start_cents)s, clock_timestamp(), 'top_up' FROM purses),
tills AS (
    INSERT INTO accounts (kind, balance_cents)
    SELECT 'driver', 0 FROM generate_series(1, %(drivers)s) RETURNING account_id),
arrived AS (
    INSERT INTO drivers (account_id, city_id, zone_id, status, name)
    SELECT account_id, city_id, zone_id, 'available', 'driver ' || account_id FROM tills, place),
asking AS (
    INSERT INTO riders (account_id, city_id, username)
    SELECT account_id, city_id, 'rider_' || account_id FROM purses, place RETURNING rider_id)
SELECT rider_id, zone_id FROM asking, place ORDER BY rider_id;
