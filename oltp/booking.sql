-- From request to ride: hold the fare, claim a driver, write the ride. All of it happens or none, in one
-- round trip; a refusal is a value, never an exception.
--
-- Locks are always taken in this order, so that no two calls can wait for each other:
--     rides by ride_id, accounts by account_id, requests by request_id; drivers are never waited for.
--
-- One exception: a batch in which a rider asks twice keeps the order of the requests within each round only. Two
-- such batches that use the same ids for different riders, crosswise, can wait for each other. No honest client
-- sends that; Postgres refuses one of the two (40P01), and whoever sends it again is answered (oltp/retry.py does).

-- One request. The lock on the rider's account is the queue of the rider: two requests of one rider, and two
-- sends of one request, pass one after the other, and the second sees what the first has done.
CREATE FUNCTION book_ride(
    p_request_id       uuid,
    p_rider_id         bigint,
    p_pickup_zone_id   integer,
    p_dropoff_zone_id  integer,
    p_distance_metres  integer,
    p_fare_cents       bigint,
    OUT outcome request_outcome, OUT ride_id bigint, OUT driver_id bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_account      accounts;
    v_city_id      integer;
    v_local        timestamp;
    v_earlier      requests;
    v_assigned_at  timestamptz;
BEGIN
    IF NOT can_be_meant(p_request_id, p_rider_id, p_pickup_zone_id, p_dropoff_zone_id, p_distance_metres,
                        p_fare_cents) THEN
        outcome := 'invalid_request';
        RETURN;
    END IF;

    SELECT a.* INTO v_account
    FROM accounts AS a WHERE a.account_id = (SELECT r.account_id FROM riders AS r WHERE r.rider_id = p_rider_id)
    FOR NO KEY UPDATE;

    SELECT q.* INTO v_earlier FROM requests AS q WHERE q.request_id = p_request_id;
    IF FOUND THEN
        IF (v_earlier.rider_id, v_earlier.pickup_zone_id, v_earlier.dropoff_zone_id,
            v_earlier.distance_metres, v_earlier.fare_cents)
           IS DISTINCT FROM
           (p_rider_id, p_pickup_zone_id, p_dropoff_zone_id, p_distance_metres, p_fare_cents) THEN
            outcome := 'request_mismatch';
        ELSE
            outcome := v_earlier.outcome;
            ride_id := v_earlier.ride_id;
            driver_id := v_earlier.driver_id;
        END IF;
        RETURN;
    END IF;

    SELECT z.city_id, now() AT TIME ZONE c.time_zone INTO v_city_id, v_local
    FROM zones AS z
    JOIN zones AS d ON d.zone_id = p_dropoff_zone_id AND d.city_id = z.city_id
    JOIN cities AS c ON c.city_id = z.city_id
    WHERE z.zone_id = p_pickup_zone_id;

    IF v_account.account_id IS NULL THEN
        outcome := 'unknown_rider';
    ELSIF v_city_id IS NULL THEN
        outcome := 'unknown_zone';
    ELSIF EXISTS (SELECT FROM rides AS r WHERE r.rider_id = p_rider_id AND r.status IN ('assigned', 'started')) THEN
        outcome := 'rider_busy';
    ELSIF v_account.balance_cents - v_account.held_cents < p_fare_cents THEN
        outcome := 'payment_declined';
    ELSE
        driver_id := claim_driver(v_city_id, p_pickup_zone_id);
        outcome := CASE WHEN driver_id IS NULL THEN 'no_driver_available' ELSE 'assigned' END;
    END IF;

    IF outcome = 'assigned' THEN
        UPDATE accounts SET held_cents = held_cents + p_fare_cents WHERE account_id = v_account.account_id;

        INSERT INTO rides (request_id, rider_id, driver_id, city_id, pickup_zone_id, dropoff_zone_id,
                           requested_at, requested_local, assigned_at, distance_metres, fare_cents)
        VALUES (p_request_id, p_rider_id, driver_id, v_city_id, p_pickup_zone_id, p_dropoff_zone_id,
                now(), v_local, greatest(clock_timestamp(), now()), p_distance_metres, p_fare_cents)
        RETURNING rides.ride_id, rides.assigned_at INTO ride_id, v_assigned_at;

        INSERT INTO payments (ride_id, held_cents) VALUES (ride_id, p_fare_cents);
        INSERT INTO ride_events VALUES (ride_id, 1, 'assigned', v_assigned_at);
    END IF;

    INSERT INTO requests (request_id, rider_id, pickup_zone_id, dropoff_zone_id, distance_metres, fare_cents,
                          outcome, ride_id, driver_id, decided_at)
    VALUES (p_request_id, p_rider_id, p_pickup_zone_id, p_dropoff_zone_id, p_distance_metres, p_fare_cents,
            outcome, ride_id, driver_id, now());
END $$;

-- Version 8 is for rides that came from a file (schema.sql): as a client's id it would be counted among those.
CREATE FUNCTION can_be_meant(
    p_request_id uuid, p_rider_id bigint, p_pickup_zone_id integer, p_dropoff_zone_id integer,
    p_distance_metres integer, p_fare_cents bigint
) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN coalesce(p_fare_cents > 0 AND p_distance_metres >= 0, false)
   AND coalesce(get_byte(uuid_send(p_request_id), 6) >> 4 <> 8, false) AND p_rider_id IS NOT NULL
   AND p_pickup_zone_id IS NOT NULL AND p_dropoff_zone_id IS NOT NULL;

-- Nearest first: a driver whose stand is in the zone, then any in the city; NULL if all are taken.
-- SKIP LOCKED: a driver whom somebody else is claiming at this moment is passed over, not waited for.
-- Among equals the lot decides: it is fair to them, rivals seldom reach for the same one, and their rows
-- age evenly (docs/store.md, "Claims that stay HOT").
CREATE FUNCTION claim_driver(p_city_id integer, p_zone_id integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_driver_id bigint;
BEGIN
    UPDATE drivers SET status = 'busy'
    WHERE driver_id = (
        SELECT d.driver_id FROM drivers AS d
        WHERE d.city_id = p_city_id AND d.zone_id = p_zone_id AND d.status = 'available'
        ORDER BY random() LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING driver_id INTO v_driver_id;

    IF v_driver_id IS NULL THEN
        UPDATE drivers SET status = 'busy'
        WHERE driver_id = (
            SELECT d.driver_id FROM drivers AS d
            WHERE d.city_id = p_city_id AND d.status = 'available'
            ORDER BY random() LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING driver_id INTO v_driver_id;
    END IF;
    RETURN v_driver_id;
END $$;

-- Many requests in one transaction, each decided as book_ride() would have: for n requests one parse, one
-- commit, one flush of the log, and one pass over each index. The answers carry the place of their request.
--
-- Of a rider who asks more than once in the batch, the first request is decided in the first round, the
-- second in the second: a round has one request a rider, so that no account is read before it is written.
CREATE FUNCTION book_rides(
    p_request_ids       uuid[],
    p_rider_ids         bigint[],
    p_pickup_zone_ids   integer[],
    p_dropoff_zone_ids  integer[],
    p_distances_metres  integer[],
    p_fares_cents       bigint[]
) RETURNS TABLE (place integer, outcome request_outcome, ride_id bigint, driver_id bigint)
LANGUAGE plpgsql
-- One plan for every day, whatever the statistics of a young table say: rows of tables are looked up by key
-- (LATERAL … OFFSET 0, or = ANY), and what was looked up is joined by hashing. What is off costs 1e10 to the
-- planner before Postgres 18, for which a server with JIT would compile every batch: seconds instead of milliseconds.
SET enable_nestloop = off SET enable_seqscan = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_rounds integer;
BEGIN
    PERFORM FROM accounts
    WHERE account_id = ANY (ARRAY(SELECT r.account_id FROM riders AS r WHERE r.rider_id = ANY (p_rider_ids)))
    ORDER BY account_id FOR NO KEY UPDATE;

    SELECT max(times) INTO v_rounds
    FROM (SELECT count(*) AS times FROM unnest(p_rider_ids) AS rider_id GROUP BY rider_id) AS counted;

    FOR round IN 1 .. coalesce(v_rounds, 0) LOOP
        RETURN QUERY
        WITH asked AS (
            SELECT a.*, row_number() OVER (PARTITION BY a.rider_id ORDER BY a.place) AS turn
            FROM unnest(p_request_ids, p_rider_ids, p_pickup_zone_ids, p_dropoff_zone_ids, p_distances_metres,
                        p_fares_cents) WITH ORDINALITY
                AS a (request_id, rider_id, pickup_zone_id, dropoff_zone_id, distance_metres, fare_cents, place)
        ),
        judged AS MATERIALIZED (
            SELECT a.*, q.ride_id, q.driver_id, account.account_id, way.city_id, way.requested_local,
                CASE
                    WHEN NOT can_be_meant(a.request_id, a.rider_id, a.pickup_zone_id, a.dropoff_zone_id,
                                          a.distance_metres, a.fare_cents) THEN 'invalid_request'
                    WHEN q.request_id IS NOT NULL THEN
                        CASE WHEN (a.rider_id, a.pickup_zone_id, a.dropoff_zone_id, a.distance_metres, a.fare_cents)
                                = (q.rider_id, q.pickup_zone_id, q.dropoff_zone_id, q.distance_metres, q.fare_cents)
                             THEN q.outcome::text ELSE 'request_mismatch' END
                    WHEN a.twin > 1 THEN 'request_mismatch'     -- another rider's, with the same id
                    WHEN account.account_id IS NULL THEN 'unknown_rider'
                    WHEN way.city_id IS NULL THEN 'unknown_zone'
                    WHEN EXISTS (SELECT FROM rides AS r
                                 WHERE r.rider_id = a.rider_id AND r.status IN ('assigned', 'started'))
                        THEN 'rider_busy'
                    WHEN account.free_cents < a.fare_cents THEN 'payment_declined'
                END::request_outcome AS outcome,
                q.request_id IS NOT NULL AS known
            FROM (SELECT *, row_number() OVER (PARTITION BY request_id ORDER BY place) AS twin
                  FROM asked WHERE turn = round) AS a
            LEFT JOIN LATERAL (SELECT * FROM requests WHERE request_id = a.request_id OFFSET 0) AS q ON true
            LEFT JOIN LATERAL (
                SELECT account_id, balance_cents - held_cents AS free_cents
                FROM accounts WHERE account_id = (SELECT account_id FROM riders WHERE rider_id = a.rider_id) OFFSET 0) AS account ON true
            LEFT JOIN LATERAL (
                SELECT city_id, now() AT TIME ZONE time_zone AS requested_local FROM cities
                WHERE city_id = (SELECT city_id FROM zones WHERE zone_id = a.pickup_zone_id)
                  AND city_id = (SELECT city_id FROM zones WHERE zone_id = a.dropoff_zone_id) OFFSET 0) AS way ON true
        ),
        wanted AS MATERIALIZED (
            SELECT place, city_id, pickup_zone_id,
                   row_number() OVER (PARTITION BY pickup_zone_id ORDER BY place) AS number
            FROM judged WHERE outcome IS NULL
        ),
        -- As many drivers of a zone as the zone asks for, then paired by number. One LATERAL a zone, not one a
        -- request: SKIP LOCKED does not skip what this very statement has locked, so each request would be
        -- given the same driver.
        near AS MATERIALIZED (
            SELECT pickup_zone_id, driver_id, row_number() OVER (PARTITION BY pickup_zone_id) AS number
            FROM (SELECT city_id, pickup_zone_id, count(*) AS needed FROM wanted GROUP BY 1, 2) AS stand,
            LATERAL (SELECT driver_id FROM drivers AS d
                     WHERE d.city_id = stand.city_id AND d.zone_id = stand.pickup_zone_id AND d.status = 'available'
                     ORDER BY random() LIMIT stand.needed FOR NO KEY UPDATE SKIP LOCKED) AS claimed
        ),
        unserved AS MATERIALIZED (
            SELECT place, city_id, row_number() OVER (PARTITION BY city_id ORDER BY place) AS number
            FROM wanted AS w
            WHERE NOT EXISTS (SELECT FROM near AS n
                              WHERE n.pickup_zone_id = w.pickup_zone_id AND n.number = w.number)
        ),
        far AS MATERIALIZED (
            SELECT city_id, driver_id, row_number() OVER (PARTITION BY city_id) AS number
            FROM (SELECT city_id, count(*) AS needed FROM unserved GROUP BY 1) AS city,
            LATERAL (SELECT driver_id FROM drivers AS d
                     WHERE d.city_id = city.city_id AND d.status = 'available'
                       AND d.driver_id NOT IN (SELECT driver_id FROM near)
                     ORDER BY random() LIMIT city.needed FOR NO KEY UPDATE SKIP LOCKED) AS claimed
        ),
        served AS MATERIALIZED (
            SELECT j.*, claimed.driver_id AS claimed_driver_id
            FROM judged AS j JOIN (
                SELECT place, driver_id FROM wanted JOIN near USING (pickup_zone_id, number)
                UNION ALL
                SELECT place, driver_id FROM unserved JOIN far USING (city_id, number)) AS claimed USING (place)
        ),
        taken AS (
            UPDATE drivers SET status = 'busy'
            WHERE driver_id = ANY (ARRAY(SELECT claimed_driver_id FROM served))
        ),
        held AS (
            UPDATE accounts SET held_cents = held_cents + s.fare_cents
            FROM served AS s
            WHERE accounts.account_id = s.account_id
              AND accounts.account_id = ANY (ARRAY(SELECT account_id FROM served))
        ),
        born AS (
            INSERT INTO rides (request_id, rider_id, driver_id, city_id, pickup_zone_id, dropoff_zone_id,
                               requested_at, requested_local, assigned_at, distance_metres, fare_cents)
            SELECT request_id, rider_id, claimed_driver_id, city_id, pickup_zone_id, dropoff_zone_id,
                   now(), requested_local, greatest(clock_timestamp(), now()), distance_metres, fare_cents
            FROM served ORDER BY request_id
            RETURNING rides.request_id, rides.ride_id, rides.driver_id, rides.fare_cents, rides.assigned_at
        ),
        paid AS (INSERT INTO payments (ride_id, held_cents) SELECT ride_id, fare_cents FROM born),
        told AS (INSERT INTO ride_events SELECT ride_id, 1, 'assigned', assigned_at FROM born),
        decided AS MATERIALIZED (
            SELECT j.place, j.request_id, j.rider_id, j.pickup_zone_id, j.dropoff_zone_id, j.distance_metres,
                   j.fare_cents, j.known,
                   coalesce(j.outcome, CASE WHEN b.ride_id IS NULL THEN 'no_driver_available'::request_outcome
                                            ELSE 'assigned' END) AS outcome,
                   coalesce(j.ride_id, b.ride_id) AS ride_id, coalesce(j.driver_id, b.driver_id) AS driver_id
            FROM judged AS j LEFT JOIN born AS b ON b.request_id = j.request_id AND j.outcome IS NULL
        ),
        recorded AS (
            INSERT INTO requests (request_id, rider_id, pickup_zone_id, dropoff_zone_id, distance_metres, fare_cents,
                                  outcome, ride_id, driver_id, decided_at)
            SELECT request_id, rider_id, pickup_zone_id, dropoff_zone_id, distance_metres, fare_cents,
                   outcome, ride_id, driver_id, now()
            FROM decided
            WHERE NOT known AND outcome NOT IN ('request_mismatch', 'invalid_request') ORDER BY request_id
        )
        SELECT place::integer, outcome,
               CASE WHEN outcome = 'assigned' THEN ride_id END, CASE WHEN outcome = 'assigned' THEN driver_id END
        FROM decided;
    END LOOP;
END $$;
