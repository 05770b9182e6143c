-- The lecture's question of every city and month: what does a ride cost there and then, on average?
SELECT City, Month, COUNT(*) AS Rides, AVG(Price) AS AveragePrice
FROM RideTable
GROUP BY City, Month
ORDER BY Rides DESC, City, Month
