-- The tables of the store in DuckDB, with the same columns, keys and checks where DuckDB supports them. DuckDB has no
-- partial unique index ("one active ride per driver") and no triggers; the booking and the audit check these rules.
CREATE TYPE ride_status AS ENUM ('assigned', 'started', 'completed', 'cancelled');

CREATE TABLE cities (city_id INTEGER PRIMARY KEY, name VARCHAR, time_zone VARCHAR);
CREATE TABLE zones (zone_id INTEGER PRIMARY KEY, city_id INTEGER NOT NULL, name VARCHAR);
CREATE TABLE accounts (
    account_id BIGINT PRIMARY KEY, kind VARCHAR NOT NULL, balance_cents BIGINT, held_cents BIGINT NOT NULL,
    CHECK (held_cents >= 0 AND balance_cents >= held_cents)
);
CREATE TABLE riders (rider_id BIGINT PRIMARY KEY, account_id BIGINT NOT NULL, city_id INTEGER, username VARCHAR);
CREATE TABLE drivers (
    driver_id BIGINT PRIMARY KEY, account_id BIGINT NOT NULL, city_id INTEGER NOT NULL, zone_id INTEGER NOT NULL,
    status VARCHAR NOT NULL, name VARCHAR
);
CREATE TABLE rides (
    ride_id BIGINT PRIMARY KEY, rider_id BIGINT NOT NULL, driver_id BIGINT NOT NULL,
    fare_cents BIGINT NOT NULL CHECK (fare_cents > 0),
    requested_at TIMESTAMPTZ NOT NULL, requested_local TIMESTAMP NOT NULL, assigned_at TIMESTAMPTZ NOT NULL,
    started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ,
    request_id UUID NOT NULL, city_id INTEGER NOT NULL, pickup_zone_id INTEGER NOT NULL,
    dropoff_zone_id INTEGER NOT NULL, distance_metres INTEGER NOT NULL,
    status ride_status NOT NULL, cancel_reason VARCHAR
);
CREATE TABLE payments (
    ride_id BIGINT PRIMARY KEY, held_cents BIGINT NOT NULL, captured_cents BIGINT NOT NULL,
    tip_cents BIGINT NOT NULL, status VARCHAR NOT NULL
);
CREATE TABLE ride_events (
    ride_id BIGINT NOT NULL, step SMALLINT NOT NULL, status ride_status NOT NULL, happened_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE requests (
    request_id UUID PRIMARY KEY, rider_id BIGINT NOT NULL, fare_cents BIGINT NOT NULL, ride_id BIGINT,
    driver_id BIGINT, decided_at TIMESTAMPTZ NOT NULL, pickup_zone_id INTEGER NOT NULL,
    dropoff_zone_id INTEGER NOT NULL, distance_metres INTEGER NOT NULL, outcome VARCHAR NOT NULL
);
CREATE TABLE ledger (
    transfer_id BIGINT PRIMARY KEY, from_account_id BIGINT NOT NULL, to_account_id BIGINT NOT NULL,
    amount_cents BIGINT NOT NULL, ride_id BIGINT, moved_at TIMESTAMPTZ NOT NULL, top_up_id UUID, kind VARCHAR NOT NULL
);
CREATE VIEW entries AS
    SELECT transfer_id, from_account_id AS account_id, -amount_cents AS amount_cents, kind, moved_at FROM ledger
    UNION ALL
    SELECT transfer_id, to_account_id, amount_cents, kind, moved_at FROM ledger;
CREATE SEQUENCE ride_ids START 1000000001;  -- above the ids of the epoch
