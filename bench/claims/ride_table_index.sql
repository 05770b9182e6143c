-- A copy with a covering index for the average price: an index-only scan answers the query.
CREATE TABLE IndexedRideTable AS SELECT * FROM RideTable;
CREATE INDEX ON IndexedRideTable (City, Month) INCLUDE (Price);
