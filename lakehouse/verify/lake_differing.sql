-- The keys whose rows, with their number of occurrences, differ between the two sides.
CREATE OR REPLACE TABLE differing AS
SELECT DISTINCT key
FROM (SELECT key, hash, count(*) AS rows FROM in_postgres GROUP BY key, hash) AS p
FULL JOIN (SELECT key, hash, count(*) AS rows FROM in_lake GROUP BY key, hash) AS l USING (key, hash)
WHERE p.rows IS DISTINCT FROM l.rows
