-- The position of a ride in the heap, and the size of the heap and of a page.
SELECT
    split_part(trim(BOTH '()' FROM ctid::text), ',', 1)::bigint AS block,
    split_part(trim(BOTH '()' FROM ctid::text), ',', 2)::int AS number,
    pg_relation_size('ridelake.rides') AS heap_bytes,
    current_setting('block_size')::int AS page_bytes
FROM ridelake.rides
WHERE ride_id = %(ride_id)s
