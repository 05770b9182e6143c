-- Which tables are tracked, and since which transaction; not those whose triggers miss something: one of them
-- is gone or silenced, another one fires after the stamp and could undo it, the key is another, rows are in
-- tables that inherit, or a crash empties the table.
-- `watched` changes when a trigger does, which may have been silent for a while, and is another one in a copy
-- of the database.
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
