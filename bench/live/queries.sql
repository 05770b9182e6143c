-- The queries of `ridelake live` about the store.

-- name: acknowledged_found
-- How many of these requests are stored.
SELECT count(*) FROM requests WHERE request_id = ANY (%(ids)s::uuid[])

-- name: changed_since
-- Whether a row of the ride store was written or deleted by a transaction that the token had not seen.
SELECT
    EXISTS (SELECT FROM ridelake_tracking.tombstones WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))
    OR EXISTS (SELECT FROM accounts WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))
    OR EXISTS (SELECT FROM cities WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))
    OR EXISTS (SELECT FROM drivers WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))
    OR EXISTS (SELECT FROM ledger WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))
    OR EXISTS (SELECT FROM payments WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))
    OR EXISTS (SELECT FROM requests WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))
    OR EXISTS (SELECT FROM riders WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))
    OR EXISTS (SELECT FROM rides WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))
    OR EXISTS (SELECT FROM zones WHERE tx >= %(xmax)s OR tx = ANY (%(xip)s::bigint[]))

-- name: covering
-- Whether the covering index exists and is complete. A build that was interrupted leaves an invalid index.
SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ridelake.live_covering')

-- name: covering_build
-- An index for the average price by city and month, whose query then reads only this index. An index-only scan also
-- needs all columns of an expression in the index, therefore requested_local.
CREATE INDEX CONCURRENTLY live_covering ON ridelake.rides (
    city_id,
    (CASE EXTRACT(MONTH FROM requested_local)
        WHEN 1 THEN 'January' WHEN 2 THEN 'February' WHEN 3 THEN 'March' WHEN 4 THEN 'April'
        WHEN 5 THEN 'May' WHEN 6 THEN 'June' WHEN 7 THEN 'July' WHEN 8 THEN 'August'
        WHEN 9 THEN 'September' WHEN 10 THEN 'October' WHEN 11 THEN 'November' ELSE 'December'
    END)
) INCLUDE (requested_local, fare_cents) WHERE status = 'completed'

-- name: covering_drop
DROP INDEX CONCURRENTLY IF EXISTS ridelake.live_covering

-- name: covering_vacuum
-- The statistics of the expression; and the visibility map, without which an index-only scan reads the heap.
VACUUM (ANALYZE) ridelake.rides

-- name: drivers_by_zone
SELECT
    zone_id,
    count(*) FILTER (WHERE status = 'available') AS available,
    count(*) FILTER (WHERE status = 'busy') AS busy
FROM drivers
GROUP BY zone_id
ORDER BY zone_id

-- name: is_at_snapshot
SELECT pg_current_snapshot()::text = %(snapshot)s

-- name: newest_ride
SELECT max(ride_id) FROM rides

-- name: prepare
-- Installs pageinspect, which only this program needs, to read the bytes of a page. Dropped by `restore`.
CREATE SCHEMA IF NOT EXISTS ridelake_live;
CREATE EXTENSION IF NOT EXISTS pageinspect SCHEMA ridelake_live;

-- name: restore
-- Undoes everything that this program may have changed, even if it was killed.
SET lock_timeout = '500ms';
DROP INDEX IF EXISTS ridelake.live_covering;
DO $$
BEGIN
    -- An interrupted build or drop leaves an invalid index, which no query uses.
    IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('ridelake.drivers_by_stand') AND NOT indisvalid) THEN
        DROP INDEX ridelake.drivers_by_stand;
    END IF;
END
$$;
CREATE INDEX IF NOT EXISTS drivers_by_stand ON ridelake.drivers (city_id, zone_id);
DROP SCHEMA IF EXISTS ridelake_live CASCADE;
RESET lock_timeout;

-- name: rides_since
-- The number of rides after this one.
SELECT count(*), max(ride_id) FROM rides WHERE ride_id > %(ride_id)s

-- name: stand_index
-- Whether the index exists and is complete.
SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('ridelake.drivers_by_stand') AND indisvalid)

-- name: stand_index_build
CREATE INDEX CONCURRENTLY IF NOT EXISTS drivers_by_stand ON ridelake.drivers (city_id, zone_id)

-- name: stand_index_drop
DROP INDEX CONCURRENTLY IF EXISTS ridelake.drivers_by_stand

-- name: tables_bytes
-- The bytes of these tables: heaps, indexes and everything else.
SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class AS c WHERE c.oid = ANY (%(relations)s::oid[])

-- name: tracked
-- Whether all of these tables are tracked.
SELECT count(*) = cardinality(%(relations)s::oid[]) FROM ridelake_tracking.tracked WHERE relation = ANY (%(relations)s::oid[])
