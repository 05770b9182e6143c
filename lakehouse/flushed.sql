-- Whether the log is on disk up to %(lsn)s. At the end of a page the insert position is already past the
-- header of the next one (24 bytes, 40 in a new segment), where no record can be; without that line an
-- idle server would be waited for without end.
SELECT flushed >= lsn OR (mod(flushed - '0/0', 8192) = 0 AND lsn - flushed <= 40)
FROM (SELECT pg_current_wal_flush_lsn() AS flushed, %(lsn)s::pg_lsn AS lsn) AS positions
