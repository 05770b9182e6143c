-- Completes the rides of this round: captures the holds and makes the drivers available.
SELECT start_ride(ride_id) FROM rides WHERE status = 'assigned' ORDER BY ride_id;
SELECT complete_ride(ride_id, 0) FROM rides WHERE status = 'started' ORDER BY ride_id;
