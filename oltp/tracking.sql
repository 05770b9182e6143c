-- Change tracking for incremental epochs: every row version records the transaction that wrote it (column `tx`),
-- and the key of every deleted row is recorded. `track` and `untrack` work for the tables of the store and for any
-- other table. docs/lake.md has the proof, and describes the effect of a dump, a copy and an upgrade.
--
-- A separate column instead of xmin: under a savepoint, xmin is the id of a subtransaction, which no snapshot lists.
--
-- This file also upgrades an older version, so every statement can be run again. It locks no user table: each table
-- is upgraded by its next `track`, in a separate transaction.

SET LOCAL search_path = ridelake_tracking;

-- The tracked tables. Rows that were changed before `tx` committed need no `tx`.
CREATE TABLE IF NOT EXISTS tracked (
    relation  oid PRIMARY KEY,
    tx        bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    key       text[] NOT NULL  -- the columns that the triggers record; the table may have another key since
);

-- `generation` is new at each `track`; tombstones of an earlier generation are ignored. `server` and `written_by`
-- distinguish a row that `track` wrote from one that was restored from a dump: see `is_current`.
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

-- Tombstones of transactions before this one may have been removed. A lake that has not read them must copy the
-- whole table.
CREATE TABLE IF NOT EXISTS cleared (before_tx bigint NOT NULL);

-- The server's system identifier; empty if the owner may not read it. SECURITY DEFINER, so that all roles get the
-- same result.
CREATE OR REPLACE FUNCTION server() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(CASE WHEN has_function_privilege('pg_control_system()', 'execute')
                         THEN (SELECT system_identifier::text FROM pg_control_system()) END, '')
$$;

-- Names are qualified, because the function runs with the search path of the session that writes the row.
CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tx := pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8;
    RETURN NEW;
END $$;

-- One value of a key as text that can be read back exactly, independent of the session's settings. format() calls
-- the type's output function, not a user-defined cast.
CREATE OR REPLACE FUNCTION key_text_of_settings(p_value anyelement) RETURNS text LANGUAGE plpgsql STABLE
SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
BEGIN
    RETURN pg_catalog.format('%s', p_value);
END $$;

-- The same without a call for types whose text does not depend on settings, because this function is inlined. The type
-- is compared at run time: the column may have another one than when the table was tracked.
CREATE OR REPLACE FUNCTION key_text(p_value anyelement) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN pg_catalog.pg_typeof(p_value) OPERATOR(pg_catalog.=) ANY ('{pg_catalog.int2, pg_catalog.int4,
                    pg_catalog.int8, pg_catalog.text, pg_catalog.varchar, pg_catalog.bpchar, pg_catalog.uuid,
                    pg_catalog.bool, pg_catalog.numeric}'::pg_catalog.regtype[])
                THEN pg_catalog.format('%s', p_value)
                ELSE ridelake_tracking.key_text_of_settings(p_value) END
$$;

-- The columns of a table's primary key, in the key's order; without one, those of the first unique index whose columns
-- are not nullable.
CREATE OR REPLACE FUNCTION key_of(p_relation regclass) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(attname::text ORDER BY place)
    FROM (
        SELECT indkey, indnkeyatts FROM pg_index
        WHERE indrelid = p_relation AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
          AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = p_relation AND NOT attnotnull
                            AND attnum = ANY (indkey[:indnkeyatts - 1]))
        ORDER BY indisprimary DESC, indnkeyatts, indexrelid
        LIMIT 1
    ) AS chosen
    CROSS JOIN unnest(indkey) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_attribute AS a ON a.attrelid = p_relation AND a.attnum = k.attnum
    WHERE place <= indnkeyatts
$$;

-- The leaf partitions of a partitioned table, on all levels. Read from pg_inherits: pg_partition_tree() would show the
-- current partitions, not those of the snapshot.
CREATE OR REPLACE FUNCTION partitions_of(p_relation oid) RETURNS SETOF oid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE tree AS (
        SELECT inhrelid FROM pg_inherits WHERE inhparent = p_relation AND NOT inhdetachpending
        UNION ALL
        SELECT i.inhrelid FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.inhrelid AND NOT inhdetachpending
    )
    SELECT oid FROM tree JOIN pg_class ON oid = inhrelid WHERE relkind <> 'p'
$$;

-- The expressions of the current key of a table, as text; NULL if it has none. `p_row`: the row in SQL.
CREATE OR REPLACE FUNCTION key_texts(p_relation regclass, p_row text) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('ridelake_tracking.key_text(%s.%I)', p_row, name), ', ')
    FROM unnest(ridelake_tracking.key_of(p_relation)) AS k (name)
$$;

-- The key of a row, by the current key of the table; NULL if the table has none. For a table that was altered
-- after `track`. Slower than the generated function; reads the whole row.
CREATE OR REPLACE FUNCTION key_of_altered(p_relation regclass, p_row record) RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_values  text := ridelake_tracking.key_texts(p_relation, '($1)');
    v_key     jsonb;
BEGIN
    IF v_values IS NOT NULL THEN
        EXECUTE format('SELECT jsonb_build_array(%s)', v_values) INTO v_key USING p_row;
    END IF;
    RETURN v_key;
END $$;

-- Whether `track` wrote this row of `tracked` on this server, and transaction ids have only increased since. In a
-- restored dump the row has another xmin than when it was written. After pg_resetwal, recorded ids may be ahead of
-- the server's counter.
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

-- Creates the function that records the keys of one table's deleted rows, and returns its name. It is generated,
-- because static SQL reads only the columns of the key: a whole row may be too large for one value, or contain values
-- that jsonb cannot represent. SECURITY DEFINER: deleting a row must not require INSERT on tombstones. Therefore every
-- name in it is qualified.
CREATE OR REPLACE FUNCTION write_recorder(p_relation regclass, p_generation uuid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_key   text[] := ridelake_tracking.key_of(p_relation);
    v_name  text := 'ridelake_tracking.record_tombstone_' || replace(p_generation::text, '-', '');
    v_old   text := (SELECT string_agg(format('OLD.%I', name), ', ') FROM unnest(v_key) AS k (name));
    v_new   text := (SELECT string_agg(format('NEW.%I', name), ', ') FROM unnest(v_key) AS k (name));
    v_text  text := (SELECT string_agg(format('ridelake_tracking.key_text(OLD.%I)', name), ', ')
                     FROM unnest(v_key) AS k (name));
    v_columns text := (SELECT string_agg(format('d.%I', name), ', ') FROM unnest(v_key) AS k (name));
    v_texts text := ridelake_tracking.key_texts(p_relation, 'd');
BEGIN
    EXECUTE format('CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS %L', v_name, format($body$
DECLARE
    v_key   pg_catalog.jsonb;
    v_texts pg_catalog.text;
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'DELETE' AND TG_LEVEL OPERATOR(pg_catalog.=) 'STATEMENT' THEN
        BEGIN  -- it does not write, so the subtransaction gets no ID
            PERFORM %s FROM ridelake_deleted_rows AS d LIMIT 0;
        EXCEPTION WHEN datatype_mismatch OR undefined_column THEN
            v_texts := ridelake_tracking.key_texts(TG_RELID, 'd');
            IF v_texts IS NOT NULL THEN
                EXECUTE pg_catalog.format('INSERT INTO ridelake_tracking.tombstones (relation, generation, key) '
                    'SELECT $1, $2, pg_catalog.jsonb_build_array(%%s) FROM ridelake_deleted_rows AS d', v_texts)
                    USING TG_RELID, %L::pg_catalog.uuid;
            END IF;
            RETURN NULL;
        END;
        INSERT INTO ridelake_tracking.tombstones (relation, generation, key)
        SELECT TG_RELID, %L, pg_catalog.jsonb_build_array(%s) FROM ridelake_deleted_rows AS d;
        RETURN NULL;
    ELSIF TG_OP OPERATOR(pg_catalog.<>) 'TRUNCATE' THEN
        BEGIN
            -- Compares bytes: under some collations 'a' equals 'A', but the lake must distinguish them.
            IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
                IF NOT pg_catalog.record_image_ne(ROW(%s), ROW(%s)) THEN
                    RETURN NULL;
                END IF;
            END IF;
            v_key := pg_catalog.jsonb_build_array(%s);
        EXCEPTION WHEN datatype_mismatch OR undefined_column THEN
            -- A column of the key has been renamed, or has another type than in this session's plan.
            v_key := ridelake_tracking.key_of_altered(TG_RELID, OLD);
            IF v_key IS NULL THEN
                RETURN NULL;
            END IF;
        END;
    END IF;
    INSERT INTO ridelake_tracking.tombstones (relation, generation, key) VALUES (TG_RELID, %L, v_key);
    RETURN NULL;
END $body$, v_columns, p_generation, p_generation, v_texts, v_old, v_new, v_text, p_generation));
    EXECUTE format('REVOKE ALL ON FUNCTION %s() FROM PUBLIC', v_name);
    RETURN v_name;
END $$;

-- Drops the functions of earlier generations that no trigger uses.
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

-- Removes the rows of dropped tables. It reads the catalog only, and locks no other table.
CREATE OR REPLACE FUNCTION forget_dropped() RETURNS void LANGUAGE sql AS $$
    DELETE FROM ridelake_tracking.tracked WHERE relation NOT IN (SELECT oid FROM pg_class)
$$;

-- Prepares a table for incremental epochs. Raises feature_not_supported for a relation that cannot be tracked.
CREATE OR REPLACE FUNCTION track(p_relation regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key      text[] := ridelake_tracking.key_of(p_relation);
    v_generation uuid := gen_random_uuid();
    v_is_partitioned boolean := (SELECT relkind = 'p' FROM pg_class WHERE oid = p_relation);
    v_bytes    bigint := (SELECT max(pg_relation_size(oid)) FROM pg_class
                          WHERE oid = p_relation OR oid IN (SELECT ridelake_tracking.partitions_of(p_relation)));
    v_recorder text;
    v_tx       bigint := pg_current_xact_id()::text::bigint;
    v_old_index text;
    v_default  text := (SELECT coalesce(pg_get_expr(adbin, adrelid), 'none')
                        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                        WHERE attrelid = p_relation AND attname = 'tx' AND NOT attisdropped);
    v_other_tx text := (SELECT min(quote_ident(attname)) FROM pg_attribute
                        WHERE attrelid = p_relation AND lower(attname) = 'tx' AND attname <> 'tx' AND NOT attisdropped);
BEGIN
    IF (SELECT relispartition FROM pg_class WHERE oid = p_relation) THEN
        RAISE EXCEPTION '% cannot be tracked, because it is a partition; track the partitioned table', p_relation
            USING ERRCODE = 'feature_not_supported';
    ELSIF (SELECT relkind NOT IN ('r', 'p') OR relpersistence <> 'p' FROM pg_class WHERE oid = p_relation)
        OR EXISTS (SELECT FROM pg_class WHERE oid IN (SELECT ridelake_tracking.partitions_of(p_relation))
                     AND (relkind <> 'r' OR relpersistence <> 'p'))
    THEN
        RAISE EXCEPTION '% cannot be tracked, because it is unlogged, not a table, or has such a partition; '
            'add it to a lake without tracking, then each epoch copies it whole', p_relation
            USING ERRCODE = 'feature_not_supported';
    ELSIF NOT v_is_partitioned AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = p_relation) THEN
        RAISE EXCEPTION '% cannot be tracked, because other tables inherit from it and its triggers do not see '
            'their rows; add it to a lake without tracking, then each epoch copies it whole', p_relation
            USING ERRCODE = 'feature_not_supported';
    ELSIF v_key IS NULL THEN
        RAISE EXCEPTION '% has no primary key, so it cannot be tracked; add one (or a unique index on columns that '
            'are NOT NULL)', p_relation
            USING ERRCODE = 'feature_not_supported';
    ELSIF v_default NOT LIKE '%pg_current_xact_id()%' THEN
        RAISE EXCEPTION '% already has a column tx, which tracking needs; rename that column', p_relation
            USING ERRCODE = 'feature_not_supported';
    ELSIF v_other_tx IS NOT NULL THEN
        RAISE EXCEPTION '% has a column %, and tracking needs a column tx; names in a lake must differ in more than '
            'case: rename that column', p_relation, v_other_tx
            USING ERRCODE = 'feature_not_supported';
    END IF;

    -- A table that was tracked before starts again: changes in between were not recorded.
    DELETE FROM ridelake_tracking.tracked WHERE relation = p_relation;
    PERFORM ridelake_tracking.forget_dropped();
    EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS tx bigint', p_relation);
    EXECUTE format('ALTER TABLE %s ALTER COLUMN tx SET DEFAULT pg_current_xact_id()::text::bigint', p_relation);

    -- ALWAYS: also for rows written by replication or with session_replication_role = replica, which disables other
    -- triggers. The WHEN avoids the call if the default has set the value; any other value is overwritten. Triggers
    -- fire in the order of their names; the prefix zzz makes this one the last.
    EXECUTE format('CREATE OR REPLACE TRIGGER zzz_ridelake_stamp BEFORE INSERT OR UPDATE ON %s FOR EACH ROW '
        'WHEN (NEW.tx IS DISTINCT FROM pg_current_xact_id()::text::bigint) '
        'EXECUTE FUNCTION ridelake_tracking.stamp()', p_relation);
    -- No UPDATE OF and no WHEN: a trigger may change the key in an update that does not name it, pg_dump does not
    -- preserve the casts of a record comparison, and a column that a trigger names cannot change its type.
    v_recorder := ridelake_tracking.write_recorder(p_relation, v_generation);
    -- A trigger for each statement costs a sixth of one for each row. It does not fire for rows that logical replication
    -- deletes, so another trigger records those. Both fire in a session with the role replica; a key may be recorded
    -- twice. It does not fire either for a DELETE of a parent of the table.
    IF v_is_partitioned OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = p_relation) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS ridelake_replicated ON %s', p_relation);
        EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_deleted AFTER DELETE ON %s FOR EACH ROW '
            'EXECUTE FUNCTION %s()', p_relation, v_recorder);
    ELSE
        EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_deleted AFTER DELETE ON %s REFERENCING OLD TABLE AS '
            'ridelake_deleted_rows FOR EACH STATEMENT EXECUTE FUNCTION %s()', p_relation, v_recorder);
        EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_replicated AFTER DELETE ON %s FOR EACH ROW '
            'EXECUTE FUNCTION %s()', p_relation, v_recorder);
    END IF;
    EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_rekeyed AFTER UPDATE ON %s FOR EACH ROW '
        'EXECUTE FUNCTION %s()', p_relation, v_recorder);
    EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_truncated AFTER TRUNCATE ON %s FOR EACH STATEMENT '
        'EXECUTE FUNCTION %s()', p_relation, v_recorder);
    PERFORM ridelake_tracking.drop_recorders();
    -- Of a partitioned table, Postgres clones the row triggers for each partition, also for one that is attached later.
    EXECUTE (SELECT string_agg(format('ALTER TABLE %s ENABLE %s TRIGGER %I', p_relation,
                 CASE WHEN tgname = 'ridelake_replicated' THEN 'REPLICA' ELSE 'ALWAYS' END, tgname), '; ')
             FROM pg_trigger WHERE tgrelid = p_relation AND tgname ~ '^(zzz_)?ridelake_');

    -- BRIN, so that updates stay HOT. Before Postgres 16 a BRIN index also prevented HOT updates. The maximum of a range
    -- only grows. With one page per range, an epoch reads exactly the pages that were written since the last epoch; with
    -- more, updates of random rows make it read the whole table. Older versions created 32 pages per range. A table of
    -- more than 4 GB gets more pages per range, because each epoch reads the whole index.
    SELECT string_agg(format('DROP INDEX %s', indexrelid::regclass), '; ') INTO v_old_index
    FROM pg_index
    WHERE indrelid = p_relation AND pg_get_indexdef(indexrelid) LIKE '% USING brin (tx) WITH (pages_per_range=''32'')';
    EXECUTE coalesce(v_old_index, '');
    IF current_setting('server_version_num')::integer >= 160000 AND NOT EXISTS (
        SELECT FROM pg_index WHERE indrelid = p_relation AND pg_get_indexdef(indexrelid) LIKE '% USING brin (tx)%')
    THEN
        EXECUTE format('CREATE INDEX ON %s USING brin (tx) WITH (pages_per_range = %s)', p_relation,
            greatest(1, least(31, v_bytes / (4::bigint << 30))));
    END IF;
    INSERT INTO ridelake_tracking.tracked (relation, key, generation, server)
    VALUES (p_relation, v_key, v_generation, ridelake_tracking.server());
    UPDATE ridelake_tracking.tracked SET written_by = xmin::text WHERE relation = p_relation;

    -- Tombstones that were restored from a dump, or belong to an earlier generation.
    DELETE FROM ridelake_tracking.tombstones AS d WHERE NOT EXISTS (
        SELECT FROM ridelake_tracking.tracked AS t WHERE t.generation = d.generation);
    UPDATE ridelake_tracking.cleared SET before_tx = v_tx WHERE before_tx > v_tx;
    INSERT INTO ridelake_tracking.cleared SELECT 0 WHERE NOT EXISTS (SELECT FROM ridelake_tracking.cleared);
END $$;

-- Removes the tracking of a table, including the column and its index; also what a dump or a dropped schema left of it.
-- Returns false if there is nothing to remove.
CREATE OR REPLACE FUNCTION untrack(p_relation regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_triggers  text := (SELECT string_agg(format('DROP TRIGGER %I ON %s', tgname, p_relation), '; ')
                         FROM pg_trigger WHERE tgrelid = p_relation AND tgname ~ '^(zzz_)?ridelake_');
    v_generation uuid;
    v_has_tx    boolean := EXISTS (
        SELECT FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        WHERE adrelid = p_relation AND attname = 'tx' AND pg_get_expr(adbin, adrelid) LIKE '%pg_current_xact_id()%');
BEGIN
    DELETE FROM ridelake_tracking.tracked WHERE relation = p_relation RETURNING generation INTO v_generation;
    IF NOT FOUND AND v_triggers IS NULL AND NOT v_has_tx THEN
        RETURN false;
    END IF;
    EXECUTE coalesce(v_triggers, '');
    PERFORM ridelake_tracking.forget_dropped();
    PERFORM ridelake_tracking.drop_recorders();
    EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS tx', p_relation);
    DELETE FROM ridelake_tracking.tombstones WHERE relation = p_relation OR generation = v_generation;
    RETURN true;
END $$;

-- The version of this file, which `track` and `untrack` compare. Increment it with each change.
COMMENT ON FUNCTION track(regclass) IS 'version 3';

SET LOCAL search_path TO DEFAULT;
