-- The rows written since the token, as they are now. The numbers are bound by set_config, because COPY, which
-- this is sent by, takes no values.
SELECT {columns} FROM {table}
WHERE tx >= current_setting('ridelake.since_xmax')::bigint
   OR tx = ANY (current_setting('ridelake.since_xip')::bigint[])
