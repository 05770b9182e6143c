-- The rows written since the token, in their current version. The numbers are set by set_config, because COPY has no
-- parameters. A tx that this server has not reached was written on another server: the row was restored from a dump,
-- before the table was tracked here.
SELECT {columns} FROM {table}
WHERE tx >= current_setting('ridelake.since_xmax')::bigint
  AND tx < current_setting('ridelake.until_xmax')::bigint
   OR tx = ANY (current_setting('ridelake.since_xip')::bigint[])
