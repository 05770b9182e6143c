-- The rides of this round are driven to their end: the holds are captured, the drivers are free again.
SELECT start_ride(ride_id) FROM rides WHERE status = 'assigned' ORDER BY ride_id;
SELECT complete_ride(ride_id, 0) FROM rides WHERE status = 'started' ORDER BY ride_id;
