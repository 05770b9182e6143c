-- Added to the tables of check_then_act.sql, whose statements stay as they are.
CREATE UNIQUE INDEX one_active_ride_per_driver ON rides (driver_id) WHERE active;
