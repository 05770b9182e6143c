-- Whether this role can read raw pages, and the schema of pageinspect if it is installed.
SELECT
    rolsuper AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pageinspect') AS may,
    (SELECT nspname FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace WHERE extname = 'pageinspect')
FROM pg_roles
WHERE rolname = current_user
