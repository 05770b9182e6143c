-- The counts of anomalies.sql for the tables of the store, after every ride has ended.
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
