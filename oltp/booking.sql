-- What changes the store. Each function is one round trip and, called alone, one transaction: all of it
-- happens or none. A refusal is a value, never an exception.
--
-- Locks are always taken in this order, so that no two calls can wait for each other:
--     ride, then accounts by account_id, then driver (whom booking never waits for: SKIP LOCKED).

-- Hold the fare, claim a driver, write the ride.
--
-- The lock on the rider's account is the queue of the rider: two requests of one rider, and two sends of
-- one request, pass one after the other, and the second sees what the first has done.
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
    v_account   accounts;
    v_city_id   integer;
    v_local     timestamp;
    v_earlier   requests;
BEGIN
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
                now(), v_local, clock_timestamp(), p_distance_metres, p_fare_cents)
        RETURNING rides.ride_id INTO ride_id;

        INSERT INTO payments (ride_id, held_cents) VALUES (ride_id, p_fare_cents);
    END IF;

    INSERT INTO requests (request_id, rider_id, pickup_zone_id, dropoff_zone_id, distance_metres, fare_cents,
                          outcome, ride_id, driver_id, decided_at)
    VALUES (p_request_id, p_rider_id, p_pickup_zone_id, p_dropoff_zone_id, p_distance_metres, p_fare_cents,
            outcome, ride_id, driver_id, now());
END $$;

-- Nearest first: a driver whose stand is in the zone, then any in the city; NULL if all are taken.
-- SKIP LOCKED: a driver whom somebody else is claiming at this moment is passed over, not waited for.
CREATE FUNCTION claim_driver(p_city_id integer, p_zone_id integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_driver_id bigint;
BEGIN
    UPDATE drivers SET status = 'busy'
    WHERE driver_id = (
        SELECT d.driver_id FROM drivers AS d
        WHERE d.city_id = p_city_id AND d.zone_id = p_zone_id AND d.status = 'available'
        LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING driver_id INTO v_driver_id;

    IF v_driver_id IS NULL THEN
        UPDATE drivers SET status = 'busy'
        WHERE driver_id = (
            SELECT d.driver_id FROM drivers AS d
            WHERE d.city_id = p_city_id AND d.status = 'available'
            LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING driver_id INTO v_driver_id;
    END IF;
    RETURN v_driver_id;
END $$;

-- assigned -> started. False if the ride is not waiting to start.
CREATE FUNCTION start_ride(p_ride_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rides SET status = 'started', started_at = clock_timestamp()
    WHERE ride_id = p_ride_id AND status = 'assigned';
    RETURN FOUND;
END $$;

-- started -> completed. The hold is captured: four fifths to the driver, one fifth to the platform.
-- A tip is paid if the rider has the money, and left out if not. False if the ride is not under way.
CREATE FUNCTION complete_ride(p_ride_id bigint, p_tip_cents bigint DEFAULT 0) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_ride        rides;
    v_rider       accounts;
    v_rider_acct  bigint;
    v_driver_acct bigint;
    v_fee_cents   bigint;
    v_tip_cents   bigint;
BEGIN
    UPDATE rides SET status = 'completed', ended_at = clock_timestamp()
    WHERE ride_id = p_ride_id AND status = 'started' RETURNING * INTO v_ride;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    SELECT account_id INTO STRICT v_rider_acct FROM riders WHERE rider_id = v_ride.rider_id;
    SELECT account_id INTO STRICT v_driver_acct FROM drivers WHERE driver_id = v_ride.driver_id;
    PERFORM FROM accounts WHERE account_id IN (v_rider_acct, v_driver_acct) ORDER BY account_id FOR NO KEY UPDATE;
    SELECT * INTO STRICT v_rider FROM accounts WHERE account_id = v_rider_acct;

    v_fee_cents := v_ride.fare_cents / 5;
    v_tip_cents := CASE WHEN p_tip_cents > 0 AND p_tip_cents <= v_rider.balance_cents - v_rider.held_cents
                        THEN p_tip_cents ELSE 0 END;

    UPDATE payments SET status = 'captured', captured_cents = held_cents, tip_cents = v_tip_cents
    WHERE ride_id = p_ride_id AND status = 'held';
    UPDATE accounts SET held_cents = held_cents - v_ride.fare_cents,
                        balance_cents = balance_cents - v_ride.fare_cents - v_tip_cents
    WHERE account_id = v_rider_acct;
    UPDATE accounts SET balance_cents = balance_cents + v_ride.fare_cents - v_fee_cents + v_tip_cents
    WHERE account_id = v_driver_acct;

    INSERT INTO ledger (from_account_id, to_account_id, amount_cents, ride_id, moved_at, kind)
    SELECT v_rider_acct, to_account_id, amount_cents, p_ride_id, v_ride.ended_at, kind
    FROM (VALUES (v_driver_acct, v_ride.fare_cents - v_fee_cents, 'pay'::transfer_kind),
                 (2, v_fee_cents, 'commission'),
                 (v_driver_acct, v_tip_cents, 'tip')) AS parts (to_account_id, amount_cents, kind)
    WHERE amount_cents > 0;

    UPDATE drivers SET status = 'available' WHERE driver_id = v_ride.driver_id AND status = 'busy';
    RETURN true;
END $$;

-- assigned -> cancelled. The hold is voided and the driver freed. False if it is too late for that.
CREATE FUNCTION cancel_ride(p_ride_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_ride rides;
BEGIN
    UPDATE rides SET status = 'cancelled', ended_at = clock_timestamp()
    WHERE ride_id = p_ride_id AND status = 'assigned' RETURNING * INTO v_ride;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    UPDATE payments SET status = 'voided' WHERE ride_id = p_ride_id AND status = 'held';
    UPDATE accounts SET held_cents = held_cents - v_ride.fare_cents
    WHERE account_id = (SELECT account_id FROM riders WHERE rider_id = v_ride.rider_id);
    UPDATE drivers SET status = 'available' WHERE driver_id = v_ride.driver_id AND status = 'busy';
    RETURN true;
END $$;

-- outside -> rider. Returns the new balance; NULL for an unknown rider.
CREATE FUNCTION top_up(p_rider_id bigint, p_amount_cents bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_account_id    bigint;
    v_balance_cents bigint;
BEGIN
    UPDATE accounts SET balance_cents = balance_cents + p_amount_cents
    WHERE account_id = (SELECT account_id FROM riders WHERE rider_id = p_rider_id)
    RETURNING account_id, balance_cents INTO v_account_id, v_balance_cents;
    IF FOUND THEN
        INSERT INTO ledger (from_account_id, to_account_id, amount_cents, moved_at, kind)
        VALUES (1, v_account_id, p_amount_cents, now(), 'top_up');
    END IF;
    RETURN v_balance_cents;
END $$;

-- ── Guards: what no UPDATE may do, whoever sends it ─────────────────────────────────────────────

CREATE FUNCTION refuse_illegal_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% cannot go from % to %', TG_TABLE_NAME, OLD.status, NEW.status
        USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON rides FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND (OLD.status, NEW.status) NOT IN (
    ('assigned', 'started'), ('assigned', 'cancelled'), ('started', 'completed')))
EXECUTE FUNCTION refuse_illegal_move();

CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON payments FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND (OLD.status, NEW.status) NOT IN (
    ('held', 'captured'), ('held', 'voided')))
EXECUTE FUNCTION refuse_illegal_move();

CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON drivers FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND (OLD.status, NEW.status) NOT IN (
    ('offline', 'available'), ('available', 'offline'), ('available', 'busy'), ('busy', 'available')))
EXECUTE FUNCTION refuse_illegal_move();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is only ever added to: correct a transfer with another transfer'
        USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger FOR EACH ROW EXECUTE FUNCTION refuse_change();
