-- Rides with their payment, rider, driver and zones: as tables, and as one document per ride.
CREATE TABLE rides AS
    SELECT ride_id, rider_id, driver_id, fare_cents, pickup_zone_id, dropoff_zone_id, distance_metres, status,
           requested_at
    FROM ridelake.rides;
CREATE TABLE payments AS SELECT ride_id, captured_cents, tip_cents, status FROM ridelake.payments;
CREATE TABLE riders AS SELECT rider_id, username FROM ridelake.riders;
CREATE TABLE drivers AS SELECT driver_id, name FROM ridelake.drivers;
CREATE TABLE zones AS
    SELECT zone_id, zones.name AS zone, cities.name AS city
    FROM ridelake.zones JOIN ridelake.cities USING (city_id);
ALTER TABLE rides ADD PRIMARY KEY (ride_id);
ALTER TABLE payments ADD PRIMARY KEY (ride_id);
ALTER TABLE riders ADD PRIMARY KEY (rider_id);
ALTER TABLE drivers ADD PRIMARY KEY (driver_id);
ALTER TABLE zones ADD PRIMARY KEY (zone_id);
CREATE TABLE documents AS
    SELECT ride_id, jsonb_build_object(
        'fare_cents', fare_cents, 'distance_metres', distance_metres, 'status', rides.status,
        'requested_at', requested_at,
        'payment', jsonb_build_object(
            'captured_cents', captured_cents, 'tip_cents', tip_cents, 'status', payments.status),
        'rider', jsonb_build_object('rider_id', rider_id, 'username', username),
        'driver', jsonb_build_object('driver_id', driver_id, 'name', drivers.name),
        'pickup', jsonb_build_object('zone', pickup.zone, 'city', pickup.city),
        'dropoff', jsonb_build_object('zone', dropoff.zone, 'city', dropoff.city)
    ) AS document
    FROM rides JOIN payments USING (ride_id) JOIN riders USING (rider_id) JOIN drivers USING (driver_id)
    JOIN zones AS pickup ON pickup.zone_id = pickup_zone_id
    JOIN zones AS dropoff ON dropoff.zone_id = dropoff_zone_id;
ALTER TABLE documents ADD PRIMARY KEY (ride_id);
