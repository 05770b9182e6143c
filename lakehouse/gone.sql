-- The keys of rows that are gone since the token; there may be rows with these keys again.
SELECT DISTINCT {columns}
FROM (SELECT key FROM ridelake_tracking.tombstones
      WHERE relation = {relation} AND key IS NOT NULL
        AND (tx >= current_setting('ridelake.since_xmax')::bigint
             OR tx = ANY (current_setting('ridelake.since_xip')::bigint[]))) AS tombstone
CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, key) AS was
