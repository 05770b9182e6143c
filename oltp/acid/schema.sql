-- The small tables of the naive strategies. A driver is available while no active ride refers to it. This
-- design is normalized, but a row that does not exist cannot be locked.
--
-- No foreign keys: they take additional locks, and this experiment is about explicit locks.

DROP SCHEMA IF EXISTS ridelake_acid CASCADE;
CREATE SCHEMA ridelake_acid;
SET LOCAL search_path = ridelake_acid;

CREATE TABLE riders (
    rider_id       bigint PRIMARY KEY,
    start_cents    bigint NOT NULL,
    balance_cents  bigint NOT NULL
);

CREATE TABLE drivers (
    driver_id  bigint PRIMARY KEY,
    busy       boolean NOT NULL DEFAULT false      -- set by the strategies that lock: a lock protects its own row
);

CREATE TABLE rides (
    request_id  bigint PRIMARY KEY,
    round       integer NOT NULL,                  -- all rides of a round are active at its end
    rider_id    bigint NOT NULL,
    driver_id   bigint NOT NULL,
    active      boolean NOT NULL DEFAULT true
);

CREATE TABLE charges (
    request_id  bigint PRIMARY KEY,
    rider_id    bigint NOT NULL,
    cents       bigint NOT NULL
);
