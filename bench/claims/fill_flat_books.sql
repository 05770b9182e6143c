INSERT INTO flat_books
SELECT book_id, title, author, format, publisher, country, price_cents
FROM books JOIN publishers USING (publisher_id) ORDER BY book_id
