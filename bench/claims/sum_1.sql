SELECT sum(fare_cents) FROM rides
