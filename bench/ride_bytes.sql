-- What the rides take in Postgres, and how many they are.
SELECT pg_relation_size('rides'), pg_indexes_size('rides'), (SELECT count(*) FROM rides)
