-- What is the average price of a ride in each city and month?
SELECT City, Month, COUNT(*) AS Rides, AVG(Price) AS AveragePrice
FROM RideTable
GROUP BY City, Month
ORDER BY Rides DESC, City, Month
