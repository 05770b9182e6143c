"""Property test: the lake equals Postgres after any sequence of statements, including DDL."""

from contextlib import suppress

import psycopg
import pytest
from bare_database import bare_database, run
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rows_read import assert_equal

from lakehouse.capture.publish import publish_changes
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.columns import TableNotCopied
from lakehouse.table.epoch import Selection
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp.cluster.server import Cluster
from oltp.store import Store
from ridelake.errors import BadInput, NotReady
from ridelake.settings import LakeAddress

TABLES = {
    "plain": ("CREATE TABLE {t} (id int, day int, v text, PRIMARY KEY (id, day))",),
    "keyless": ("CREATE TABLE {t} (id int, day int, v text)",),
    "unique_key": ("CREATE TABLE {t} (id int NOT NULL, day int, v text, UNIQUE (id))",),
    "parted": (
        "CREATE TABLE {t} (id int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE {t}_low PARTITION OF {t} FOR VALUES FROM (0) TO (5)",
        "CREATE TABLE {t}_rest PARTITION OF {t} DEFAULT",
    ),
}
STATEMENTS = [
    "INSERT INTO {t} (id, day, v) SELECT n, n % 10, 'row' FROM generate_series({n}, {n} + 20) AS n"
    " ON CONFLICT DO NOTHING",
    "UPDATE {t} SET id = -id WHERE id % 7 = {n} % 7",
    "UPDATE {t} SET day = (day + 5) % 10 WHERE id % 5 = {n} % 5",
    "DELETE FROM {t} WHERE id % 3 = {n} % 3",
    "TRUNCATE {t}",
    "ALTER TABLE {t} ADD COLUMN extra int DEFAULT {n}",
    "ALTER TABLE {t} DROP COLUMN extra",
    "ALTER TABLE {t} RENAME COLUMN v TO w",
    "ALTER TABLE {t} RENAME COLUMN w TO v",
    "ALTER TABLE {t} ALTER COLUMN v TYPE varchar(200)",
    "UPDATE {t} SET extra = id WHERE id % 2 = {n} % 2",
    "ALTER TABLE {t} RENAME TO {t}_2",
    "ALTER TABLE {t}_2 RENAME TO {t}",
    "DROP TABLE {t}",
    "CREATE",
    "TRACK",
    "EPOCH",
    # For the partitioned table.
    "TRUNCATE {t}_low",
    "DELETE FROM {t}_rest WHERE id % 2 = 0",
    "ALTER TABLE {t} DETACH PARTITION {t}_low",
    "ALTER TABLE {t} ATTACH PARTITION {t}_low FOR VALUES FROM (0) TO (5)",
    "CREATE TABLE {t}_n{n} PARTITION OF {t} FOR VALUES FROM (20 + {n}) TO (21 + {n})",
    "INSERT INTO {t} (id, day) SELECT n, 20 + n % 40 FROM generate_series({n}, 60) AS n"
    " ON CONFLICT DO NOTHING",
    "DROP TABLE {t}_n{n}",
]
STEPS = st.lists(
    st.tuples(st.sampled_from([*TABLES]), st.sampled_from(STATEMENTS) | st.just("EPOCH"), st.integers(0, 40)),
    min_size=5,
    max_size=40,
)


def step(store: Store, lake: Lake, table: str, statement: str, number: int) -> None:
    if statement == "EPOCH":
        epoch_equals_postgres(store, lake)
    elif statement == "TRACK":
        with suppress(BadInput):  # the table has no key, or does not exist
            track(store, table)
    else:
        texts = TABLES[table] if statement == "CREATE" else (statement,)
        for text in texts:
            with suppress(psycopg.Error):  # the object does not exist, or exists already
                run(store, text.format(t=table, n=number))


def epoch_equals_postgres(store: Store, lake: Lake) -> None:
    try:
        publish_changes(store, lake, selection=Selection(all_tables=True), verify=True)
    except TableNotCopied as error:
        if "no table" not in str(error):
            raise
        return
    for table in newest_epoch(lake.address).tables:
        assert_equal(store, lake, table)
    with suppress(NotReady):  # one of the tables is not tracked
        verify_now(store, lake).prove()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_lake_equals_postgres_after_any_statements(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
):
    @given(steps=STEPS)
    @settings(
        deadline=None, max_examples=10, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    def check(steps: list[tuple[str, str, int]]) -> None:
        lake = Lake.create(LakeAddress.at(tmp_path_factory.mktemp("lake")))
        with bare_database(cluster) as store:
            for table in TABLES:
                step(store, lake, table, "CREATE", 0)
                step(store, lake, table, "TRACK", 0)
                step(store, lake, table, STATEMENTS[0], 0)
            epoch_equals_postgres(store, lake)
            for table, statement, number in steps:
                step(store, lake, table, statement, number)
            epoch_equals_postgres(store, lake)

    check()
