"""Partitioned tables are copied incrementally, also when partitions are attached and detached."""

import pytest
from bare_database import run
from own_tables import asked
from psycopg import errors
from rows_read import assert_equal

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes
from lakehouse.source.tracking import track, untrack
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.errors import BadInput

TABLE = (
    "CREATE TABLE events (day int, id int, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20) PARTITION BY HASH (id)",
    "CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE events_2b PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "CREATE TABLE events_rest PARTITION OF events DEFAULT",
    "INSERT INTO events SELECT n % 40, n, 'event ' || n FROM generate_series(1, 400) AS n",
)


@pytest.fixture
def events(bare: Store, lake: Lake) -> Store:
    """A tracked table with two levels of partitions and a default partition. Its 400 rows are in epoch 1."""
    run(bare, *TABLE)
    track(bare, "events")
    publish_changes(bare, lake, tables=["events"])
    return bare


def followed(store: Store, lake: Lake, *statements: str) -> Epoch:
    """Execute the statements and publish. Checks that the epoch equals Postgres, and returns it."""
    run(store, *statements)
    epoch = publish_changes(store, lake, verify=True).epoch
    assert_equal(store, lake, "events")
    return epoch


def is_whole(epoch: Epoch) -> bool:
    return epoch.tables["events"].changed == epoch.rows


CHANGES = {
    "insert": "INSERT INTO events SELECT n, 1000 + n, 'new' FROM generate_series(1, 35) AS n",
    "insert into a partition": "INSERT INTO events_rest VALUES (-5, 1, 'x')",
    "update": "UPDATE events SET what = 'changed' WHERE id % 7 = 0",
    "update of a partition": "UPDATE events_2b SET what = 'in 2b' WHERE id % 3 = 0",
    "delete": "DELETE FROM events WHERE id % 5 = 0",
    "delete from a partition": "DELETE FROM events_1 WHERE id % 3 = 0",
    "new key": "UPDATE events SET id = id + 5000 WHERE id < 20",
    "moved": "UPDATE events SET day = 39 - day WHERE id % 4 = 1",
    "moved within a partition": "UPDATE events SET id = id + 10001 WHERE day BETWEEN 10 AND 19",
    "moved and back": "UPDATE events SET day = day + 10 WHERE day < 10; UPDATE events SET day = day - 10"
    " WHERE day BETWEEN 10 AND 19",
    "upsert": "INSERT INTO events VALUES (1, 1, 'again') ON CONFLICT (id, day) DO UPDATE SET what = 'other'",
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_any_partition_is_followed(events: Store, lake: Lake, change: str):
    run(events, CHANGES[change])
    verify_now(events, lake).prove()
    assert not is_whole(followed(events, lake))
    verify_now(events, lake).prove()


def test_a_new_partition_is_read_and_the_others_are_not(events: Store, lake: Lake):
    epoch = followed(
        events, lake,
        "CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (100) TO (200)",
        "INSERT INTO events SELECT 100, n, 'new' FROM generate_series(1, 50) AS n",
        "DELETE FROM events WHERE id = 50 AND day = 100",
    )  # fmt: skip
    assert epoch.tables["events"].changed == 49
    assert followed(events, lake, "UPDATE events_3 SET what = 'x' WHERE id = 1").tables["events"].changed == 1
    epoch = followed(
        events, lake,
        "CREATE TABLE events_4 (LIKE events INCLUDING DEFAULTS INCLUDING INDEXES)",
        "INSERT INTO events_4 (day, id, what) SELECT 300, n, 'old' FROM generate_series(1, 60) AS n",
        "UPDATE events_4 SET tx = 1",
        "ALTER TABLE events ATTACH PARTITION events_4 FOR VALUES FROM (300) TO (301)",
        "DELETE FROM events WHERE day = 300 AND id = 60",
    )  # fmt: skip
    assert epoch.tables["events"].changed == 59
    epoch = followed(
        events,
        lake,
        "DELETE FROM events_4 WHERE id < 10",
        "UPDATE events SET day = 7, id = id + 7000 WHERE day = 300",
    )
    assert epoch.tables["events"].changed == 50
    assert is_whole(
        followed(events, lake, "DROP TABLE events_4", "UPDATE events SET what = 'y' WHERE id = 2")
    )
    maintain(lake, events)
    assert followed(events, lake, "DELETE FROM events WHERE id = 33").tables["events"].deleted == 2


LEAVING = {
    "detach": "ALTER TABLE events DETACH PARTITION events_1",
    "detach concurrently": "ALTER TABLE events_2 DETACH PARTITION events_2a CONCURRENTLY",
    "drop": "DROP TABLE events_2a",
    "truncate of a partition": "TRUNCATE events_2b",
    "truncate of a subtree": "TRUNCATE events_2",
    "truncate of all": "TRUNCATE events",
    "detached, changed and attached": "ALTER TABLE events DETACH PARTITION events_1; DELETE FROM events_1;"
    " ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM (0) TO (10)",
    "truncated and filled": "BEGIN; TRUNCATE events_1; INSERT INTO events_1 VALUES (1, 1, 'x'); COMMIT",
    "a trigger disabled": "ALTER TABLE events_1 DISABLE TRIGGER ridelake_deleted; DELETE FROM events_1;"
    " ALTER TABLE events_1 ENABLE ALWAYS TRIGGER ridelake_deleted",
}  # fmt: skip


@pytest.mark.parametrize("change", LEAVING)
def test_a_detached_or_truncated_partition_is_followed(events: Store, lake: Lake, change: str):
    if change == "detach concurrently":
        # A concurrent detach is not possible with a default partition.
        run(events, "ALTER TABLE events DETACH PARTITION events_rest")
    followed(events, lake, *LEAVING[change].split("; "))
    followed(events, lake, "INSERT INTO events VALUES (11, -1, 'after')", "DELETE FROM events WHERE id = 11")


def test_columns_of_a_partitioned_table_are_followed(events: Store, lake: Lake):
    followed(events, lake, "ALTER TABLE events ADD COLUMN more int DEFAULT 7")
    followed(
        events,
        lake,
        "ALTER TABLE events RENAME COLUMN more TO less",
        "UPDATE events SET less = 8 WHERE id = 1",
    )
    followed(events, lake, "ALTER TABLE events DROP COLUMN less", "DELETE FROM events WHERE id = 2")
    followed(
        events,
        lake,
        "ALTER TABLE events ALTER COLUMN what TYPE bytea USING 'x'",
        "DELETE FROM events WHERE id = 3",
    )


def test_a_partition_may_have_its_columns_in_another_order(events: Store, lake: Lake):
    followed(
        events, lake,
        "CREATE TABLE turned (what text, dropped int, tx bigint, id int NOT NULL, day int NOT NULL)",
        "ALTER TABLE turned DROP COLUMN dropped",
        "INSERT INTO turned VALUES ('a', 1, 1, 500), ('b', 1, 2, 500), ('c', 1, 3, 500)",
        "ALTER TABLE events ATTACH PARTITION turned FOR VALUES FROM (500) TO (501)",
    )  # fmt: skip
    epoch = followed(
        events, lake, "DELETE FROM turned WHERE id = 1", "UPDATE events SET id = 9 WHERE what = 'b'"
    )
    assert epoch.tables["events"].changed == 1


def test_a_table_with_rows_can_be_attached_after_tx_is_added(events: Store, lake: Lake):
    run(
        events,
        "CREATE TABLE older (day int NOT NULL, id int NOT NULL, what text)",
        "INSERT INTO older SELECT 600, n, 'older' FROM generate_series(1, 50) AS n",
    )
    attach = "ALTER TABLE events ATTACH PARTITION older FOR VALUES FROM (600) TO (601)"
    with pytest.raises(errors.DatatypeMismatch, match='missing column "tx"'):
        run(events, attach)
    epoch = followed(events, lake, "ALTER TABLE older ADD COLUMN tx bigint", attach)
    assert epoch.tables["events"].changed == 50
    epoch = followed(events, lake, "UPDATE events SET what = 'new' WHERE id = 7 AND day = 600")
    assert epoch.tables["events"].changed == 1


def test_an_untracked_partitioned_table_is_copied(bare: Store, lake: Lake):
    run(bare, *TABLE)
    publish_changes(bare, lake, tables=["events"], verify=True)
    assert_equal(bare, lake, "events")
    assert is_whole(followed(bare, lake, "DELETE FROM events_1", "DROP TABLE events_rest"))
    assert asked(lake, "SELECT count(*) AS n FROM events WHERE day < 10 OR day >= 20") == [{"n": 0}]


def test_tracking_of_a_partitioned_table_is_removed(events: Store, lake: Lake):
    with pytest.raises(BadInput, match="it is a partition; track the partitioned table"):
        track(events, "events_1")
    track(events, "events")
    untrack(events, "events")
    assert is_whole(followed(events, lake, "DELETE FROM events WHERE id = 1"))
    assert asked(lake, "SELECT * FROM events LIMIT 1")[0].keys() == {"day", "id", "what"}


def test_a_trigger_of_one_partition_that_fires_last_ends_the_tracking(events: Store, lake: Lake):
    run(
        events,
        "CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN NEW.tx := OLD.tx; RETURN NEW; END'",
        "CREATE TRIGGER zzzz BEFORE UPDATE ON events_2a FOR EACH ROW EXECUTE FUNCTION back()",
    )
    assert is_whole(followed(events, lake, "UPDATE events SET what = 'hidden' WHERE id % 2 = 0"))
