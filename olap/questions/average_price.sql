-- The lecture's question: what does a ride in Stanford cost in July, on average?
SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'
