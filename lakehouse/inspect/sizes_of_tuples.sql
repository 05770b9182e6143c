-- The visible rows of one page: line pointer number, size, and null columns. Other content, such as dead versions, is
-- not included; it needs the raw page.
SELECT
    split_part(trim(BOTH '()' FROM r.ctid::text), ',', 2)::int AS number,
    pg_column_size(r) AS bytes,
    ARRAY(SELECT key FROM jsonb_each(to_jsonb(r)) WHERE value = 'null') AS nulls
FROM ridelake.rides AS r
WHERE r.ctid >= %(first)s::tid AND r.ctid < %(after)s::tid
ORDER BY r.ctid
