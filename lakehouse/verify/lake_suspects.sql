CREATE OR REPLACE TABLE in_lake AS
SELECT key, hash
FROM (SELECT {key} AS key, ('0x' || substr(md5({record}), 1, 15))::BIGINT AS hash FROM lake)
WHERE hash & $mask::BIGINT IN (SELECT unnest($buckets::BIGINT[]))
