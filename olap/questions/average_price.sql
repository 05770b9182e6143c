-- What is the average price of a ride in Stanford in July?
SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'
