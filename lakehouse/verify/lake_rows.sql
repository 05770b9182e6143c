SELECT key, record
FROM (SELECT {key} AS key, {record} AS record FROM lake)
WHERE key IN (SELECT unnest($keys::BLOB[]))
