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
