SELECT City, Month, count(*), avg(Price) FROM rides GROUP BY City, Month ORDER BY City, Month
