-- Reserves a block of numbers of an identity column.
SELECT array_agg(nextval(pg_get_serial_sequence(%s, %s))) FROM generate_series(1, %s)
