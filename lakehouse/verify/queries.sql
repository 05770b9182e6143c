-- name: lake_differing
-- The keys whose rows, with their number of occurrences, differ between the two sides.
CREATE OR REPLACE TABLE differing AS
SELECT DISTINCT key
FROM (SELECT key, hash, count(*) AS rows FROM in_postgres GROUP BY key, hash) AS p
FULL JOIN (SELECT key, hash, count(*) AS rows FROM in_lake GROUP BY key, hash) AS l USING (key, hash)
WHERE p.rows IS DISTINCT FROM l.rows

-- name: lake_list
-- The bytes of a list, as an array has them. The size of an array without elements is not in them.
CASE WHEN len({value}) = 0 THEN '\x00\x00\x00\x00\x00\x00\x00\x00'::BLOB || {oid}
     WHEN {value} IS NOT NULL
     THEN '\x00\x00\x00\x01'::BLOB || (len(list_filter({value}, lambda {item}: {item} IS NULL)) > 0)::INTEGER::BIT::BLOB
          || {oid} || len({value})::INTEGER::BIT::BLOB || '\x00\x00\x00\x01'::BLOB
          || unhex(array_to_string(list_transform({value}, lambda {item}: hex({sized})), '')) END

-- name: lake_rows
SELECT key, record
FROM (SELECT {key} AS key, {record} AS record FROM lake)
WHERE key IN (SELECT unnest($keys::BLOB[]))

-- name: lake_sums
SELECT hash & $mask::BIGINT AS bucket, count(*) AS rows, sum(hash) AS sum
FROM (SELECT ('0x' || substr(md5({record}), 1, 15))::BIGINT AS hash FROM lake)
GROUP BY bucket

-- name: lake_suspects
CREATE OR REPLACE TABLE in_lake AS
SELECT key, hash
FROM (SELECT {key} AS key, ('0x' || substr(md5({record}), 1, 15))::BIGINT AS hash FROM lake)
WHERE hash & $mask::BIGINT IN (SELECT unnest($buckets::BIGINT[]))

-- name: postgres_list
-- The array with each element in the form that is compared. NULL for an array that is not a list, which no lake has.
CASE WHEN cardinality({value}) = 0 OR (array_ndims({value}) = 1 AND array_lower({value}, 1) = 1)
     THEN ARRAY(SELECT {item} FROM unnest({value}) AS {name}) END

-- name: postgres_rows
-- The rows with these keys.
SELECT {key} AS key, {record} AS record FROM {table} WHERE {key} = ANY (%(keys)s::bytea[])

-- name: postgres_structs
-- The same for composites.
CASE WHEN cardinality({value}) = 0 OR (array_ndims({value}) = 1 AND array_lower({value}, 1) = 1)
     THEN ARRAY(SELECT {item} FROM generate_subscripts({value}, 1) AS {name}) END

-- name: postgres_sums
-- Number of rows and sum of their hashes, by bucket. OFFSET 0 prevents the planner from computing `hash` twice per row.
SELECT hash & %(mask)s::bigint AS bucket, count(*) AS rows, sum(hash) AS sum
FROM (SELECT ('x' || md5({record}))::bit(60)::bigint AS hash FROM {table} OFFSET 0) AS hashed
GROUP BY bucket

-- name: postgres_suspects
-- Key and hash of each row in the buckets that differ.
SELECT key, hash
FROM (
    SELECT {key} AS key, ('x' || md5({record}))::bit(60)::bigint AS hash FROM {table} OFFSET 0
) AS hashed
WHERE hash & %(mask)s::bigint = ANY (%(buckets)s::bigint[])
