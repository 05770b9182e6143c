-- Ten copies of the rides, so that the start and the end of an export do not dominate.
CREATE TABLE exported_rides AS
SELECT
    ride_id, rider_id, driver_id, fare_cents, requested_at, requested_local, assigned_at, started_at, ended_at,
    gen_random_uuid() AS request_id, city_id, pickup_zone_id, dropoff_zone_id, distance_metres, status, cancel_reason
FROM rides CROSS JOIN generate_series(1, %(copies)s);
