-- The lecture's table, to be filled.
CREATE TABLE RideTable (RideID bigint, Username text, DriverID bigint, City text, Month text, Price numeric(12, 2));
