-- name: ask_schema
SELECT City, Month, count(*), avg(Price) FROM rides GROUP BY City, Month ORDER BY City, Month

-- name: ask_trips
SELECT hour(pickup) AS hour, count(*) AS trips, avg(fare_cents) / 100 AS average_price
FROM trips GROUP BY hour ORDER BY hour

-- name: books
-- Books in two models: with a table of publishers, and with the publisher in each book.
CREATE TABLE publishers (publisher_id integer PRIMARY KEY, publisher text NOT NULL UNIQUE, country text NOT NULL);
CREATE TABLE books (
    book_id       integer PRIMARY KEY,
    title         text NOT NULL,
    author        text NOT NULL,
    format        text NOT NULL,
    publisher_id  integer NOT NULL REFERENCES publishers,
    price_cents   integer NOT NULL
);
CREATE INDEX ON books (publisher_id);
CREATE TABLE flat_books (
    book_id      integer PRIMARY KEY,
    title        text NOT NULL,
    author       text NOT NULL,
    format       text NOT NULL,
    publisher    text NOT NULL,
    country      text NOT NULL,
    price_cents  integer NOT NULL
);
CREATE INDEX ON flat_books (publisher);

-- name: born_in
WITH RECURSIVE inside AS (
    SELECT place_id FROM places WHERE name = $1
    UNION ALL
    SELECT places.place_id FROM places JOIN inside ON places.within_id = inside.place_id
)
SELECT count(*) FROM people JOIN inside ON born_in_id = place_id

-- name: clean_trips
-- Convert text to trips. The rules are those of oltp/ingest/tlc/rules.py that concern a single row; duplicates are removed.
WITH typed AS (
    SELECT
        VendorID AS vendor,
        TRY_CAST(tpep_pickup_datetime AS TIMESTAMP) AS pickup,
        TRY_CAST(tpep_dropoff_datetime AS TIMESTAMP) AS dropoff,
        TRY_CAST(PULocationID AS INTEGER) AS pickup_zone,
        TRY_CAST(DOLocationID AS INTEGER) AS dropoff_zone,
        CAST(round(TRY_CAST(trip_distance AS DOUBLE) * 1609.344) AS BIGINT) AS distance_metres,
        CAST(round(TRY_CAST(total_amount AS DECIMAL(12, 2)) * 100) AS BIGINT)
            - CAST(round(TRY_CAST(tip_amount AS DECIMAL(12, 2)) * 100) AS BIGINT) AS fare_cents,
        CAST(round(TRY_CAST(tip_amount AS DECIMAL(12, 2)) * 100) AS BIGINT) AS tip_cents
    FROM raw_trips
)
SELECT DISTINCT * FROM typed
WHERE fare_cents BETWEEN 1 AND 100000 AND tip_cents BETWEEN 0 AND 100000
    AND dropoff > pickup AND dropoff - pickup <= INTERVAL 20 HOUR
    AND distance_metres BETWEEN 1 AND 321869
    AND distance_metres <= 44.704 * epoch(dropoff - pickup)
    AND pickup_zone BETWEEN 1 AND 263 AND dropoff_zone BETWEEN 1 AND 265

-- name: documents
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

-- name: fetch_document
SELECT document FROM documents WHERE ride_id = %(ride_id)s

-- name: fetch_rows
SELECT fare_cents, distance_metres, rides.status, requested_at,
       captured_cents, tip_cents, payments.status,
       rider_id, username, driver_id, drivers.name,
       pickup.zone, pickup.city, dropoff.zone, dropoff.city
FROM rides JOIN payments USING (ride_id) JOIN riders USING (rider_id) JOIN drivers USING (driver_id)
JOIN zones AS pickup ON pickup.zone_id = pickup_zone_id
JOIN zones AS dropoff ON dropoff.zone_id = dropoff_zone_id
WHERE ride_id = %(ride_id)s

-- name: fill_books
INSERT INTO books
SELECT number, 'Title ' || number / 2, 'Author ' || number / 10, (ARRAY['Paperback', 'E-book'])[1 + number %% 2],
       number %% %(publishers)s, 1000 + number * 7919 %% 2000
FROM generate_series(1, %(books)s) AS number

-- name: fill_flat_books
INSERT INTO flat_books
SELECT book_id, title, author, format, publisher, country, price_cents
FROM books JOIN publishers USING (publisher_id) ORDER BY book_id

-- name: fill_publishers
INSERT INTO publishers
SELECT number, CASE number WHEN 0 THEN 'Banana Press' ELSE 'Press ' || number END,
       (ARRAY['UK', 'US', 'DE', 'FR'])[1 + number %% 4]
FROM generate_series(0, %(publishers)s - 1) AS number

-- name: friends_within
WITH RECURSIVE reached AS (
    SELECT CAST($1 AS bigint) AS person_id, 0 AS hops
    UNION
    SELECT friend_id, hops + 1
    FROM reached JOIN friendships USING (person_id)
    WHERE hops < $2
)
SELECT count(DISTINCT person_id) - 1 FROM reached

-- name: graph_indexes
CREATE INDEX friendships_by_person ON friendships (person_id, friend_id);
CREATE INDEX people_by_place ON people (born_in_id);
CREATE INDEX places_by_place ON places (within_id);

-- name: graph_tables
CREATE TABLE places (place_id bigint PRIMARY KEY, name text NOT NULL, within_id bigint);
CREATE TABLE people (person_id bigint PRIMARY KEY, name text NOT NULL, born_in_id bigint NOT NULL);
CREATE TABLE friendships (person_id bigint NOT NULL, friend_id bigint NOT NULL);

-- name: insert_rides
-- Insert a batch of rides in one statement: an array for each column.
INSERT INTO RideTable SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::numeric[])

-- name: list_books
SELECT publisher, country, format, count(*), sum(price_cents)
FROM books JOIN publishers USING (publisher_id)
GROUP BY publisher, country, format ORDER BY publisher, country, format

-- name: list_books_flat
SELECT publisher, country, format, count(*), sum(price_cents)
FROM flat_books
GROUP BY publisher, country, format ORDER BY publisher, country, format

-- name: rename_publisher
UPDATE publishers SET publisher = %(new)s WHERE publisher = %(old)s

-- name: rename_publisher_flat
UPDATE flat_books SET publisher = %(new)s WHERE publisher = %(old)s

-- name: ride_table
-- The table of the textbook's example, empty.
CREATE TABLE RideTable (RideID bigint, Username text, DriverID bigint, City text, Month text, Price numeric(12, 2));

-- name: ride_table_index
-- A copy with a covering index for the average price: an index-only scan answers the query.
CREATE TABLE IndexedRideTable AS SELECT * FROM RideTable;
CREATE INDEX ON IndexedRideTable (City, Month) INCLUDE (Price);

-- name: some_rides
-- Pseudo-random rides; the same ones in each run.
SELECT ride_id FROM documents ORDER BY hashint8(ride_id) LIMIT %(rides)s

-- name: sum_1
SELECT sum(fare_cents) FROM rides

-- name: sum_4
SELECT sum(fare_cents), sum(distance_metres), sum(pickup_zone_id), sum(dropoff_zone_id) FROM rides

-- name: sum_8
SELECT
    sum(fare_cents), sum(distance_metres), sum(pickup_zone_id), sum(dropoff_zone_id),
    sum(city_id), sum(ride_id), sum(rider_id), sum(driver_id)
FROM rides

-- name: sum_documents
SELECT document -> 'pickup' ->> 'city' AS city, count(*), sum((document ->> 'fare_cents')::bigint)
FROM documents GROUP BY city ORDER BY city

-- name: sum_rows
SELECT city, count(*), sum(fare_cents)
FROM rides JOIN zones ON zone_id = pickup_zone_id GROUP BY city ORDER BY city

-- name: tip_document
UPDATE documents SET document = jsonb_set(document, '{payment,tip_cents}', to_jsonb(%(tip_cents)s::bigint))
WHERE ride_id = %(ride_id)s

-- name: tip_rows
UPDATE payments SET tip_cents = %(tip_cents)s WHERE ride_id = %(ride_id)s

-- name: unload_rides
COPY (
    SELECT
        ride_id, rider_id, driver_id, fare_cents, requested_at, requested_local, assigned_at, started_at,
        ended_at, request_id, city_id, pickup_zone_id, dropoff_zone_id, distance_metres, status, cancel_reason
    FROM rides
) TO STDOUT (FORMAT csv, HEADER)
