SELECT
    sum(fare_cents), sum(distance_metres), sum(pickup_zone_id), sum(dropoff_zone_id),
    sum(city_id), sum(ride_id), sum(rider_id), sum(driver_id)
FROM rides
