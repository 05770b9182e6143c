-- Conditions F1 to F10 of the audit (oltp/audit.sql) in the dialect of DuckDB, over the files of a mover. They hold in
-- Postgres at every instant, so a row that is returned is torn: its parts are of different instants.
-- Casts make the conditions independent of the types that a mover gives to the columns.

-- name: entries
CREATE TEMP VIEW entries AS
    SELECT transfer_id, from_account_id AS account_id, -amount_cents AS amount_cents FROM ledger
    UNION ALL
    SELECT transfer_id, to_account_id, amount_cents FROM ledger;

-- name: f1_money_is_conserved
SELECT kept_cents, platform_cents
FROM (SELECT coalesce(sum(balance_cents), 0) AS kept_cents FROM accounts) AS kept,
     (SELECT coalesce(sum(amount_cents), 0) AS platform_cents FROM entries WHERE account_id IN (
         SELECT account_id FROM accounts WHERE balance_cents IS NULL)) AS platform
WHERE kept_cents + platform_cents <> 0;

-- name: f2_balances_are_sums
SELECT account_id, balance_cents, ledger_cents, accounts.held_cents, rides_held_cents
FROM accounts
LEFT JOIN (SELECT account_id, sum(amount_cents) AS ledger_cents FROM entries GROUP BY account_id) AS moved
    USING (account_id)
LEFT JOIN (SELECT account_id, sum(payments.held_cents) AS rides_held_cents
           FROM payments JOIN rides USING (ride_id) JOIN riders USING (rider_id)
           WHERE payments.status = 'held' GROUP BY account_id) AS holds USING (account_id)
WHERE balance_cents <> coalesce(ledger_cents, 0) OR accounts.held_cents <> coalesce(rides_held_cents, 0);

-- name: f3_balances_cover_holds
SELECT account_id, balance_cents, held_cents FROM accounts WHERE held_cents < 0 OR balance_cents < held_cents;

-- name: f4_one_payment_fits_each_ride
SELECT ride_id, rides.status AS ride, cancel_reason, payments.status AS payment
FROM rides FULL JOIN payments USING (ride_id)
WHERE rides.status IS NULL OR payments.status IS NULL
   OR NOT CASE WHEN rides.status IN ('assigned', 'started') THEN payments.status = 'held'
               WHEN rides.status = 'completed' OR coalesce(cancel_reason, '') = 'no_show'
                   THEN payments.status IN ('captured', 'refunded')
               ELSE payments.status = 'voided' END;

-- name: f5_rides_are_paid_in_full
SELECT ride_id
FROM payments JOIN rides USING (ride_id) JOIN riders USING (rider_id) JOIN drivers USING (driver_id) LEFT JOIN (
    SELECT ride_id,
           min(CASE kind WHEN 'refund' THEN to_account_id ELSE from_account_id END) AS payer,
           max(CASE kind WHEN 'refund' THEN to_account_id ELSE from_account_id END) AS other_payer,
           min(CASE WHEN kind IN ('pay', 'tip') THEN to_account_id END) AS payee,
           max(CASE WHEN kind IN ('pay', 'tip') THEN to_account_id END) AS other_payee,
           min(CASE kind WHEN 'commission' THEN to_account_id WHEN 'refund' THEN from_account_id END) AS platform,
           max(CASE kind WHEN 'commission' THEN to_account_id WHEN 'refund' THEN from_account_id END) AS other_platform,
           sum(CASE WHEN kind IN ('pay', 'commission') THEN amount_cents ELSE 0 END) AS paid_cents,
           sum(CASE WHEN kind = 'commission' THEN amount_cents ELSE 0 END) AS commission_cents,
           sum(CASE WHEN kind = 'tip' THEN amount_cents ELSE 0 END) AS tipped_cents,
           sum(CASE WHEN kind = 'refund' THEN amount_cents ELSE 0 END) AS refunded_cents
    FROM ledger WHERE ride_id IS NOT NULL GROUP BY ride_id) AS moved USING (ride_id)
WHERE captured_cents <> coalesce(paid_cents, 0) OR tip_cents <> coalesce(tipped_cents, 0)
   OR coalesce(refunded_cents, 0) <> CASE payments.status WHEN 'refunded' THEN captured_cents ELSE 0 END
   OR coalesce(commission_cents, 0) <> CASE rides.status WHEN 'completed' THEN fare_cents // 5 ELSE 0 END
   OR (rides.status = 'completed' AND captured_cents <> fare_cents)
   OR payer <> riders.account_id OR other_payer <> riders.account_id
   OR payee <> drivers.account_id OR other_payee <> drivers.account_id
   OR platform <> 2 OR other_platform <> 2;

-- name: f6_busy_means_one_active_ride
SELECT driver_id, drivers.status, active
FROM drivers LEFT JOIN (
    SELECT driver_id, count(*) AS active FROM rides WHERE status IN ('assigned', 'started') GROUP BY driver_id) AS counted
    USING (driver_id)
WHERE coalesce(active, 0) <> CASE WHEN drivers.status = 'busy' THEN 1 ELSE 0 END;

-- name: f7_rides_do_not_overlap
WITH times AS (
    SELECT ride_id, driver_id, rider_id, assigned_at::timestamptz AS assigned_at,
           coalesce(ended_at::timestamptz, 'infinity'::timestamptz) AS ended_at
    FROM rides)
SELECT who, id, ride_id
FROM (SELECT 'driver' AS who, driver_id AS id, ride_id, assigned_at,
             max(ended_at) OVER (PARTITION BY driver_id ORDER BY assigned_at, ride_id
                                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
      FROM times
      UNION ALL
      SELECT 'rider', rider_id, ride_id, assigned_at,
             max(ended_at) OVER (PARTITION BY rider_id ORDER BY assigned_at, ride_id
                                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
      FROM times) AS in_order
WHERE assigned_at < busy_until;

-- name: f8_each_decision_made_one_ride
SELECT request_id, outcome, requests.ride_id AS decided, rides.ride_id AS ride
FROM requests FULL JOIN rides USING (request_id)
WHERE (outcome IS NULL AND substr(request_id::varchar, 15, 1) <> '8')
   OR (outcome = 'assigned' AND (requests.ride_id IS DISTINCT FROM rides.ride_id
                              OR requests.rider_id IS DISTINCT FROM rides.rider_id
                              OR requests.driver_id IS DISTINCT FROM rides.driver_id
                              OR requests.fare_cents IS DISTINCT FROM rides.fare_cents
                              OR requests.pickup_zone_id IS DISTINCT FROM rides.pickup_zone_id
                              OR requests.dropoff_zone_id IS DISTINCT FROM rides.dropoff_zone_id
                              OR requests.distance_metres IS DISTINCT FROM rides.distance_metres))
   OR (outcome <> 'assigned' AND rides.ride_id IS NOT NULL);

-- name: f9_captures_are_within_holds
SELECT ride_id, fare_cents, held_cents, captured_cents FROM rides JOIN payments USING (ride_id)
WHERE fare_cents <> held_cents OR captured_cents > held_cents;

-- name: f10_rides_are_requests_less_refusals
SELECT requests, refused, rides
FROM (SELECT count(*) AS requests, count(*) FILTER (WHERE outcome <> 'assigned') AS refused FROM requests) AS decided,
     (SELECT count(*) AS rides FROM rides WHERE substr(request_id::varchar, 15, 1) <> '8') AS booked
WHERE requests - refused <> rides;
