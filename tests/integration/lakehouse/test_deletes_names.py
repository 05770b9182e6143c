"""Delete files work for tables with any names, until the definition of the table changes."""

from pathlib import Path

import pytest
from bare_database import run
from installed_engines import EVERY_ENGINE

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from oltp.store import Store
from ridelake.settings import Settings


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Files of 150 rows instead of 245,760."""
    monkeypatch.setattr("lakehouse.capture.writer.RUN_ROWS", 150)
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 60)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE things ADD COLUMN extra text DEFAULT 'x'",
        "ALTER TABLE things ALTER COLUMN id TYPE bigint",
        "ALTER TABLE things DISABLE TRIGGER ridelake_deleted; DELETE FROM things WHERE id = 77;"
        "ALTER TABLE things ENABLE ALWAYS TRIGGER ridelake_deleted",
    ],
)
def test_maintenance_does_not_hide_a_change_of_the_table(bare: Store, lake: Lake, statement: str):
    things(bare, lake, "things", "id int PRIMARY KEY, word text")
    for number in (1, 2):
        run(bare, f"UPDATE things SET word = 'new' WHERE id = {number}")
        publish_changes(bare, lake)
    run(bare, statement)
    maintain(lake, bare)
    publish_changes(bare, lake, verify=True)


def things(store: Store, lake: Lake, table: str, columns: str) -> None:
    """Create a tracked table of 400 rows in sealed files. The key is a number."""
    run(store, f"CREATE TABLE {table} ({columns})")
    track(store, table)
    publish_changes(store, lake, tables=[table])
    run(store, f"INSERT INTO {table} SELECT n FROM generate_series(1, 400) AS n")
    publish_changes(store, lake)


@pytest.mark.parametrize("name", ["file_index", "file_row_number", "_file", "_row_number", "_metadata"])
def test_a_column_with_the_name_of_a_virtual_column_is_read_as_usual(bare: Store, lake: Lake, name: str):
    things(bare, lake, "things", f"id int PRIMARY KEY, {name} int DEFAULT 3")
    run(bare, f"UPDATE things SET {name} = 5 WHERE id IN (3, 7)", "DELETE FROM things WHERE id = 9")
    publish_changes(bare, lake, verify=True)


@pytest.mark.slow
@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_names_that_need_quotes_are_masked_by_every_engine(bare: Store, lake: Lake, engine: str):
    """The other tables have the names that chDB uses for the parts of the first table."""
    things(bare, lake, '"T"', '"Id" int PRIMARY KEY')
    things(bare, lake, '"T deleted"', '"a.b" int PRIMARY KEY')
    things(bare, lake, '"T 0"', '"order" int PRIMARY KEY')
    keys = {"T": "Id", "T deleted": "a.b", "T 0": "order"}
    for table, key in keys.items():
        run(bare, f'DELETE FROM "{table}" WHERE "{key}" IN (3, 7)')
    epoch = publish_changes(bare, lake, verify=True).epoch
    assert sum(file.deleted for file in epoch.files) == 6
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=bare.conninfo)
    with open_engine(engine, settings, epoch) as opened:
        for table in keys:
            found = opened.sql(f'SELECT count(*) AS c FROM "{table}"').to_pylist()
            assert found[0]["c"] == 398
