-- Add %(drivers)s drivers in zones with requests, so that no benchmark runs out of drivers.
WITH stands AS (SELECT city_id, pickup_zone_id AS zone_id, row_number() OVER () AS number
                FROM (SELECT city_id, pickup_zone_id FROM rides ORDER BY hashint8(ride_id) LIMIT %(drivers)s) AS asked),
opened AS (INSERT INTO accounts (kind, balance_cents) SELECT 'driver', 0 FROM stands RETURNING account_id),
owned AS (SELECT account_id, row_number() OVER () AS number FROM opened)
INSERT INTO drivers (account_id, city_id, zone_id, status, name)
SELECT account_id, city_id, zone_id, 'available', 'Driver ' || account_id FROM stands JOIN owned USING (number)
