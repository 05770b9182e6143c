SELECT publisher, country, format, count(*), sum(price_cents)
FROM flat_books
GROUP BY publisher, country, format ORDER BY publisher, country, format
