-- The keys of rows that are gone since the token; there may be rows with these keys again. `generation`: what an earlier
-- tracking of the table, or of another one in a restored dump, has left means nothing.
SELECT DISTINCT {columns}
FROM ridelake_tracking.tombstones
WHERE generation = (SELECT generation FROM ridelake_tracking.tracked WHERE relation = {relation})
  AND key IS NOT NULL AND {is_held}
  AND (tx >= current_setting('ridelake.since_xmax')::bigint
       OR tx = ANY (current_setting('ridelake.since_xip')::bigint[]))
