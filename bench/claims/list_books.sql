SELECT publisher, country, format, count(*), sum(price_cents)
FROM books JOIN publishers USING (publisher_id)
GROUP BY publisher, country, format ORDER BY publisher, country, format
