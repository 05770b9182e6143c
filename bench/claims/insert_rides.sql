-- A batch of rides in one statement, so in one transaction: a list for each column.
INSERT INTO RideTable SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::numeric[])
