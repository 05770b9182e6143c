-- name: anomalies
-- Counts the anomalies in the small tables.
SELECT
    (SELECT count(*) FROM (
        SELECT FROM rides GROUP BY driver_id, round HAVING count(*) > 1) AS twice) AS drivers_booked_twice,
    (SELECT count(*) FROM charges LEFT JOIN rides USING (request_id)
     WHERE rides.request_id IS NULL) AS charges_without_ride,
    (SELECT count(*) FROM rides LEFT JOIN charges USING (request_id)
     WHERE charges.request_id IS NULL) AS rides_without_charge,
    -- The difference between balance and charges, in fares: debits that were written and then overwritten.
    (SELECT (sum(abs(balance_cents - start_cents + coalesce(charged.cents, 0))) / %(fare_cents)s)::bigint
     FROM riders LEFT JOIN (SELECT rider_id, sum(cents) AS cents FROM charges GROUP BY rider_id) AS charged
     USING (rider_id)) AS lost_debits,
    (SELECT count(*) FROM rides) AS rides;

-- name: constraint_only
-- Added to the tables of check_then_act, whose statements do not change.
CREATE UNIQUE INDEX one_active_ride_per_driver ON rides (driver_id) WHERE active;

-- name: next_round
-- Ends the rides of this round and makes their drivers available.
UPDATE rides SET active = false WHERE active;
UPDATE drivers SET busy = false WHERE busy;

-- name: people
-- Creates the riders and drivers of the small tables.
WITH arrived AS (INSERT INTO drivers (driver_id) SELECT generate_series(1, %(drivers)s))
INSERT INTO riders (rider_id, start_cents, balance_cents)
SELECT rider_id, %(start_cents)s, %(start_cents)s FROM generate_series(1, %(riders)s) AS rider_id;

-- name: real_anomalies
-- The counts of the query `anomalies` for the tables of the store, after every ride has ended.
SELECT
    (SELECT count(*) FROM rides AS a JOIN rides AS b USING (driver_id)
     WHERE a.ride_id < b.ride_id
       AND a.assigned_at < coalesce(b.ended_at, 'infinity')
       AND b.assigned_at < coalesce(a.ended_at, 'infinity')) AS drivers_booked_twice,
    -- Money held or paid for a ride that does not exist or is not completed.
    (SELECT count(*) FROM accounts WHERE held_cents <> 0)
    + (SELECT count(*) FROM ledger LEFT JOIN rides USING (ride_id)
       WHERE ledger.kind = 'pay' AND rides.status IS DISTINCT FROM 'completed') AS charges_without_ride,
    (SELECT count(*) FROM rides LEFT JOIN payments USING (ride_id)
     WHERE payments.captured_cents IS DISTINCT FROM rides.fare_cents) AS rides_without_charge,
    (SELECT (sum(abs(balance_cents - paid_in.cents + coalesce(charged.cents, 0))) / %(fare_cents)s)::bigint
     FROM riders JOIN accounts USING (account_id)
     JOIN (SELECT to_account_id AS account_id, sum(amount_cents) AS cents
           FROM ledger WHERE kind = 'top_up' GROUP BY to_account_id) AS paid_in USING (account_id)
     LEFT JOIN (SELECT rider_id, sum(fare_cents) AS cents FROM rides GROUP BY rider_id) AS charged
     USING (rider_id)) AS lost_debits,
    (SELECT count(*) FROM rides) AS rides;

-- name: real_next_round
-- Completes the rides of this round: captures the holds and makes the drivers available.
SELECT start_ride(ride_id) FROM rides WHERE status = 'assigned' ORDER BY ride_id;
SELECT complete_ride(ride_id, 0) FROM rides WHERE status = 'started' ORDER BY ride_id;

-- name: real_people
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
