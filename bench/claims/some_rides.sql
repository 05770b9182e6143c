-- Pseudo-random rides; the same ones in each run.
SELECT ride_id FROM documents ORDER BY hashint8(ride_id) LIMIT %(rides)s
