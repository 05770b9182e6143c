-- Status changes of rides, payments and drivers. Each function takes many rides; the function for one ride calls it
-- with an array of one. All return the status after the call and are idempotent: a repeated call changes nothing and
-- returns the same, so a client that lost an answer can repeat the call. NULL: no such ride.
--
-- Conditions test the times of a ride, not its status: for `status = 'assigned'` the planner may scan the partial
-- index of the active rides, which has thousands of dead entries while an old snapshot exists.
--
-- Locks as in booking.sql: rides by ride_id, then accounts by account_id, then drivers. Only the holder of the lock on
-- a ride updates its driver.
--
-- Each function is a few look-ups by key, whatever the planner's estimates, so JIT compilation would only cost time.

-- assigned -> started.
CREATE FUNCTION start_rides(p_ride_ids bigint[]) RETURNS TABLE (place integer, status ride_status)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM rides WHERE ride_id = ANY (p_ride_ids) ORDER BY ride_id FOR NO KEY UPDATE;

    WITH moved AS (
        UPDATE rides SET status = 'started', started_at = greatest(clock_timestamp(), assigned_at)
        WHERE ride_id = ANY (p_ride_ids) AND started_at IS NULL AND ended_at IS NULL
        RETURNING ride_id, started_at)
    INSERT INTO ride_events SELECT ride_id, 2, 'started', started_at FROM moved;

    RETURN QUERY
    SELECT asked.place::integer, (SELECT r.status FROM rides AS r WHERE r.ride_id = asked.ride_id)
    FROM unnest(p_ride_ids) WITH ORDINALITY AS asked (ride_id, place);
END $$;

-- started -> completed. The hold is captured: four fifths to the driver, one fifth to the platform.
-- A tip is paid if the balance of the rider covers it; otherwise it is omitted.
CREATE FUNCTION complete_rides(p_ride_ids bigint[], p_tips_cents bigint[])
RETURNS TABLE (place integer, status ride_status)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM lock_rides_and_accounts(p_ride_ids, true);

    WITH ended AS (
        UPDATE rides SET status = 'completed', ended_at = greatest(clock_timestamp(), started_at)
        WHERE ride_id = ANY (p_ride_ids) AND started_at IS NOT NULL AND ended_at IS NULL
        RETURNING ride_id, rider_id, driver_id, fare_cents, ended_at
    ),
    tipped AS (                                    -- a ride that is named twice: the first tip is paid
        SELECT DISTINCT ON (ride_id) ride_id, tip_cents
        FROM unnest(p_ride_ids, p_tips_cents) WITH ORDINALITY AS asked (ride_id, tip_cents, place)
        ORDER BY ride_id, place
    ),
    priced AS MATERIALIZED (
        SELECT e.*, rider.account_id AS rider_account_id, d.account_id AS driver_account_id,
               fare_cents / 5 AS commission_cents,
               CASE WHEN t.tip_cents BETWEEN 1 AND rider.balance_cents - rider.held_cents THEN t.tip_cents ELSE 0 END
                   AS tip_cents
        FROM ended AS e
        JOIN tipped AS t USING (ride_id)
        JOIN riders AS r USING (rider_id)
        JOIN accounts AS rider ON rider.account_id = r.account_id
        JOIN drivers AS d USING (driver_id)
    ),
    captured AS (
        UPDATE payments SET status = 'captured', captured_cents = held_cents, tip_cents = p.tip_cents
        FROM priced AS p WHERE payments.ride_id = p.ride_id
    ),
    -- One row per account: an UPDATE … FROM applies only one of several rows.
    changed AS (
        SELECT account_id, sum(held_cents)::bigint AS held_cents, sum(balance_cents)::bigint AS balance_cents
        FROM (SELECT rider_account_id AS account_id, -fare_cents AS held_cents, -fare_cents - tip_cents AS balance_cents
              FROM priced
              UNION ALL
              SELECT driver_account_id, 0, fare_cents - commission_cents + tip_cents FROM priced) AS parts
        GROUP BY account_id
    ),
    settled AS (
        UPDATE accounts SET held_cents = accounts.held_cents + c.held_cents,
                            balance_cents = accounts.balance_cents + c.balance_cents
        FROM changed AS c WHERE accounts.account_id = c.account_id
    ),
    moved AS (
        INSERT INTO ledger (from_account_id, to_account_id, amount_cents, ride_id, moved_at, kind)
        SELECT rider_account_id, part.account_id, part.cents, ride_id, ended_at, part.kind
        FROM priced CROSS JOIN LATERAL (VALUES
            (driver_account_id, fare_cents - commission_cents, 'pay'::transfer_kind),
            (2, commission_cents, 'commission'),
            (driver_account_id, tip_cents, 'tip')) AS part (account_id, cents, kind)
        WHERE part.cents > 0
    ),
    freed AS (
        UPDATE drivers SET status = 'available'
        FROM priced AS p WHERE drivers.driver_id = p.driver_id AND status = 'busy'
    )
    INSERT INTO ride_events SELECT ride_id, 3, 'completed', ended_at FROM priced;

    RETURN QUERY
    SELECT asked.place::integer, (SELECT r.status FROM rides AS r WHERE r.ride_id = asked.ride_id)
    FROM unnest(p_ride_ids) WITH ORDINALITY AS asked (ride_id, place);
END $$;

-- assigned -> cancelled, by rider or driver. The hold is voided and the driver becomes available. For a no-show a fee
-- of at most the fare is captured and paid to the driver.
CREATE FUNCTION cancel_rides(p_ride_ids bigint[], p_reason cancel_reason)
RETURNS TABLE (place integer, status ride_status)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM lock_rides_and_accounts(p_ride_ids, p_reason = 'no_show');

    WITH ended AS (
        UPDATE rides SET status = 'cancelled', cancel_reason = p_reason,
                         ended_at = greatest(clock_timestamp(), assigned_at)
        WHERE ride_id = ANY (p_ride_ids) AND started_at IS NULL AND ended_at IS NULL
        RETURNING ride_id, rider_id, driver_id, fare_cents, ended_at
    ),
    priced AS MATERIALIZED (
        SELECT e.*, r.account_id AS rider_account_id, d.account_id AS driver_account_id,
               CASE WHEN p_reason = 'no_show' THEN least(fare_cents, 500) ELSE 0 END AS fee_cents
        FROM ended AS e JOIN riders AS r USING (rider_id) JOIN drivers AS d USING (driver_id)
    ),
    voided AS (
        UPDATE payments SET captured_cents = p.fee_cents,
                            status = CASE WHEN p.fee_cents > 0 THEN 'captured' ELSE 'voided' END::payment_status
        FROM priced AS p WHERE payments.ride_id = p.ride_id
    ),
    changed AS (
        SELECT account_id, sum(held_cents)::bigint AS held_cents, sum(balance_cents)::bigint AS balance_cents
        FROM (SELECT rider_account_id AS account_id, -fare_cents AS held_cents, -fee_cents AS balance_cents FROM priced
              UNION ALL
              SELECT driver_account_id, 0, fee_cents FROM priced WHERE fee_cents > 0) AS parts
        GROUP BY account_id
    ),
    settled AS (
        UPDATE accounts SET held_cents = accounts.held_cents + c.held_cents,
                            balance_cents = accounts.balance_cents + c.balance_cents
        FROM changed AS c WHERE accounts.account_id = c.account_id
    ),
    moved AS (
        INSERT INTO ledger (from_account_id, to_account_id, amount_cents, ride_id, moved_at, kind)
        SELECT rider_account_id, driver_account_id, fee_cents, ride_id, ended_at, 'pay' FROM priced WHERE fee_cents > 0
    ),
    freed AS (
        UPDATE drivers SET status = 'available'
        FROM priced AS p WHERE drivers.driver_id = p.driver_id AND status = 'busy'
    )
    INSERT INTO ride_events SELECT ride_id, 2, 'cancelled', ended_at FROM priced;

    RETURN QUERY
    SELECT asked.place::integer, (SELECT r.status FROM rides AS r WHERE r.ride_id = asked.ride_id)
    FROM unnest(p_ride_ids) WITH ORDINALITY AS asked (ride_id, place);
END $$;

-- Locks the rides and the accounts that are about to change. The driver's account is locked only if the driver is paid,
-- because locking a row writes to its page, and most cancellations pay nothing.
CREATE FUNCTION lock_rides_and_accounts(p_ride_ids bigint[], p_driver_is_paid boolean) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    PERFORM FROM rides WHERE ride_id = ANY (p_ride_ids) ORDER BY ride_id FOR NO KEY UPDATE;
    PERFORM FROM accounts WHERE account_id = ANY (ARRAY(
        SELECT r.account_id FROM rides JOIN riders AS r USING (rider_id) WHERE ride_id = ANY (p_ride_ids)
        UNION ALL
        SELECT d.account_id FROM rides JOIN drivers AS d USING (driver_id)
        WHERE ride_id = ANY (p_ride_ids) AND p_driver_is_paid))
    ORDER BY account_id FOR NO KEY UPDATE;
END $$;

CREATE FUNCTION start_ride(p_ride_id bigint) RETURNS ride_status LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT status FROM start_rides(ARRAY[p_ride_id]));
END $$;

CREATE FUNCTION complete_ride(p_ride_id bigint, p_tip_cents bigint DEFAULT 0) RETURNS ride_status LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT status FROM complete_rides(ARRAY[p_ride_id], ARRAY[p_tip_cents]));
END $$;

CREATE FUNCTION cancel_ride(p_ride_id bigint, p_reason cancel_reason DEFAULT 'rider') RETURNS ride_status
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT status FROM cancel_rides(ARRAY[p_ride_id], p_reason));
END $$;

-- captured -> refunded: the platform refunds the fare at its own expense; the driver keeps pay and tip. Returns the
-- status of the payment after the call; NULL for an unknown ride.
CREATE FUNCTION refund_ride(p_ride_id bigint) RETURNS payment_status LANGUAGE plpgsql AS $$
DECLARE
    v_status      payment_status;
    v_account_id  bigint;
    v_cents       bigint;
BEGIN
    UPDATE payments SET status = 'refunded'
    WHERE ride_id = p_ride_id AND status = 'captured' RETURNING captured_cents INTO v_cents;
    IF FOUND THEN
        UPDATE accounts SET balance_cents = balance_cents + v_cents
        WHERE account_id = (SELECT account_id FROM rides JOIN riders USING (rider_id) WHERE ride_id = p_ride_id)
        RETURNING account_id INTO STRICT v_account_id;
        INSERT INTO ledger (from_account_id, to_account_id, amount_cents, ride_id, moved_at, kind)
        VALUES (2, v_account_id, v_cents, p_ride_id, clock_timestamp(), 'refund');
    END IF;
    SELECT status INTO v_status FROM payments WHERE ride_id = p_ride_id;
    RETURN v_status;
END $$;

-- outside -> rider. With an id from the client, a repeated top-up is applied once. Returns the id of the transfer; NULL
-- for an unknown rider, and for an id that was used for another rider or amount.
CREATE FUNCTION top_up(p_rider_id bigint, p_amount_cents bigint, p_top_up_id uuid DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_account_id   bigint;
    v_transfer_id  bigint;
BEGIN
    SELECT a.account_id INTO v_account_id
    FROM accounts AS a WHERE a.account_id = (SELECT r.account_id FROM riders AS r WHERE r.rider_id = p_rider_id)
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO ledger (from_account_id, to_account_id, amount_cents, moved_at, kind, top_up_id)
    VALUES (1, v_account_id, p_amount_cents, clock_timestamp(), 'top_up', p_top_up_id)
    ON CONFLICT (top_up_id) WHERE top_up_id IS NOT NULL DO NOTHING
    RETURNING transfer_id INTO v_transfer_id;
    IF FOUND THEN
        UPDATE accounts SET balance_cents = balance_cents + p_amount_cents WHERE account_id = v_account_id;
        RETURN v_transfer_id;
    END IF;
    RETURN (SELECT transfer_id FROM ledger
            WHERE top_up_id = p_top_up_id AND to_account_id = v_account_id AND amount_cents = p_amount_cents);
END $$;

-- offline -> available, in a zone. Returns the driver's status after the call; NULL: no such driver or zone.
CREATE FUNCTION driver_online(p_driver_id bigint, p_zone_id integer) RETURNS driver_status LANGUAGE plpgsql AS $$
DECLARE
    v_status driver_status;
BEGIN
    UPDATE drivers SET status = 'available', zone_id = z.zone_id, city_id = z.city_id
    FROM zones AS z WHERE z.zone_id = p_zone_id AND driver_id = p_driver_id AND status = 'offline';
    SELECT status INTO v_status FROM drivers
    WHERE driver_id = p_driver_id AND EXISTS (SELECT FROM zones WHERE zone_id = p_zone_id);
    RETURN v_status;
END $$;

-- available -> offline. A busy driver stays busy: the ride must be completed first.
CREATE FUNCTION driver_offline(p_driver_id bigint) RETURNS driver_status LANGUAGE plpgsql AS $$
DECLARE
    v_status driver_status;
BEGIN
    UPDATE drivers SET status = 'offline' WHERE driver_id = p_driver_id AND status = 'available';
    SELECT status INTO v_status FROM drivers WHERE driver_id = p_driver_id;
    RETURN v_status;
END $$;

-- Ends rides that were abandoned because their client died: assigned rides are cancelled and their holds voided, started
-- rides are completed without a tip. With p_ids_end, only rides whose request id ends with it (oltp/workload/requests.py).
-- Returns the number of each.
--
-- All rides and accounts are locked before the first change, to keep the lock order across the two steps.
CREATE FUNCTION expire_rides(p_assigned_before timestamptz, p_started_before timestamptz, p_ids_end bytea DEFAULT '',
                             OUT cancelled bigint, OUT completed bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_waiting  bigint[];
    v_riding   bigint[];
BEGIN
    SELECT array_agg(ride_id) FILTER (WHERE status = 'assigned' AND assigned_at < p_assigned_before),
           array_agg(ride_id) FILTER (WHERE status = 'started' AND started_at < p_started_before)
    INTO v_waiting, v_riding
    FROM rides
    WHERE status IN ('assigned', 'started')
      AND substring(uuid_send(request_id) FROM 17 - length(p_ids_end)) = p_ids_end;

    PERFORM lock_rides_and_accounts(v_waiting || v_riding, true);
    SELECT count(*) INTO cancelled
    FROM cancel_rides(v_waiting, 'expired') AS moved WHERE moved.status = 'cancelled';
    SELECT count(*) INTO completed
    FROM complete_rides(v_riding, array_fill(0::bigint, ARRAY[coalesce(cardinality(v_riding), 0)])) AS moved
    WHERE moved.status = 'completed';
END $$;
