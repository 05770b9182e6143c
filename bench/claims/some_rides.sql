-- Anywhere in the table, but the same at each run.
SELECT ride_id FROM documents ORDER BY hashint8(ride_id) LIMIT %(rides)s
