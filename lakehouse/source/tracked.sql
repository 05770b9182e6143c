-- The tracked tables, and the transaction since which they are tracked. A table is omitted if its tracking can miss a
-- change: a trigger is missing or disabled, another trigger fires after the stamp and could overwrite it, the key has
-- changed, rows are in child tables, or the table is unlogged.
-- `watched` changes when a trigger is altered (it may have been disabled for a while), and in a copy of the database.
SELECT relation::bigint, tx, concat(watched, ' ', generation, ' ', d.oid)
FROM ridelake_tracking.tracked
JOIN pg_class AS c ON c.oid = relation
JOIN pg_database AS d ON datname = current_database()
CROSS JOIN LATERAL (
    SELECT
        count(*) AS triggers,
        count(*) FILTER (WHERE proname = 'record_tombstone_' || replace(generation::text, '-', '')) AS recorders,
        string_agg(concat(t.tgname, t.xmin), ' ' ORDER BY t.tgname) AS watched
    FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = tgfoid
    WHERE tgrelid = relation AND tgname ~ '^(zzz_)?ridelake_' AND tgenabled = 'A'
) AS t
WHERE relation = ANY (%(relations)s::oid[])
  AND ridelake_tracking.is_current(relation)
  AND triggers = 4 AND recorders = 3
  AND NOT EXISTS (  -- bits of tgtype: 1 for each row, 2 before, 4 insert, 16 update
      SELECT FROM pg_trigger AS t
      WHERE tgrelid = relation AND t.tgname > 'zzz_ridelake_stamp' AND tgtype & 3 = 3 AND tgtype & 20 > 0)
  AND relpersistence = 'p'
  AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = relation)
