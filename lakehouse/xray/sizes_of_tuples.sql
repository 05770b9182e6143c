-- The rows of one page that this transaction sees: their numbers in it, how long each is, and what of it is
-- null. What there is besides, dead versions above all, only the page itself would tell.
SELECT
    split_part(trim(BOTH '()' FROM r.ctid::text), ',', 2)::int AS number,
    pg_column_size(r) AS bytes,
    ARRAY(SELECT key FROM jsonb_each(to_jsonb(r)) WHERE value = 'null') AS nulls
FROM ridelake.rides AS r
WHERE r.ctid >= %(first)s::tid AND r.ctid < %(after)s::tid
ORDER BY r.ctid
