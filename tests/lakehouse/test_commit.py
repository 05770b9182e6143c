"""The calls that pyiceberg does not promise: this fails first when a new version moves them."""

from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy.exc import IntegrityError

from lakehouse.commit import (
    NAMESPACE,
    LostRace,
    Staged,
    move,
    open_catalog,
    open_table,
    stage,
    with_field_ids,
)
from ridelake.errors import RidelakeError

SCHEMA = pa.schema([pa.field("key", pa.int64(), nullable=False), pa.field("word", pa.string())])


@pytest.fixture
def catalog(tmp_path: Path):
    return open_catalog(tmp_path, tmp_path / "catalog.sqlite", 30)


def staged(catalog, tmp_path: Path, name: str, words: list[str]) -> Staged:
    table = open_table(catalog, tmp_path, name, SCHEMA)
    rows = pa.table({"key": range(len(words)), "word": words}, schema=with_field_ids(table, SCHEMA))
    path = tmp_path / f"{name}-{words[0]}.parquet"
    pq.write_table(rows, path)
    return stage(catalog, table, [path], {"ridelake.epoch": "1"})


def words_of(catalog, name: str) -> list[str]:
    return catalog.load_table((NAMESPACE, name)).scan().to_arrow()["word"].to_pylist()


def test_this_is_the_pyiceberg_whose_private_calls_were_read():
    assert metadata.version("pyiceberg").startswith("0.12.")


def test_staged_is_seen_by_nobody_until_all_are_moved(catalog, tmp_path: Path):
    both = [staged(catalog, tmp_path, name, ["one"]) for name in ("left", "right")]
    assert catalog.list_tables(NAMESPACE) == []
    with catalog.engine.begin() as connection:
        move(connection, both)
    again = [staged(catalog, tmp_path, name, ["two", "three"]) for name in ("left", "right")]
    assert words_of(catalog, "left") == words_of(catalog, "right") == ["one"]
    with catalog.engine.begin() as connection:
        move(connection, again)
    assert words_of(catalog, "left") == words_of(catalog, "right") == ["two", "three"]
    table = catalog.load_table((NAMESPACE, "left"))
    assert table.metadata.format_version == 2
    assert table.scan(snapshot_id=both[0].snapshot_id).to_arrow()["word"].to_pylist() == ["one"]
    assert table.current_snapshot().summary.additional_properties["ridelake.epoch"] == "1"
    assert table.current_snapshot().summary.additional_properties["total-data-files"] == "1"
    assert all(path.exists() for one in (*both, *again) for path in one.written)


def test_a_pointer_that_was_moved_meanwhile_stops_all(catalog, tmp_path: Path):
    with catalog.engine.begin() as connection:
        move(connection, [staged(catalog, tmp_path, name, ["one"]) for name in ("left", "right")])
    ours = [staged(catalog, tmp_path, name, ["ours"]) for name in ("left", "right")]
    theirs = staged(catalog, tmp_path, "right", ["theirs"])
    with catalog.engine.begin() as connection:
        move(connection, [theirs])
    with pytest.raises(LostRace), catalog.engine.begin() as connection:
        move(connection, ours)
    assert words_of(catalog, "left") == ["one"]
    assert words_of(catalog, "right") == ["theirs"]


def test_a_table_that_is_not_new_any_more_stops_all(catalog, tmp_path: Path):
    ours, theirs = (staged(catalog, tmp_path, "left", [word]) for word in ("ours", "theirs"))
    with catalog.engine.begin() as connection:
        move(connection, [theirs])
    with pytest.raises(IntegrityError), catalog.engine.begin() as connection:
        move(connection, [ours])
    assert words_of(catalog, "left") == ["theirs"]


@pytest.mark.parametrize(
    "other",
    [
        pa.schema([SCHEMA.field(0)]),
        pa.schema([SCHEMA.field(0), pa.field("word", pa.int64())]),
        pa.schema([SCHEMA.field(0), pa.field("word", pa.string(), nullable=False)]),
        pa.schema([*SCHEMA, pa.field("more", pa.string())]),
        pa.schema(reversed(SCHEMA)),
    ],
)
def test_other_columns_are_refused(catalog, tmp_path: Path, other: pa.Schema):
    table = open_table(catalog, tmp_path, "left", SCHEMA)
    with pytest.raises(RidelakeError, match="has other columns"):
        with_field_ids(table, other)
