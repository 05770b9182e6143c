-- Insert a batch of rides in one statement: an array for each column.
INSERT INTO RideTable SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::numeric[])
