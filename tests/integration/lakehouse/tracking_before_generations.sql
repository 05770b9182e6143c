-- Tracking of an older version, for tests of the upgrade. Every row version has the id of its transaction, and the
-- key of every deleted row is recorded. Functions: `track` a table, `untrack` it.
--
-- The column tx is not xmin: after a savepoint, xmin is the id of a subtransaction, which snapshots do not have.

CREATE SCHEMA ridelake_tracking;
SET LOCAL search_path = ridelake_tracking;

-- The tracked tables. Changes before the commit of `tx` may lack a transaction id.
CREATE TABLE tracked (
    relation  oid PRIMARY KEY,
    tx        bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    key       text[] NOT NULL  -- the columns that the triggers record
);

-- The keys of deleted rows as {"column": value}. Without a key: all rows of the table.
CREATE TABLE tombstones (
    relation  oid NOT NULL,
    key       jsonb,
    tx        bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint
);
CREATE INDEX ON tombstones (tx);

-- Tombstones of transactions before this one may be deleted. A lake that has not read them must copy all rows.
CREATE TABLE cleared (before_tx bigint NOT NULL);
INSERT INTO cleared VALUES (0);

CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tx := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;

-- SECURITY DEFINER: deleting a row must not require INSERT on tombstones. Floats are recorded with all digits,
-- independent of the settings of the session.
CREATE FUNCTION bury() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = ridelake_tracking, pg_temp SET extra_float_digits = 1 AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO tombstones (relation) VALUES (TG_RELID);
    ELSE
        INSERT INTO tombstones (relation, key)
        SELECT TG_RELID, jsonb_object_agg(name, to_jsonb(OLD) -> name) FROM unnest(TG_ARGV) AS key (name);
    END IF;
    RETURN NULL;
END $$;

-- The columns of the primary key, in the order of the key.
CREATE FUNCTION key_of(p_relation regclass) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(attname::text ORDER BY place)
    FROM pg_index CROSS JOIN unnest(indkey) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_attribute AS a ON a.attrelid = indrelid AND a.attnum = k.attnum
    WHERE indrelid = p_relation AND indisprimary
$$;

-- Track a table. Raises feature_not_supported if it cannot be tracked.
CREATE FUNCTION track(p_relation regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key      text[] := ridelake_tracking.key_of(p_relation);
    v_old      text := (SELECT string_agg(format('OLD.%I', name), ', ') FROM unnest(v_key) AS k (name));
    v_new      text := (SELECT string_agg(format('NEW.%I', name), ', ') FROM unnest(v_key) AS k (name));
    v_names    text := (SELECT string_agg(quote_literal(name), ', ') FROM unnest(v_key) AS k (name));
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
        RAISE EXCEPTION '% has no primary key: add one, so that its rows can be told apart', p_relation
            USING ERRCODE = 'feature_not_supported';
    ELSIF v_default NOT LIKE '%pg_current_xact_id()%' THEN
        RAISE EXCEPTION '% has a column tx of its own: rename that, the name is needed', p_relation
            USING ERRCODE = 'feature_not_supported';
    END IF;

    -- If the table was tracked before, its tracking starts again, because changes may have been missed.
    DELETE FROM ridelake_tracking.tracked WHERE relation = p_relation;
    EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS tx bigint', p_relation);
    EXECUTE format('ALTER TABLE %s ALTER COLUMN tx SET DEFAULT pg_current_xact_id()::text::bigint', p_relation);

    -- ALWAYS: the triggers also fire for replication and bulk loads. WHEN skips the call if the default has set
    -- tx. Triggers fire in the order of their names, and no later one may restore the old value.
    EXECUTE format('CREATE OR REPLACE TRIGGER zzz_ridelake_stamp BEFORE INSERT OR UPDATE ON %s FOR EACH ROW '
        'WHEN (NEW.tx IS DISTINCT FROM pg_current_xact_id()::text::bigint) '
        'EXECUTE FUNCTION ridelake_tracking.stamp()', p_relation);
    EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_deleted AFTER DELETE ON %s FOR EACH ROW '
        'EXECUTE FUNCTION ridelake_tracking.bury(%s)', p_relation, v_names);
    -- Not UPDATE OF the key, because a trigger may change the key in any update. *<> compares bytes, because some
    -- collations treat 'a' and 'A' as the same key.
    EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_rekeyed AFTER UPDATE ON %s FOR EACH ROW '
        'WHEN (ROW(%s)::record *<> ROW(%s)::record) EXECUTE FUNCTION ridelake_tracking.bury(%s)',
        p_relation, v_old, v_new, v_names);
    EXECUTE format('CREATE OR REPLACE TRIGGER ridelake_truncated AFTER TRUNCATE ON %s FOR EACH STATEMENT '
        'EXECUTE FUNCTION ridelake_tracking.bury()', p_relation);
    EXECUTE (SELECT string_agg(format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', p_relation, tgname), '; ')
             FROM pg_trigger WHERE tgrelid = p_relation AND tgname ~ '^(zzz_)?ridelake_');

    -- A BRIN index does not prevent HOT updates, since Postgres 16.
    IF current_setting('server_version_num')::integer >= 160000 AND NOT EXISTS (
        SELECT FROM pg_index WHERE indrelid = p_relation AND pg_get_indexdef(indexrelid) LIKE '% USING brin (tx)%')
    THEN
        EXECUTE format('CREATE INDEX ON %s USING brin (tx) WITH (pages_per_range = 32)', p_relation);
    END IF;
    INSERT INTO ridelake_tracking.tracked (relation, key) VALUES (p_relation, v_key);
END $$;

-- Remove the triggers, the column and its index.
CREATE FUNCTION untrack(p_relation regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM ridelake_tracking.tracked WHERE relation = p_relation;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE (SELECT coalesce(string_agg(format('DROP TRIGGER %I ON %s', tgname, p_relation), '; '), '')
             FROM pg_trigger WHERE tgrelid = p_relation AND tgname ~ '^(zzz_)?ridelake_');
    EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS tx', p_relation);
    DELETE FROM ridelake_tracking.tombstones WHERE relation = p_relation;
    RETURN true;
END $$;

SET LOCAL search_path TO DEFAULT;
