-- Set the search path to the store's schema and the schemas of the tables with these oids.
SELECT set_config('search_path', concat_ws(', ', 'ridelake', string_agg(quote_ident(nspname), ', '), 'public'), false)
FROM (SELECT DISTINCT nspname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
      WHERE pg_class.oid = ANY (%s::oid[])) AS schemas
