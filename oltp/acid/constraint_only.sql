-- Added to the tables for check_then_act.sql; its statements do not change.
CREATE UNIQUE INDEX one_active_ride_per_driver ON rides (driver_id) WHERE active;
