-- The audit: conditions that must hold in every snapshot, as the consistency conditions of TPC-C (3.3.2). Each
-- query returns the rows that violate its condition; no rows is a pass. All queries use one snapshot, so the
-- audit can run during bookings.

-- name: money_is_conserved
-- F1: the balances of all accounts, including those of the platform, add up to zero
SELECT kept_cents, platform_cents
FROM (SELECT coalesce(sum(balance_cents), 0) AS kept_cents FROM accounts) AS kept,
     (SELECT coalesce(sum(amount_cents), 0) AS platform_cents FROM entries WHERE account_id IN (
         SELECT account_id FROM accounts WHERE balance_cents IS NULL)) AS platform
WHERE kept_cents + platform_cents <> 0;

-- name: balances_are_sums
-- F2: every balance is the sum of its transfers, every held amount the sum of its rides' holds
SELECT account_id, balance_cents, coalesce(ledger_cents, 0) AS ledger_cents,
       held_cents, coalesce(rides_held_cents, 0) AS rides_held_cents
FROM accounts
LEFT JOIN (SELECT account_id, sum(amount_cents) AS ledger_cents FROM entries GROUP BY account_id) AS moved
    USING (account_id)
LEFT JOIN (SELECT account_id, sum(payments.held_cents) AS rides_held_cents
           FROM payments JOIN rides USING (ride_id) JOIN riders USING (rider_id)
           WHERE payments.status = 'held' GROUP BY account_id) AS holds USING (account_id)
WHERE balance_cents <> coalesce(ledger_cents, 0) OR held_cents <> coalesce(rides_held_cents, 0);

-- name: balances_cover_holds
-- F3: no balance is negative, and none is less than the amount that is held from it
SELECT account_id, balance_cents, held_cents FROM accounts WHERE held_cents < 0 OR balance_cents < held_cents;

-- name: one_payment_fits_each_ride
-- F4: the payment of an active ride is held, of a completed ride or a no-show captured, of another cancelled ride voided
SELECT ride_id, rides.status AS ride, cancel_reason, payments.status AS payment
FROM rides FULL JOIN payments USING (ride_id)
WHERE rides.status IS NULL OR payments.status IS NULL
   OR NOT CASE WHEN rides.status IN ('assigned', 'started') THEN payments.status = 'held'
               WHEN rides.status = 'completed' OR cancel_reason = 'no_show'
                   THEN payments.status IN ('captured', 'refunded')
               ELSE payments.status = 'voided' END;

-- name: rides_are_paid_in_full
-- F5: the captured amount goes to the driver, except one fifth of a completed fare, which goes to the platform
SELECT ride_id, payments.status, fare_cents, captured_cents, paid_cents, commission_cents, tip_cents, tipped_cents,
       refunded_cents, riders.account_id AS rider, payer, other_payer, drivers.account_id AS driver, payee, other_payee,
       platform, other_platform
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
   OR coalesce(commission_cents, 0) <> CASE rides.status WHEN 'completed' THEN fare_cents / 5 ELSE 0 END
   OR (rides.status = 'completed' AND captured_cents <> fare_cents)
   OR payer <> riders.account_id OR other_payer <> riders.account_id
   OR payee <> drivers.account_id OR other_payee <> drivers.account_id
   OR platform <> 2 OR other_platform <> 2;

-- name: busy_means_one_active_ride
-- F6: a driver is busy if and only if the driver has exactly one active ride
SELECT driver_id, drivers.status, coalesce(active, 0) AS active
FROM drivers LEFT JOIN (
    SELECT driver_id, count(*) AS active FROM rides WHERE status IN ('assigned', 'started') GROUP BY driver_id) AS counted
    USING (driver_id)
WHERE coalesce(active, 0) <> CASE WHEN drivers.status = 'busy' THEN 1 ELSE 0 END;

-- name: rides_do_not_overlap
-- F7: each ride of a driver or a rider begins after the previous one has ended
SELECT who, id, ride_id, assigned_at, busy_until::text
FROM (SELECT 'driver' AS who, driver_id AS id, ride_id, assigned_at,
             max(coalesce(ended_at, 'infinity')) OVER (
                 PARTITION BY driver_id ORDER BY assigned_at, ride_id
                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
      FROM rides
      UNION ALL
      SELECT 'rider', rider_id, ride_id, assigned_at,
             max(coalesce(ended_at, 'infinity')) OVER (
                 PARTITION BY rider_id ORDER BY assigned_at, ride_id
                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
      FROM rides) AS in_order
WHERE assigned_at < busy_until;

-- name: each_decision_made_one_ride
-- F8: an accepted request has the ride that it describes, a refused one has no ride, and a booked ride has its request
SELECT request_id, outcome, requests.ride_id AS decided, rides.ride_id AS ride
FROM requests FULL JOIN rides USING (request_id)
WHERE (outcome IS NULL AND substr(request_id::text, 15, 1) <> '8')           -- version 8: loaded from a file
   OR (outcome = 'assigned' AND (requests.ride_id, requests.rider_id, requests.driver_id, requests.fare_cents,
                                 requests.pickup_zone_id, requests.dropoff_zone_id, requests.distance_metres)
                IS DISTINCT FROM (rides.ride_id, rides.rider_id, rides.driver_id, rides.fare_cents,
                                  rides.pickup_zone_id, rides.dropoff_zone_id, rides.distance_metres))
   OR (outcome <> 'assigned' AND rides.ride_id IS NOT NULL);

-- name: captures_are_within_holds
-- F9: the held amount is the fare, and at most the held amount is captured
SELECT ride_id, fare_cents, held_cents, captured_cents FROM rides JOIN payments USING (ride_id)
WHERE fare_cents <> held_cents OR captured_cents > held_cents;

-- name: rides_are_requests_less_refusals
-- F10: the number of booked rides is the number of requests less the refusals
SELECT requests, refused, rides
FROM (SELECT count(*) AS requests, count(*) FILTER (WHERE outcome <> 'assigned') AS refused FROM requests) AS decided,
     (SELECT count(*) AS rides FROM rides WHERE substr(request_id::text, 15, 1) <> '8') AS booked
WHERE requests - refused <> rides;

-- name: events_record_every_step
-- F11: the events of a ride are numbered 1, 2, 3 and record exactly its steps and their times
SELECT ride_id, status, assigned_at, started_at, ended_at, first, first_at, second, second_at, third, third_at
FROM (SELECT * FROM rides WHERE substr(request_id::text, 15, 1) <> '8') AS booked
FULL JOIN (SELECT ride_id, count(*) AS steps,
                  max(e.status) FILTER (WHERE step = 1) AS first, max(happened_at) FILTER (WHERE step = 1) AS first_at,
                  max(e.status) FILTER (WHERE step = 2) AS second, max(happened_at) FILTER (WHERE step = 2) AS second_at,
                  max(e.status) FILTER (WHERE step = 3) AS third, max(happened_at) FILTER (WHERE step = 3) AS third_at
           FROM ride_events AS e GROUP BY ride_id) AS events USING (ride_id)
WHERE (steps, first, first_at) IS DISTINCT FROM (
          CASE status WHEN 'assigned' THEN 1 WHEN 'completed' THEN 3 ELSE 2 END, 'assigned'::ride_status, assigned_at)
   OR (second, second_at) IS DISTINCT FROM (
          CASE WHEN status = 'cancelled' THEN status WHEN status <> 'assigned' THEN 'started' END,
          CASE WHEN status = 'cancelled' THEN ended_at ELSE started_at END)
   OR (third, third_at) IS DISTINCT FROM (
          CASE WHEN status = 'completed' THEN status END, CASE WHEN status = 'completed' THEN ended_at END);

-- name: newest_epoch_equals_the_store
-- F12: ledger and requests of the newest epoch equal those of the store at its snapshot
SELECT kept.name, kept.rows AS store_rows, kept.cents AS store_cents, epoch.rows AS epoch_rows, epoch.cents AS epoch_cents
FROM (SELECT 'ledger' AS name, count(*) AS rows, coalesce(sum(amount_cents), 0) AS cents
      FROM ledger WHERE pg_visible_in_snapshot(tx::text::xid8, %(snapshot)s::pg_snapshot)
      UNION ALL
      SELECT 'requests', count(*), coalesce(sum(fare_cents), 0)
      FROM requests WHERE pg_visible_in_snapshot(tx::text::xid8, %(snapshot)s::pg_snapshot)) AS kept
JOIN (VALUES ('ledger', %(ledger_rows)s::bigint, %(ledger_cents)s::numeric),
             ('requests', %(request_rows)s, %(request_cents)s)) AS epoch (name, rows, cents) USING (name)
WHERE (kept.rows, kept.cents) <> (epoch.rows, epoch.cents);
