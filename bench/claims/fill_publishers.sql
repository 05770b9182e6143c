INSERT INTO publishers
SELECT number, CASE number WHEN 0 THEN 'Banana Press' ELSE 'Press ' || number END,
       (ARRAY['UK', 'US', 'DE', 'FR'])[1 + number %% 4]
FROM generate_series(0, %(publishers)s - 1) AS number
