-- The rows written since the token, as they are now. The numbers are bound by set_config, because COPY, which
-- this is sent by, takes no values. A number that this server has not reached is of another server's history: the row
-- came with a dump, and was here when tracking began.
SELECT {columns} FROM {table}
WHERE tx >= current_setting('ridelake.since_xmax')::bigint
  AND tx < current_setting('ridelake.until_xmax')::bigint
   OR tx = ANY (current_setting('ridelake.since_xip')::bigint[])
