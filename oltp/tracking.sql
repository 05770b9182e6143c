-- Change tracking for incremental epochs: every row version records the transaction that wrote it (column `tx`),
-- and every deleted row leaves its key. It serves the store's own tables and any other table: `track` a table,
-- `untrack` it. docs/lake.md has the proof, and what a dump, a copy and an upgrade do to it.
--
-- The column is ours and not Postgres' xmin: under a savepoint xmin is a number that no snapshot knows.
--
-- This file also brings an older version up to date, so every statement can be run again. It then locks no table
-- of the user's: each table is updated by its next `track`, in a transaction of its own.

SET LOCAL search_path = ridelake_tracking;

-- The tracked tables. What was changed before `tx` committed need not be stamped.
CREATE TABLE IF NOT EXISTS tracked (
    relation  oid PRIMARY KEY,
    tx        bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    key       text[] NOT NULL  -- the columns that the triggers record; the table may have another key by now
);

-- `generation` is new at each `track`; tombstones of an earlier one mean nothing. `server` and `written_by` tell a row
-- that a dump brought here from one that `track` wrote here: see `is_current`.
ALTER TABLE tracked
    ADD COLUMN IF NOT EXISTS generation  uuid,
    ADD COLUMN IF NOT EXISTS server      text,
    ADD COLUMN IF NOT EXISTS written_by  text;

-- The keys of deleted rows: a JSON array of the key columns as text, in the key's order. NULL stands for all rows
-- of the table.
CREATE TABLE IF NOT EXISTS tombstones (
    relation  oid NOT NULL,
    key       jsonb,
    tx        bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint
);
ALTER TABLE tombstones ADD COLUMN IF NOT EXISTS generation uuid;
CREATE INDEX IF NOT EXISTS tombstones_tx_idx ON tombstones (tx);

-- Tombstones of transactions before this one may have been removed. A lake that has not read them by then takes
-- the table whole.
CREATE TABLE IF NOT EXISTS cleared (before_tx bigint NOT NULL);

-- The server's system identifier; empty where the owner may not read it. SECURITY DEFINER, so that all roles
-- get the same answer.
CREATE OR REPLACE FUNCTION server() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(CASE WHEN has_function_privilege('pg_control_system()', 'execute')
                         THEN (SELECT system_identifier::text FROM pg_control_system()) END, '')
$$;

-- Qualified, because it runs with the search path of the session that writes the row.
CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tx := pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8;
    RETURN NEW;
END $$;

-- One value of a key, in a form that reads back exactly whatever the session's settings are. format() calls the
-- type's output function and no cast that a user has defined.
CREATE OR REPLACE FUNCTION key_text(p_value anyelement) RETURNS text LANGUAGE plpgsql STABLE
SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
BEGIN
    RETURN pg_catalog.format('%s', p_value);
END $$;

-- The columns of a table's primary key, in the key's order.
CREATE OR REPLACE FUNCTION key_of(p_relation regclass) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(attname::text ORDER BY place)
    FROM pg_index CROSS JOIN unnest(indkey) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_attribute AS a ON a.attrelid = indrelid AND a.attnum = k.attnum
    WHERE indrelid = p_relation AND indisprimary
$$;

-- The key of a row by the table's present columns; NULL if it has no key any more. For a table that was altered
-- after `track`: slower than the generated function, and it reads the whole row.
CREATE OR REPLACE FUNCTION key_of_altered(p_relation regclass, p_row record) RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_values  text := (SELECT string_agg(format('ridelake_tracking.key_text(($1).%I)', name), ', ')
                       FROM unnest(ridelake_tracking.key_of(p_relation)) AS k (name));
    v_key     jsonb;
BEGIN
    IF v_values IS NOT NULL THEN
        EXECUTE format('SELECT jsonb_build_array(%s)', v_values) INTO v_key USING p_row;
    END IF;
    RETURN v_key;
END $$;

-- Whether `track` wrote this row of `tracked` here, and the numbers of transactions have only grown since. In a
-- restored dump the row has another xmin than it had when it was written. After pg_resetwal, numbers may be ahead
-- of the server's own.
CREATE OR REPLACE FUNCTION is_current(p_relation oid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM ridelake_tracking.tracked AS t,
            LATERAL (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xmax) AS now
        WHERE relation = p_relation
          AND server = ridelake_tracking.server()
          AND written_by = t.xmin::text
          AND tx < now.xmax
          AND key = ridelake_tracking.key_of(relation)
          AND NOT EXISTS (SELECT FROM ridelake_tracking.tombstones AS d
                          WHERE d.generation = t.generation AND d.tx >= now.xmax))
$$;

-- Write the function that records the keys of one table's deleted rows, and give its name. Generated, because only
-- static SQL reads the key's columns and nothing else of the row: a row may be too large for one value, or hold what
-- no jsonb can. It has the rights of its owner, since a role that deletes a row need not be able to write here; so
-- every name in it is qualified.
CREATE OR REPLACE FUNCTION write_recorder(p_relation regclass, p_generation uuid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_key   text[] := ridelake_tracking.key_of(p_relation);
    v_name  text := 'ridelake_tracking.record_tombstone_' || replace(p_generation::text, '-', '');
    v_old   text := (SELECT string_agg(format('OLD.%I', name), ', ') FROM unnest(v_key) AS k (name));
    v_new   text := (SELECT string_agg(format('NEW.%I', name), ', ') FROM unnest(v_key) AS k (name));
    v_text  text := (SELECT string_agg(format('ridelake_tracking.key_text(OLD.%I)', name), ', ')
                     FROM unnest(v_key) AS k (name));
BEGIN
    EXECUTE format('CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS %L', v_name, format($body$
DECLARE
    v_key pg_catalog.jsonb;
BEGIN
    IF TG_OP OPERATOR(pg_catalog.<>) 'TRUNCATE' THEN
        BEGIN
            -- Compares bytes: under some collations 'a' equals 'A', and the lake has only one of them.
            IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
                IF NOT pg_catalog.record_image_ne(ROW(%s), ROW(%s)) THEN
                    RETURN NULL;
                END IF;
            END IF;
            v_key := pg_catalog.jsonb_build_array(%s);
        EXCEPTION WHEN datatype_mismatch OR undefined_column THEN
            -- A column of the key has another type than in this session's plan, or another name.
            v_key := ridelake_tracking.key_of_altered(TG_RELID, OLD);
            IF v_key IS NULL THEN
                RETURN NULL;
            END IF;
        END;
    END IF;
    INSERT INTO ridelake_tracking.tombstones (relation, generation, key) VALUES (TG_RELID, %L, v_key);
    RETURN NULL;
END $body$, v_old, v_new, v_text, p_generation));
    EXECUTE format('REVOKE ALL ON FUNCTION %s() FROM PUBLIC', v_name);
    RETURN v_name;
END $$;

-- Drop the functions of earlier generations that no trigger calls any more.
CREATE OR REPLACE FUNCTION drop_recorders() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_function  regprocedure;
BEGIN
    FOR v_function IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = 'ridelake_tracking'::regnamespace AND proname ~ '^(record_tombstone_|bury$)'
          AND pg_has_role(proowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = pg_proc.oid)
    LOOP
        EXECUTE format('DROP FUNCTION %s', v_function);
    END LOOP;
END $$;

-- Ready the table for incremental epochs. Raises feature_not_supported for what cannot be tracked.
CREATE OR REPLACE FUNCTION track(p_relation regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key      text[] := ridelake_tracking.key_of(p_relation);
    v_generation uuid := gen_random_uuid();
    v_recorder text;
    v_tx       bigint := pg_current_xact_id()::text::bigint;
    v_default  text := (SELECT coalesce(pg_get_expr(adbin, adrelid), 'none')
                        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                        WHERE attrelid = p_relation AND attname = 'tx' AND NOT attisdropped);
BEGIN
    IF (SELECT relkind <> 'r' OR relpersistence <> 'p' OR relispartition FROM pg_class WHERE oid = p_relation) THEN
        RAISE EXCEPTION '% is not a plain table of its own (but partitioned, a partition, unlogged or a view): '
            'put it into a lake without tracking, each epoch takes it whole', p_relation
            USING ERRCODE = 'feature_not_supported';
    ELSIF EXISTS (SELECT FROM pg_inherits WHERE inhparent = p_relation) THEN
        RAISE EXCEPTION '% has tables that inherit from it, whose rows no trigger of its own sees: '
            'put it into a lake without tracking, each epoch takes it whole', p_relation
            USING ERRCODE = 'feature_not_supported';
    ELSIF v_key IS NULL THEN
        RAISE EXCEPTION '% has no primary key: add one, which identifies its rows', p_relation
            USING ERRCODE = 'feature_not_supported';
    ELSIF v_default NOT LIKE '%pg_current_xact_id()%' THEN
        RAISE EXCEPTION '% has a column tx of its own: rename that, the name is needed', p_relation
            USING ERRCODE = 'feature_not_supported';
    END IF;

    -- If it was tracked before, it starts over: changes made in between were not recorded.
    DELETE FROM ridelake_tracking.tracked WHERE relation = p_relation;
    EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS tx bigint', p_relation);
    EXECUTE format('ALTER TABLE %s ALTER COLUMN tx SET DEFAULT pg_current_xact_id()::text::bigint', p_relation);

    -- ALWAYS: also for what replication or a bulk load writes, which silence the other triggers. The WHEN
    -- spares the call where the default has done it; a row that brings a number of its own is stamped over.
    -- Triggers fire in the order of their names, and after this one none may put the old number back.
    EXECUTE format('CREATE OR REPLACE TRIGGER zzz_ridelake_stamp BEFORE INSERT OR UPDATE ON %s FOR EACH ROW '
        'WHEN (NEW.tx IS DISTINCT FROM pg_current_xact_id()::text::bigint) '
        'EXECUTE FUNCTION ridelake_tracking.stamp()', p_relation);
    -- No UPDATE OF the key and no WHEN: a trigger may change the key in an update that does not name it, pg_dump does
    -- not keep the casts of a comparison of records, and a column that a trigger names cannot change its type.
    v_recorder := ridelake_tracking.write_recorder(p_relation, v_generation);
    EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_deleted AFTER DELETE ON %s FOR EACH ROW '
        'EXECUTE FUNCTION %s()', p_relation, v_recorder);
    EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_rekeyed AFTER UPDATE ON %s FOR EACH ROW '
        'EXECUTE FUNCTION %s()', p_relation, v_recorder);
    EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_truncated AFTER TRUNCATE ON %s FOR EACH STATEMENT '
        'EXECUTE FUNCTION %s()', p_relation, v_recorder);
    PERFORM ridelake_tracking.drop_recorders();
    EXECUTE (SELECT string_agg(format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', p_relation, tgname), '; ')
             FROM pg_trigger WHERE tgrelid = p_relation AND tgname ~ '^(zzz_)?ridelake_');

    -- BRIN, because it names pages and not rows: updates stay HOT. Before Postgres 16 not even BRIN let them.
    IF current_setting('server_version_num')::integer >= 160000 AND NOT EXISTS (
        SELECT FROM pg_index WHERE indrelid = p_relation AND pg_get_indexdef(indexrelid) LIKE '% USING brin (tx)%')
    THEN
        EXECUTE format('CREATE INDEX ON %s USING brin (tx) WITH (pages_per_range = 32)', p_relation);
    END IF;
    INSERT INTO ridelake_tracking.tracked (relation, key, generation, server)
    VALUES (p_relation, v_key, v_generation, ridelake_tracking.server());
    UPDATE ridelake_tracking.tracked SET written_by = xmin::text WHERE relation = p_relation;

    -- What a dump brought along, or an earlier generation left.
    DELETE FROM ridelake_tracking.tombstones AS d WHERE NOT EXISTS (
        SELECT FROM ridelake_tracking.tracked AS t WHERE t.generation = d.generation);
    UPDATE ridelake_tracking.cleared SET before_tx = v_tx WHERE before_tx > v_tx;
    INSERT INTO ridelake_tracking.cleared SELECT 0 WHERE NOT EXISTS (SELECT FROM ridelake_tracking.cleared);
END $$;

-- Remove all of it, the column and its index included; also what a dump or a dropped schema left of it. False if
-- there is nothing to remove.
CREATE OR REPLACE FUNCTION untrack(p_relation regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_triggers  text := (SELECT string_agg(format('DROP TRIGGER %I ON %s', tgname, p_relation), '; ')
                         FROM pg_trigger WHERE tgrelid = p_relation AND tgname ~ '^(zzz_)?ridelake_');
    v_has_tx    boolean := EXISTS (
        SELECT FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        WHERE adrelid = p_relation AND attname = 'tx' AND pg_get_expr(adbin, adrelid) LIKE '%pg_current_xact_id()%');
BEGIN
    DELETE FROM ridelake_tracking.tracked WHERE relation = p_relation;
    IF NOT FOUND AND v_triggers IS NULL AND NOT v_has_tx THEN
        RETURN false;
    END IF;
    EXECUTE coalesce(v_triggers, '');
    PERFORM ridelake_tracking.drop_recorders();
    EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS tx', p_relation);
    DELETE FROM ridelake_tracking.tombstones WHERE relation = p_relation;
    RETURN true;
END $$;

SET LOCAL search_path TO DEFAULT;
