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
