-- Booking: hold the fare, claim a driver, write the ride. Atomic, in one round trip. A refusal is a return value,
-- not an exception.
--
-- Locks are always taken in this order, so that two calls cannot deadlock:
--     rides by ride_id, accounts by account_id, requests by request_id. No call waits for a lock on a driver.
--
-- One exception: a batch with two requests of one rider keeps the order of the requests only within each round. Two
-- such batches that use the same ids for different riders in opposite order can deadlock. Only a client that sends
-- another client's ids can cause this. Postgres aborts one of the two (40P01), and oltp/retry.py sends it again.

-- Decides one request. The lock on the rider's account serializes the rider's requests: the second of two requests,
-- and the second send of one request, sees what the first has committed.
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
    IF NOT is_valid_request(p_request_id, p_rider_id, p_pickup_zone_id, p_dropoff_zone_id, p_distance_metres,
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

-- Version 8 is reserved for rides loaded from files (schema.sql); a client's request with one of these ids is invalid.
CREATE FUNCTION is_valid_request(
    p_request_id uuid, p_rider_id bigint, p_pickup_zone_id integer, p_dropoff_zone_id integer,
    p_distance_metres integer, p_fare_cents bigint
) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN coalesce(p_fare_cents > 0 AND p_distance_metres >= 0, false)
   AND coalesce(get_byte(uuid_send(p_request_id), 6) >> 4 <> 8, false) AND p_rider_id IS NOT NULL
   AND p_pickup_zone_id IS NOT NULL AND p_dropoff_zone_id IS NOT NULL;

-- Claims a driver in the zone, or else one in the city; NULL if none is available.
-- SKIP LOCKED: a driver that another transaction is claiming is skipped, not waited for.
-- ORDER BY random() distributes rides evenly, makes it unlikely that two transactions select the same driver, and
-- spreads the row versions over the pages (docs/store.md, "Driver claims as HOT updates").
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

-- Decides many requests in one transaction, each as book_ride() would: for n requests one parse, one commit, one
-- flush of the WAL, and one pass over each index. Each result row has the place of its request in the arrays.
--
-- If a rider has several requests in the batch, the first is decided in the first round, the second in the second
-- round. A round has one request per rider, so that no account is read before the previous request has written it.
CREATE FUNCTION book_rides(
    p_request_ids       uuid[],
    p_rider_ids         bigint[],
    p_pickup_zone_ids   integer[],
    p_dropoff_zone_ids  integer[],
    p_distances_metres  integer[],
    p_fares_cents       bigint[]
) RETURNS TABLE (place integer, outcome request_outcome, ride_id bigint, driver_id bigint)
LANGUAGE plpgsql
-- A plan that does not depend on the statistics: rows are looked up by key (LATERAL … OFFSET 0, or = ANY), and the
-- results are joined by hash. Before Postgres 18 a disabled plan type has a cost of 1e10, so a server with JIT would
-- compile every batch: seconds instead of milliseconds.
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
        WITH submitted AS (
            SELECT a.*, row_number() OVER (PARTITION BY a.rider_id ORDER BY a.place) AS turn
            FROM unnest(p_request_ids, p_rider_ids, p_pickup_zone_ids, p_dropoff_zone_ids, p_distances_metres,
                        p_fares_cents) WITH ORDINALITY
                AS a (request_id, rider_id, pickup_zone_id, dropoff_zone_id, distance_metres, fare_cents, place)
        ),
        judged AS MATERIALIZED (
            SELECT a.*, q.ride_id, q.driver_id, account.account_id, route.city_id, route.requested_local,
                CASE
                    WHEN NOT is_valid_request(a.request_id, a.rider_id, a.pickup_zone_id, a.dropoff_zone_id,
                                              a.distance_metres, a.fare_cents) THEN 'invalid_request'
                    WHEN q.request_id IS NOT NULL THEN
                        CASE WHEN (a.rider_id, a.pickup_zone_id, a.dropoff_zone_id, a.distance_metres, a.fare_cents)
                                = (q.rider_id, q.pickup_zone_id, q.dropoff_zone_id, q.distance_metres, q.fare_cents)
                             THEN q.outcome::text ELSE 'request_mismatch' END
                    WHEN a.occurrence > 1 THEN 'request_mismatch'     -- another rider's request with the same id
                    WHEN account.account_id IS NULL THEN 'unknown_rider'
                    WHEN route.city_id IS NULL THEN 'unknown_zone'
                    WHEN EXISTS (SELECT FROM rides AS r
                                 WHERE r.rider_id = a.rider_id AND r.status IN ('assigned', 'started'))
                        THEN 'rider_busy'
                    WHEN account.free_cents < a.fare_cents THEN 'payment_declined'
                END::request_outcome AS outcome,
                q.request_id IS NOT NULL AS known
            FROM (SELECT *, row_number() OVER (PARTITION BY request_id ORDER BY place) AS occurrence
                  FROM submitted WHERE turn = round) AS a
            LEFT JOIN LATERAL (SELECT * FROM requests WHERE request_id = a.request_id OFFSET 0) AS q ON true
            LEFT JOIN LATERAL (
                SELECT account_id, balance_cents - held_cents AS free_cents
                FROM accounts WHERE account_id = (SELECT account_id FROM riders WHERE rider_id = a.rider_id) OFFSET 0) AS account ON true
            LEFT JOIN LATERAL (
                SELECT city_id, now() AT TIME ZONE time_zone AS requested_local FROM cities
                WHERE city_id = (SELECT city_id FROM zones WHERE zone_id = a.pickup_zone_id)
                  AND city_id = (SELECT city_id FROM zones WHERE zone_id = a.dropoff_zone_id) OFFSET 0) AS route ON true
        ),
        wanted AS MATERIALIZED (
            SELECT place, city_id, pickup_zone_id,
                   row_number() OVER (PARTITION BY pickup_zone_id ORDER BY place) AS number
            FROM judged WHERE outcome IS NULL
        ),
        -- Selects as many drivers of a zone as the zone has requests, then pairs them by number. One LATERAL per
        -- zone, not per request: SKIP LOCKED does not skip rows that this statement has locked itself, so each
        -- request would get the same driver.
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
        claimed_drivers AS (
            UPDATE drivers SET status = 'busy'
            WHERE driver_id = ANY (ARRAY(SELECT claimed_driver_id FROM served))
        ),
        held AS (
            UPDATE accounts SET held_cents = held_cents + s.fare_cents
            FROM served AS s
            WHERE accounts.account_id = s.account_id
              AND accounts.account_id = ANY (ARRAY(SELECT account_id FROM served))
        ),
        new_rides AS (
            INSERT INTO rides (request_id, rider_id, driver_id, city_id, pickup_zone_id, dropoff_zone_id,
                               requested_at, requested_local, assigned_at, distance_metres, fare_cents)
            SELECT request_id, rider_id, claimed_driver_id, city_id, pickup_zone_id, dropoff_zone_id,
                   now(), requested_local, greatest(clock_timestamp(), now()), distance_metres, fare_cents
            FROM served ORDER BY request_id
            RETURNING rides.request_id, rides.ride_id, rides.driver_id, rides.fare_cents, rides.assigned_at
        ),
        new_payments AS (INSERT INTO payments (ride_id, held_cents) SELECT ride_id, fare_cents FROM new_rides),
        new_events AS (INSERT INTO ride_events SELECT ride_id, 1, 'assigned', assigned_at FROM new_rides),
        decided AS MATERIALIZED (
            SELECT j.place, j.request_id, j.rider_id, j.pickup_zone_id, j.dropoff_zone_id, j.distance_metres,
                   j.fare_cents, j.known,
                   coalesce(j.outcome, CASE WHEN b.ride_id IS NULL THEN 'no_driver_available'::request_outcome
                                            ELSE 'assigned' END) AS outcome,
                   coalesce(j.ride_id, b.ride_id) AS ride_id, coalesce(j.driver_id, b.driver_id) AS driver_id
            FROM judged AS j LEFT JOIN new_rides AS b ON b.request_id = j.request_id AND j.outcome IS NULL
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
