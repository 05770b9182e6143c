-- The table of the textbook's example, empty.
CREATE TABLE RideTable (RideID bigint, Username text, DriverID bigint, City text, Month text, Price numeric(12, 2));
