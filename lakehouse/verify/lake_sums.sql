SELECT hash & $mask::BIGINT AS bucket, count(*) AS rows, sum(hash) AS sum
FROM (SELECT ('0x' || substr(md5({record}), 1, 15))::BIGINT AS hash FROM lake)
GROUP BY bucket
