-- name: changed
-- The rows written since the token, in their current version. The numbers are set by set_config, because COPY has no
-- parameters. A tx that this server has not reached was written on another server: the row was restored from a dump,
-- before the table was tracked here.
SELECT {columns} FROM {table}
WHERE (tx >= current_setting('ridelake.since_xmax')::bigint
       OR tx = ANY (current_setting('ridelake.since_xip')::bigint[]))
  -- Not `tx`, which the BRIN index would use as a condition. If a range is summarized while this snapshot is open, its
  -- summary has only the newest version of a row that was updated in place (HOT), whose tx can be beyond this limit.
  AND tx + 0 < current_setting('ridelake.until_xmax')::bigint

-- name: deleted_keys
-- The keys of rows deleted since the token; rows with these keys may exist again. Tombstones of another generation,
-- from earlier tracking or a restored dump, are ignored.
SELECT DISTINCT {columns}
FROM ridelake_tracking.tombstones
WHERE generation = (SELECT generation FROM ridelake_tracking.tracked WHERE relation = {relation})
  AND key IS NOT NULL AND {is_held}
  AND (tx >= current_setting('ridelake.since_xmax')::bigint
       OR tx = ANY (current_setting('ridelake.since_xip')::bigint[]))

-- name: flushed
-- Whether the WAL is flushed up to %(lsn)s. At the end of a page the insert position is after the header of the next
-- page (24 bytes, 40 in a new segment), which contains no record. Without the second condition, waiting for an idle
-- server would not end.
SELECT flushed >= lsn OR (mod(flushed - '0/0', 8192) = 0 AND lsn - flushed <= 40)
FROM (SELECT pg_current_wal_flush_lsn() AS flushed, %(lsn)s::pg_lsn AS lsn) AS positions

-- name: is_refreshed
-- Whether a materialized view has another file than in this snapshot. The function returns the current one.
SELECT relfilenode <> pg_relation_filenode(oid) FROM pg_class WHERE oid = %s

-- name: named_columns
-- Columns by names such as sales.orders.note, as SQL identifiers. Columns that do not exist are omitted.
SELECT
    name, c.oid::bigint, a.attname::text,
    EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary AND a.attnum = ANY (indkey)) AS in_key
FROM unnest(%(names)s::text[]) AS named (name)
CROSS JOIN LATERAL (SELECT parse_ident(name) AS parts) AS parsed
CROSS JOIN LATERAL (
    SELECT string_agg(quote_ident(part), '.') AS table_name FROM unnest(trim_array(parts, 1)) AS part
) AS qualified
JOIN pg_class AS c ON c.oid = to_regclass(table_name)
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = parts[cardinality(parts)]
WHERE a.attnum > 0 AND NOT a.attisdropped

-- name: outdated
-- The tables whose tracking is outdated: it was restored from a dump, the key has changed, or an older version created
-- it. Tables that lack a trigger, or whose triggers are disabled, are not included: that was done on purpose.
SELECT c.oid::bigint, quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE c.oid = ANY (%(relations)s::oid[]) AND NOT c.relispartition
  AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname ~ '^(zzz_)?ridelake_')
  AND NOT ridelake_tracking.is_current(c.oid)

-- name: partitions
-- The leaf partitions of partitioned tables, and a text that changes when rows can have changed without tracking: a
-- partition was truncated or rewritten (another file), or attached or its triggers altered (other rows of pg_trigger).
-- pg_partition_tree() would show the current partitions, not those of the snapshot.
WITH RECURSIVE tree AS (
    SELECT oid AS root, oid AS relation FROM pg_class WHERE oid = ANY (%(relations)s::oid[]) AND relkind = 'p'
    UNION ALL
    SELECT root, inhrelid FROM tree JOIN pg_inherits ON inhparent = relation AND NOT inhdetachpending
)
SELECT
    root::bigint,
    c.oid::bigint,
    n.nspname::text,
    c.relname::text,
    c.relkind::text,
    concat_ws(' ', c.oid, c.relfilenode, (
        SELECT md5(string_agg(concat(tgname, xmin), ' ' ORDER BY tgname))
        FROM pg_trigger WHERE tgrelid = c.oid AND tgname ~ '^(zzz_)?ridelake_')) AS state,
    pg_table_size(c.oid) AS bytes
FROM tree
JOIN pg_class AS c ON c.oid = tree.relation AND c.relkind <> 'p'
JOIN pg_namespace AS n ON n.oid = c.relnamespace
ORDER BY root, c.oid

-- name: renamed
-- Tables by oid that have another name now, as SQL identifiers.
SELECT c.oid::bigint, quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE c.oid = ANY (%(relations)s::oid[])

-- name: schemas
SELECT nspname::text FROM pg_namespace

-- name: selectable
-- The tables that --all-tables selects: the SQL identifier, the names, and why one cannot be read. It does not select
-- partitions, which are in their parents, tables of extensions, and tables of ridelake (tracking, catalog of a lake).
SELECT
    quote_ident(nspname) || '.' || quote_ident(relname),
    nspname,
    relname,
    CASE WHEN NOT has_schema_privilege(schema, 'USAGE') OR NOT has_table_privilege(relation, 'SELECT')
         THEN 'this role may not read it: grant SELECT on it and USAGE of its schema, or --exclude it'
         WHEN row_security_active(relation)
         THEN 'row-level security hides rows of it from this role: connect as its owner, or --exclude it'
         WHEN relname <> first_value(relname) OVER same_name
         THEN 'its name and ' || first_value(nspname || '.' || relname) OVER same_name
              || ' differ only in case, which engines ignore: --exclude it'
         WHEN columns = 0 THEN 'it has no columns: add one, or --exclude it'
         WHEN columns > names THEN 'two of its columns differ only in case, which engines ignore: --exclude it' END
FROM (
    SELECT n.oid AS schema, n.nspname::text, c.oid AS relation, c.relname::text
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'ridelake_tracking')
      AND (n.nspname <> 'ridelake' OR c.relname = ANY (%(store_tables)s::text[]))
      AND NOT (c.relname IN ('iceberg_tables', 'iceberg_namespace_properties', 'lake', 'lake_selection', 'epochs')
               AND EXISTS (SELECT FROM pg_class AS i WHERE i.relnamespace = n.oid AND i.relname = 'iceberg_tables'))
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
) AS tables
CROSS JOIN LATERAL (
    SELECT count(*) AS columns, count(DISTINCT lower(attname)) AS names
    FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
) AS counted
WINDOW same_name AS (PARTITION BY lower(relname)
                     ORDER BY nspname <> 'ridelake', nspname <> 'public', nspname, relname <> lower(relname), relname)
ORDER BY nspname <> 'ridelake', nspname <> 'public', nspname, relname

-- name: sources
-- Tables by SQL identifier: quoted if necessary, schema-qualified or found on the search path. The key is the primary
-- key, otherwise the first unique index whose columns are not nullable.
SELECT
    wanted.name,
    c.oid::bigint,
    n.nspname::text,
    c.relname::text,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS qualified,
    c.relkind::text,
    (SELECT array_agg(a.attname::text ORDER BY k.place)
     FROM unnest(chosen.indkey) WITH ORDINALITY AS k (attnum, place)
     JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
     WHERE k.place <= chosen.indnkeyatts) AS key,
    CASE WHEN c.relpersistence = 'u' THEN 'unlogged'
         WHEN c.relispartition THEN 'partition'
         WHEN c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) THEN 'parent'
         ELSE c.relkind::text END AS kind
FROM unnest(%(tables)s::text[]) WITH ORDINALITY AS wanted (name, place)
LEFT JOIN pg_class AS c ON c.oid = to_regclass(wanted.name)
LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT indkey, indnkeyatts FROM pg_index
    WHERE indrelid = c.oid AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
      AND NOT EXISTS (SELECT FROM pg_attribute
                      WHERE attrelid = c.oid AND NOT attnotnull AND attnum = ANY (indkey[:indnkeyatts - 1]))
    ORDER BY indisprimary DESC, indnkeyatts, indexrelid
    LIMIT 1
) AS chosen ON true
ORDER BY wanted.place

-- name: table_names
-- The user tables as SQL identifiers, to suggest a name for a misspelled one.
SELECT quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class
JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
ORDER BY 1
LIMIT 10000

-- name: token
-- One statement, so one snapshot. The WAL position is read after the snapshot is taken, so it is after everything that
-- the snapshot can see.
SELECT
    pg_current_snapshot()::text,
    to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00'),
    pg_current_wal_insert_lsn()::text,
    CASE WHEN has_function_privilege('pg_control_system()', 'execute')
         THEN (SELECT system_identifier::text FROM pg_control_system()) END,
    -- The timeline, from the name of the current WAL file. After a promotion pg_control_checkpoint() returns the old
    -- timeline until the next checkpoint, which can take minutes.
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int,
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database())

-- name: tombstones
-- The tables with rows deleted since the token, and whether the table was truncated.
SELECT tracked.relation::bigint, bool_or(tombstones.key IS NULL)
FROM ridelake_tracking.tombstones JOIN ridelake_tracking.tracked USING (generation)
WHERE tombstones.tx >= current_setting('ridelake.since_xmax')::bigint
   OR tombstones.tx = ANY (current_setting('ridelake.since_xip')::bigint[])
GROUP BY tracked.relation

-- name: tracked
-- The tracked tables, and the transaction since which they are tracked. A table is omitted if its tracking can miss a
-- change: a trigger is missing or disabled, another trigger fires after the stamp and could overwrite it, the key has
-- changed, rows are in child tables, or the table is unlogged. The same is checked for each partition; it has the
-- triggers of its parent except the trigger of TRUNCATE.
-- `watched` changes when a trigger is altered (it may have been disabled for a while), and in a copy of the database.
-- It also changes when any column is altered, even one that is not copied: the table may have inherited it for a while.
SELECT relation::bigint, tx, concat(watched, ' ', generation, ' ', d.oid, ' ', (
    SELECT md5(string_agg(xmin::text, ' ' ORDER BY attnum)) FROM pg_attribute
    WHERE by_statement > 0 AND attrelid = relation AND attnum > 0 AND NOT attisdropped))
FROM ridelake_tracking.tracked
JOIN pg_class AS c ON c.oid = relation
JOIN pg_database AS d ON datname = current_database()
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE tgrelid = relation) AS triggers,
        count(*) FILTER (WHERE tgrelid = relation AND proname = recorder) AS recorders,
        -- A statement-level trigger (bit 1 of tgtype is 0) needs another trigger for each replicated row.
        count(*) FILTER (WHERE tgrelid = relation AND tgname = 'ridelake_deleted' AND tgtype & 1 = 0) AS by_statement,
        count(*) FILTER (WHERE tgrelid = relation AND tgname = 'ridelake_replicated') AS by_replication,
        string_agg(concat(t.tgname, t.xmin), ' ' ORDER BY t.tgname) FILTER (WHERE tgrelid = relation) AS watched,
        count(*) FILTER (WHERE tgrelid <> relation AND (proname = recorder OR proname = 'stamp')) AS of_partitions
    FROM (
        SELECT relation
        UNION ALL
        SELECT leaf FROM ridelake_tracking.partitions_of(relation) AS leaf WHERE c.relkind = 'p'
    ) AS part (oid)
    JOIN pg_trigger AS t ON tgrelid = part.oid
    JOIN pg_proc AS p ON p.oid = tgfoid,
    CAST('record_tombstone_' || replace(generation::text, '-', '') AS text) AS recorder
    WHERE tgname ~ '^(zzz_)?ridelake_'
      -- A statement-level trigger is checked against session_replication_role at the end of the statement only. The
      -- setting may change within the statement, so this trigger is also ALWAYS.
      AND tgenabled = CASE WHEN tgname = 'ridelake_replicated' THEN 'R' ELSE 'A' END
) AS t
WHERE relation = ANY (%(relations)s::oid[])
  AND ridelake_tracking.is_current(relation)
  AND by_statement = by_replication AND triggers = 4 + by_statement AND recorders = 3 + by_statement
  -- A DELETE of a parent fires the statement-level triggers of the parent only.
  AND (by_statement = 0 OR NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = relation))
  AND NOT EXISTS (  -- bits of tgtype: 1 for each row, 2 before, 4 insert, 16 update
      SELECT FROM (
          SELECT relation
          UNION ALL
          SELECT leaf FROM ridelake_tracking.partitions_of(relation) AS leaf WHERE c.relkind = 'p'
      ) AS part (oid)
      JOIN pg_trigger AS t ON tgrelid = part.oid
      WHERE t.tgname > 'zzz_ridelake_stamp' AND tgtype & 3 = 3 AND tgtype & 20 > 0)
  AND relpersistence = 'p'
  AND CASE WHEN c.relkind = 'p'
           THEN of_partitions = (
               SELECT 3 * count(*) FROM ridelake_tracking.partitions_of(relation) AS leaf (oid))
               AND NOT EXISTS (
                   SELECT FROM ridelake_tracking.partitions_of(relation) AS leaf (oid) JOIN pg_class AS l USING (oid)
                   WHERE l.relkind <> 'r' OR l.relpersistence <> 'p')
           ELSE NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = relation) END
