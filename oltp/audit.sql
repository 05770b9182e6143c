-- The audit: what must hold whenever nobody is looking, in the manner of TPC-C 3.3.2. Each query returns
-- the rows that break its rule, so an empty answer is a pass. All of them read one snapshot, so they may
-- run while rides are booked.

-- money_is_conserved: what all accounts hold and owe adds up to nothing
SELECT kept_cents, platform_cents
FROM (SELECT coalesce(sum(balance_cents), 0) AS kept_cents FROM accounts) AS kept,
     (SELECT coalesce(sum(amount_cents), 0) AS platform_cents FROM entries WHERE account_id IN (
         SELECT account_id FROM accounts WHERE balance_cents IS NULL)) AS platform
WHERE kept_cents + platform_cents <> 0;

-- balance_is_sum_of_ledger: every balance is the sum of its transfers
SELECT account_id, balance_cents, coalesce(ledger_cents, 0) AS ledger_cents
FROM accounts LEFT JOIN (
    SELECT account_id, sum(amount_cents) AS ledger_cents FROM entries GROUP BY account_id) AS summed USING (account_id)
WHERE balance_cents <> coalesce(ledger_cents, 0);

-- nobody_overspends: no balance below zero, and none below what is held of it
SELECT account_id, balance_cents, held_cents FROM accounts WHERE held_cents < 0 OR balance_cents < held_cents;

-- one_payment_fits_each_ride: under way means held, completed means captured, cancelled means voided
SELECT ride_id, rides.status AS ride, payments.status AS payment
FROM rides FULL JOIN payments USING (ride_id)
WHERE (rides.status, payments.status) NOT IN (
        ('assigned', 'held'), ('started', 'held'), ('completed', 'captured'), ('cancelled', 'voided'))
   OR rides.status IS NULL OR payments.status IS NULL;

-- completed_rides_are_paid_in_full: pay and commission make the fare, the tip the tip, and it came from the rider
SELECT ride_id, captured_cents, tip_cents, paid_cents, tipped_cents
FROM payments JOIN rides USING (ride_id) JOIN riders USING (rider_id) LEFT JOIN (
    SELECT ride_id, min(from_account_id) AS payer, max(from_account_id) AS other_payer,
           coalesce(sum(amount_cents) FILTER (WHERE kind <> 'tip'), 0) AS paid_cents,
           coalesce(sum(amount_cents) FILTER (WHERE kind = 'tip'), 0) AS tipped_cents
    FROM ledger WHERE ride_id IS NOT NULL GROUP BY ride_id) AS moved USING (ride_id)
WHERE captured_cents <> coalesce(paid_cents, 0) OR tip_cents <> coalesce(tipped_cents, 0)
   OR payer <> riders.account_id OR other_payer <> riders.account_id;

-- fare_is_what_was_held: the price shown is the price held, and never more is captured
SELECT ride_id, fare_cents, held_cents, captured_cents FROM rides JOIN payments USING (ride_id)
WHERE fare_cents <> held_cents OR captured_cents > held_cents;

-- held_is_sum_of_holds: what is set aside in an account is what its rides under way hold
SELECT account_id, accounts.held_cents, coalesce(rides_held_cents, 0) AS rides_held_cents
FROM accounts LEFT JOIN (
    SELECT riders.account_id, sum(payments.held_cents) AS rides_held_cents
    FROM payments JOIN rides USING (ride_id) JOIN riders USING (rider_id)
    WHERE payments.status = 'held' GROUP BY riders.account_id) AS holds USING (account_id)
WHERE accounts.held_cents <> coalesce(rides_held_cents, 0);

-- busy_means_one_active_ride: a driver is busy if and only if exactly one ride of theirs is under way
SELECT driver_id, drivers.status, coalesce(active, 0) AS active
FROM drivers LEFT JOIN (
    SELECT driver_id, count(*) AS active FROM rides WHERE status IN ('assigned', 'started') GROUP BY driver_id) AS counted
    USING (driver_id)
WHERE coalesce(active, 0) <> CASE WHEN drivers.status = 'busy' THEN 1 ELSE 0 END;

-- nobody_drives_two_rides_at_once: over all time, a driver's next ride begins when the last one is over
SELECT driver_id, ride_id, assigned_at, busy_until::text
FROM (SELECT driver_id, ride_id, assigned_at,
             max(coalesce(ended_at, 'infinity')) OVER (
                 PARTITION BY driver_id ORDER BY assigned_at, ride_id
                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
      FROM rides) AS in_order
WHERE assigned_at < busy_until;

-- nobody_takes_two_rides_at_once: the same for riders
SELECT rider_id, ride_id, assigned_at, busy_until::text
FROM (SELECT rider_id, ride_id, assigned_at,
             max(coalesce(ended_at, 'infinity')) OVER (
                 PARTITION BY rider_id ORDER BY assigned_at, ride_id
                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
      FROM rides) AS in_order
WHERE assigned_at < busy_until;

-- each_decision_made_one_ride: an accepted request has its ride, a refused one none, and a booked ride its request
SELECT request_id, outcome, requests.ride_id AS decided, rides.ride_id AS ride
FROM requests FULL JOIN rides USING (request_id)
WHERE (outcome IS NULL AND substr(request_id::text, 15, 1) <> '8')           -- version 8: came from a file
   OR (outcome = 'assigned' AND (requests.ride_id, requests.rider_id, requests.driver_id, requests.fare_cents)
                IS DISTINCT FROM (rides.ride_id, rides.rider_id, rides.driver_id, rides.fare_cents))
   OR (outcome <> 'assigned' AND rides.ride_id IS NOT NULL);
