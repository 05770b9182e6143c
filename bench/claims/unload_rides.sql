COPY (
    SELECT
        ride_id, rider_id, driver_id, fare_cents, requested_at, requested_local, assigned_at, started_at,
        ended_at, request_id, city_id, pickup_zone_id, dropoff_zone_id, distance_metres, status, cancel_reason
    FROM rides
) TO STDOUT (FORMAT csv, HEADER)
