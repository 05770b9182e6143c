-- The keys of rows deleted since the token; rows with these keys may exist again. Tombstones of another generation,
-- from earlier tracking or a restored dump, are ignored.
SELECT DISTINCT {columns}
FROM ridelake_tracking.tombstones
WHERE generation = (SELECT generation FROM ridelake_tracking.tracked WHERE relation = {relation})
  AND key IS NOT NULL AND {is_held}
  AND (tx >= current_setting('ridelake.since_xmax')::bigint
       OR tx = ANY (current_setting('ridelake.since_xip')::bigint[]))
