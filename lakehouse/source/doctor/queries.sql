-- The probes of `ridelake doctor`. Those that write run in a transaction that is rolled back.

-- name: version
SELECT current_setting('server_version_num')::integer, version()

-- name: encoding
SELECT getdatabaseencoding()

-- name: is_standby
SELECT pg_is_in_recovery()

-- name: backend
SELECT pg_backend_pid()

-- name: timeouts
-- The timeouts of this role, in a session without the settings of ridelake.
SELECT name || ' ' || current_setting(name)
FROM unnest(%(names)s::text[]) AS s (name)
WHERE current_setting(name, true) <> '0'
ORDER BY 1

-- name: free_connections
-- How many more connections this role can open: the smallest of the limits of the server, the database and the role.
SELECT least(
    current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
        - coalesce(current_setting('reserved_connections', true)::bigint, 0)
        - (SELECT sum(numbackends) FROM pg_stat_database),
    (SELECT datconnlimit - numbackends FROM pg_database JOIN pg_stat_database USING (datname)
     WHERE datname = current_database() AND datconnlimit >= 0),
    (SELECT rolconnlimit - (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)
     FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0))::bigint

-- name: assign_transaction_id
SELECT pg_current_xact_id()::text::bigint

-- name: page_ranges
-- Two ranges of pages of a table that every role may read must have all of its rows.
SELECT (SELECT count(*) FROM pg_class),
       (SELECT count(*) FROM pg_class WHERE ctid < '(2,0)'::tid),
       (SELECT count(*) FROM pg_class WHERE ctid >= '(2,0)'::tid)

-- name: explain_page_range
EXPLAIN (FORMAT JSON) SELECT count(*) FROM pg_class WHERE ctid >= '(0,0)'::tid AND ctid < '(2,0)'::tid

-- name: may_read_history
SELECT has_function_privilege('pg_control_system()', 'execute'),
       has_function_privilege('pg_read_file(text, bigint, bigint, boolean)', 'execute')

-- name: create_queue
CREATE TEMPORARY TABLE ridelake_doctor_queue ON COMMIT DROP AS SELECT generate_series(1, 3) AS id

-- name: skip_locked
SELECT id FROM ridelake_doctor_queue ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: fire_triggers
-- The kinds of triggers that tracking uses: two triggers that set the same column, of which the last one by name must
-- set the value; a trigger that records each deleted row; a trigger that records TRUNCATE.
CREATE TEMPORARY TABLE ridelake_doctor_rows (id integer PRIMARY KEY, tx text) ON COMMIT DROP;
CREATE TEMPORARY TABLE ridelake_doctor_log (what text) ON COMMIT DROP;
CREATE FUNCTION pg_temp.ridelake_doctor_set() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tx := TG_NAME;
    RETURN NEW;
END $$;
CREATE FUNCTION pg_temp.ridelake_doctor_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ridelake_doctor_log VALUES (concat('deleted ', OLD.id));
    RETURN NULL;
END $$;
CREATE FUNCTION pg_temp.ridelake_doctor_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ridelake_doctor_log SELECT concat('rows ', count(*)) FROM old_rows;
    RETURN NULL;
END $$;
CREATE FUNCTION pg_temp.ridelake_doctor_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ridelake_doctor_log VALUES (TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER zzz_set BEFORE INSERT OR UPDATE ON ridelake_doctor_rows
    FOR EACH ROW EXECUTE FUNCTION pg_temp.ridelake_doctor_set();
CREATE TRIGGER a_set BEFORE INSERT OR UPDATE ON ridelake_doctor_rows
    FOR EACH ROW EXECUTE FUNCTION pg_temp.ridelake_doctor_set();
CREATE TRIGGER row_deleted AFTER DELETE ON ridelake_doctor_rows
    FOR EACH ROW EXECUTE FUNCTION pg_temp.ridelake_doctor_row();
CREATE TRIGGER rows_deleted AFTER DELETE ON ridelake_doctor_rows REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.ridelake_doctor_transition();
CREATE TRIGGER truncated AFTER TRUNCATE ON ridelake_doctor_rows
    FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.ridelake_doctor_statement();
ALTER TABLE ridelake_doctor_rows ENABLE ALWAYS TRIGGER zzz_set;
INSERT INTO ridelake_doctor_rows SELECT generate_series(1, 4);
UPDATE ridelake_doctor_rows SET tx = 'old' WHERE id = 1;
DELETE FROM ridelake_doctor_rows WHERE id > 2;
INSERT INTO ridelake_doctor_log SELECT DISTINCT concat('set by ', tx) FROM ridelake_doctor_rows;
TRUNCATE ridelake_doctor_rows

-- name: fired_triggers
SELECT array_agg(what) @> expected AND expected @> array_agg(what)
FROM ridelake_doctor_log
CROSS JOIN (SELECT ARRAY['deleted 3', 'deleted 4', 'rows 2', 'set by zzz_set', 'TRUNCATE']) AS e (expected)
GROUP BY expected

-- name: tables
-- The user tables, without partitions, which are read through their table: whether this role may read them, whether
-- row-level security hides rows of them, whether this role may alter them, and whether they are not heap tables.
SELECT
    quote_ident(nspname) || '.' || quote_ident(relname),
    has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
    row_security_active(c.oid),
    pg_has_role(relowner, 'USAGE'),
    coalesce(amname, 'heap') <> 'heap'
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = relnamespace
LEFT JOIN pg_am AS a ON a.oid = relam
WHERE relkind IN ('r', 'p') AND NOT relispartition
  AND nspname !~ '^(pg_|ridelake$|ridelake_tracking$|information_schema$)'
ORDER BY 1

-- name: rights
-- Whether this role may create objects in the database, and read the tables that are created later.
SELECT has_database_privilege(current_database(), 'CREATE'),
       pg_has_role('pg_read_all_data', 'USAGE')

-- name: track_scratch
-- Another trigger changes `tx` before the trigger of the tracking, which must overwrite the change.
CREATE TABLE ridelake_tracking.doctor_scratch (id bigint PRIMARY KEY, note text);
SELECT ridelake_tracking.track('ridelake_tracking.doctor_scratch');
CREATE FUNCTION ridelake_tracking.doctor_scratch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tx := 0;
    RETURN NEW;
END $$;
CREATE TRIGGER restore_tx BEFORE INSERT OR UPDATE ON ridelake_tracking.doctor_scratch
    FOR EACH ROW EXECUTE FUNCTION ridelake_tracking.doctor_scratch();
INSERT INTO ridelake_tracking.doctor_scratch SELECT generate_series(1, 4);
UPDATE ridelake_tracking.doctor_scratch SET note = 'changed' WHERE id = 1;
UPDATE ridelake_tracking.doctor_scratch SET id = 20 WHERE id = 2;
DELETE FROM ridelake_tracking.doctor_scratch WHERE id = 3

-- name: tracked_scratch
-- Whether each row has the ID of this transaction, and whether the old and the deleted key are recorded.
SELECT (SELECT bool_and(tx = pg_current_xact_id()::text::bigint) FROM ridelake_tracking.doctor_scratch),
       (SELECT array_agg(key ORDER BY key) FROM ridelake_tracking.tombstones
        WHERE relation = 'ridelake_tracking.doctor_scratch'::regclass) = ARRAY['["2"]', '["3"]']::jsonb[]
