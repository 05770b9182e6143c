-- The candidates that already have a ride.
SELECT request_id FROM candidates JOIN rides USING (request_id)
