SELECT sum(fare_cents), sum(distance_metres), sum(pickup_zone_id), sum(dropoff_zone_id) FROM rides
