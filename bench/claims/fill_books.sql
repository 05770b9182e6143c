INSERT INTO books
SELECT number, 'Title ' || number / 2, 'Author ' || number / 10, (ARRAY['Paperback', 'E-book'])[1 + number %% 2],
       number %% %(publishers)s, 1000 + number * 7919 %% 2000
FROM generate_series(1, %(books)s) AS number
