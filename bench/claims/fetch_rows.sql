SELECT fare_cents, distance_metres, rides.status, requested_at,
       captured_cents, tip_cents, payments.status,
       rider_id, username, driver_id, drivers.name,
       pickup.zone, pickup.city, dropoff.zone, dropoff.city
FROM rides JOIN payments USING (ride_id) JOIN riders USING (rider_id) JOIN drivers USING (driver_id)
JOIN zones AS pickup ON pickup.zone_id = pickup_zone_id
JOIN zones AS dropoff ON dropoff.zone_id = dropoff_zone_id
WHERE ride_id = %(ride_id)s
