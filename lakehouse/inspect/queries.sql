-- name: attributes
-- The attributes of a tuple, including dropped columns, whose values are still in old rows.
SELECT
    a.attname AS name,
    CASE WHEN n.nspname = 'pg_catalog' THEN t.typname ELSE '' END AS type,
    a.attlen AS length,
    a.attalign AS alignment,
    (SELECT jsonb_object_agg(e.oid::bigint, e.enumlabel) FROM pg_enum AS e WHERE e.enumtypid = a.atttypid) AS labels,
    a.attisdropped AS dropped
FROM pg_attribute AS a
LEFT JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_namespace AS n ON n.oid = t.typnamespace
WHERE a.attrelid = 'ridelake.rides'::regclass AND a.attnum > 0
ORDER BY a.attnum

-- name: may_read_pages
-- Whether this role can read raw pages, and the schema of pageinspect if it is installed.
SELECT
    rolsuper AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pageinspect') AS may,
    (SELECT nspname FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace WHERE extname = 'pageinspect')
FROM pg_roles
WHERE rolname = current_user

-- name: place
-- The position of a ride in the heap, and the size of the heap and of a page.
SELECT
    split_part(trim(BOTH '()' FROM ctid::text), ',', 1)::bigint AS block,
    split_part(trim(BOTH '()' FROM ctid::text), ',', 2)::int AS number,
    pg_relation_size('ridelake.rides') AS heap_bytes,
    current_setting('block_size')::int AS page_bytes
FROM ridelake.rides
WHERE ride_id = %(ride_id)s

-- name: raw_page
-- The bytes of the page, and the number of pages from the root to a leaf of the primary key, inclusive.
SELECT
    get_raw_page('ridelake.rides', %(block)s) AS page,
    (SELECT m.fastlevel + 1
     FROM pg_index AS i, bt_metap(i.indexrelid::regclass::text) AS m
     WHERE i.indrelid = 'ridelake.rides'::regclass AND i.indisprimary)::int AS index_pages

-- name: sizes_of_tuples
-- The visible rows of one page: line pointer number, size, and null columns. Other content, such as dead versions, is
-- not included; it needs the raw page.
SELECT
    split_part(trim(BOTH '()' FROM r.ctid::text), ',', 2)::int AS number,
    pg_column_size(r) AS bytes,
    ARRAY(SELECT key FROM jsonb_each(to_jsonb(r)) WHERE value = 'null') AS nulls
FROM ridelake.rides AS r
WHERE r.ctid >= %(first)s::tid AND r.ctid < %(after)s::tid
ORDER BY r.ctid
