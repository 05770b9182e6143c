-- Whether the WAL is flushed up to %(lsn)s. At the end of a page the insert position is after the header of the next
-- page (24 bytes, 40 in a new segment), which contains no record. Without the second condition, waiting for an idle
-- server would not end.
SELECT flushed >= lsn OR (mod(flushed - '0/0', 8192) = 0 AND lsn - flushed <= 40)
FROM (SELECT pg_current_wal_flush_lsn() AS flushed, %(lsn)s::pg_lsn AS lsn) AS positions
