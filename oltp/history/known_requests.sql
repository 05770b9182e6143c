-- Which of the asked ids have a ride.
SELECT request_id FROM asked JOIN rides USING (request_id)
