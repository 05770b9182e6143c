SELECT document -> 'pickup' ->> 'city' AS city, count(*), sum((document ->> 'fare_cents')::bigint)
FROM documents GROUP BY city ORDER BY city
