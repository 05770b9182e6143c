-- Bytes and number of the rides in Postgres.
SELECT pg_relation_size('rides'), pg_indexes_size('rides'), (SELECT count(*) FROM rides)
