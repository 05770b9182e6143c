-- Tables of one type each: `ordinary_*` with values that an application writes, `hard_*` with values that Postgres allows
-- and other formats do not. Each has a NULL.

CREATE SCHEMA mover_types;

CREATE TABLE mover_types.tables (name text PRIMARY KEY, type text NOT NULL);

-- The value as Postgres writes it. NULL: not a value of the type. Trailing zeros of a number are not a difference: they are
-- removed from a numeric, and a jsonb that is equal to `p_equal` in Postgres is written as `p_equal`.
CREATE FUNCTION mover_types.as_text(p_text text, p_type text, p_equal text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_text text;
BEGIN
    EXECUTE format(CASE WHEN p_type LIKE 'numeric%' THEN 'SELECT trim_scale($1::numeric)::text'
                        ELSE 'SELECT ($1::%s)::text' END, p_type)
    INTO v_text USING p_text;
    IF p_type = 'jsonb' AND v_text::jsonb = p_equal::jsonb THEN
        RETURN p_equal;
    END IF;
    RETURN v_text;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- id → text of each value of a table.
CREATE FUNCTION mover_types.values_of(p_name text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_values jsonb;
    v_type text := (SELECT type FROM mover_types.tables WHERE name = p_name);
BEGIN
    EXECUTE format('SELECT jsonb_object_agg(id, mover_types.as_text(v::text, %L)) FROM mover_types.%I', v_type, p_name)
    INTO v_values;
    RETURN v_values;
END $$;

CREATE FUNCTION mover_types.fill(p_name text, p_type text, VARIADIC p_values text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE mover_types.%I (id integer PRIMARY KEY, v %s)', p_name, p_type);
    EXECUTE format('INSERT INTO mover_types.%I SELECT n, t::%s FROM unnest($1) WITH ORDINALITY AS v (t, n)', p_name, p_type)
    USING p_values || NULL::text;
    INSERT INTO mover_types.tables VALUES (p_name, p_type);
END $$;

SELECT mover_types.fill(name, type, VARIADIC vals) FROM (VALUES
    ('ordinary_uuid', 'uuid', ARRAY['0b8f6a3c-2f0e-4d5a-9a55-5f1c4f3f9d10', '00000000-0000-0000-0000-000000000000']),
    ('ordinary_text', 'text', ARRAY['', 'plain', E'tab\tline\nquote"''', '🚕 é', 'NULL']),
    ('ordinary_bytea', 'bytea', ARRAY['\x', '\x00ff10', '\xc3a9']),
    ('ordinary_date', 'date', ARRAY['2024-02-29', '1970-01-01', '1899-12-31']),
    ('ordinary_timestamp', 'timestamp', ARRAY['2024-02-29 23:59:59.123456', '1970-01-01 00:00:00']),
    ('ordinary_timestamptz', 'timestamptz', ARRAY['2024-02-29 23:59:59.123456+02', '1970-01-01 00:00:00Z']),
    ('ordinary_time', 'time', ARRAY['00:00:00', '12:34:56.789012', '23:59:59']),
    ('ordinary_interval', 'interval', ARRAY['1 year 2 mons 3 days 04:05:06.789', '01:00:00', '-1 days']),
    ('ordinary_money', 'numeric(12,2)', ARRAY['0.01', '-19.90', '9999999999.99']),
    ('ordinary_numeric', 'numeric', ARRAY['1.10', '0.000000000001', '12345678901234567.890123456789']),
    ('ordinary_jsonb', 'jsonb', ARRAY['{"fare": 1.10, "tags": ["a", null]}', '"text"', 'null', '[]']),
    ('ordinary_integers', 'integer[]', ARRAY['{1,2,3}', '{}', '{1,NULL,-3}']),
    ('hard_date', 'date', ARRAY['infinity', '-infinity', '0044-03-15 BC', '20000-01-01']),
    ('hard_timestamp', 'timestamp', ARRAY['infinity', '0044-03-15 12:00:00 BC', '20000-01-01 00:00:00']),
    ('hard_timestamptz', 'timestamptz', ARRAY['infinity', '-infinity', '20000-01-01 00:00:00Z']),
    ('hard_time', 'time', ARRAY['24:00:00']),
    ('hard_interval', 'interval', ARRAY['-1 years 1 day -00:00:00.000001', '178000000 years']),
    ('hard_money', 'numeric(12,2)', ARRAY['NaN', '1.00']),
    ('hard_numeric', 'numeric', ARRAY['NaN', 'Infinity', '123456789012345678901234567890123456789012345678']),
    ('hard_jsonb', 'jsonb', ARRAY['{"n": 12345678901234567890.12345}', '1e400', '0.10']),
    ('hard_integers', 'integer[]', ARRAY['{{1,2},{3,4}}', '[0:1]={5,6}'])
) AS types (name, type, vals);
