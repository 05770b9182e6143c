"""One commit of many tables. ridelake writes the metadata; pyiceberg and Polars read it."""

from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy.exc import IntegrityError

from lakehouse.table.catalog import NAMESPACE, CommitConflict, move_pointers, open_catalog, read_pointers
from lakehouse.table.manifests import FileChanges
from lakehouse.table.metadata import StagedTable, TableDraft
from ridelake.settings import LakeAddress

KEY = pa.field("key", pa.int64(), nullable=False)
WORD = pa.field("word", pa.string(), nullable=False)
SCHEMA = pa.schema([KEY, WORD])


@pytest.fixture
def address(tmp_path: Path) -> LakeAddress:
    (tmp_path / "lake").mkdir()
    return LakeAddress.at(tmp_path / "lake")


@pytest.fixture
def catalog(address: LakeAddress):
    return open_catalog(address, 30)


def drafted(catalog, address: LakeAddress, name: str, schema: pa.Schema) -> TableDraft:
    with catalog.engine.connect() as connection:
        return TableDraft(address, name, schema, read_pointers(connection).get(name))


@pytest.fixture
def stage(catalog, address: LakeAddress):
    """`stage(table, words)`: stage a file with these words, and the removal of the files in `removed`."""

    def stage(name: str, words: list[str], removed=(), schema=SCHEMA, alive=None) -> StagedTable:
        draft = drafted(catalog, address, name, schema)
        columns = [range(len(words)), *[words] * (len(schema) - 1)]
        rows = pa.table(
            [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)],
            schema=draft.file_schema,
        )
        location = address.join(f"{name}-{words[0]}.parquet")
        pq.write_table(rows, location)
        return draft.stage(FileChanges([location], removed), {"ridelake.epoch": "1"}, alive)

    return stage


def moved(catalog, *staged: StagedTable) -> None:
    with catalog.engine.begin() as connection:
        move_pointers(connection, staged)


def words_of(catalog, name: str, snapshot_id: int | None = None) -> list[str]:
    table = catalog.load_table((NAMESPACE, name))
    return sorted(table.scan(snapshot_id=snapshot_id).to_arrow()["word"].to_pylist())


def test_the_tested_version_of_pyiceberg_is_installed():
    assert metadata.version("pyiceberg").startswith("0.12.")


def test_staged_metadata_is_invisible_until_all_pointers_are_moved(catalog, address, stage):
    both = [stage(name, ["one"]) for name in ("left", "right")]
    assert catalog.list_tables(NAMESPACE) == []
    moved(catalog, *both)
    old = {name: [address.join(f"{name}-one.parquet")] for name in ("left", "right")}
    again = [stage(name, ["two", "three"], old[name]) for name in ("left", "right")]
    assert words_of(catalog, "left") == words_of(catalog, "right") == ["one"]
    moved(catalog, *again)
    assert words_of(catalog, "left") == words_of(catalog, "right") == ["three", "two"]
    table = catalog.load_table((NAMESPACE, "left"))
    assert table.metadata.format_version == 2
    assert words_of(catalog, "left", both[0].snapshot_id) == ["one"]
    assert table.current_snapshot().summary.additional_properties["ridelake.epoch"] == "1"
    assert table.current_snapshot().summary.additional_properties["total-data-files"] == "1"
    assert all(Path(path).exists() for one in (*both, *again) for path in one.written)


def test_a_file_that_is_not_removed_stays(catalog, address, stage):
    moved(catalog, stage("left", ["one"]))
    moved(catalog, stage("left", ["two"]))
    assert words_of(catalog, "left") == ["one", "two"]
    moved(catalog, stage("left", ["three"], [address.join("left-one.parquet")]))
    assert words_of(catalog, "left") == ["three", "two"]
    assert not any(task.delete_files for task in catalog.load_table((NAMESPACE, "left")).scan().plan_files())


def test_only_snapshots_to_keep_are_in_the_metadata(catalog, stage):
    first, second = stage("left", ["one"]), None
    moved(catalog, first)
    second = stage("left", ["two"])
    moved(catalog, second)
    moved(catalog, stage("left", ["three"], alive={"epoch_2": second.snapshot_id}))
    known = {snapshot.snapshot_id for snapshot in catalog.load_table((NAMESPACE, "left")).metadata.snapshots}
    assert second.snapshot_id in known
    assert first.snapshot_id not in known
    assert len(known) == 2
    assert words_of(catalog, "left") == ["one", "three", "two"]


def test_a_concurrently_moved_pointer_aborts_the_commit(catalog, stage):
    moved(catalog, *[stage(name, ["one"]) for name in ("left", "right")])
    ours = [stage(name, ["ours"]) for name in ("left", "right")]
    moved(catalog, stage("right", ["theirs"]))
    with pytest.raises(CommitConflict):
        moved(catalog, *ours)
    assert words_of(catalog, "left") == ["one"]
    assert words_of(catalog, "right") == ["one", "theirs"]


def test_a_concurrently_created_table_aborts_the_commit(catalog, stage):
    ours, theirs = (stage("left", [word]) for word in ("ours", "theirs"))
    moved(catalog, theirs)
    with pytest.raises(IntegrityError):
        moved(catalog, ours)
    assert words_of(catalog, "left") == ["theirs"]


def test_a_failed_stage_leaves_no_file(catalog, address, stage):
    moved(catalog, stage("left", ["one"]))
    before = {path for path in address.folder.rglob("*") if path.is_file()}
    draft = drafted(catalog, address, "left", SCHEMA)
    with pytest.raises(FileNotFoundError):
        draft.stage(FileChanges([address.join("left-one.parquet"), address.join("nowhere.parquet")]), {})
    assert {path for path in address.folder.rglob("*") if path.is_file()} == before


# ── Columns that are added, dropped and changed ────────────────────────────────────────────────────────────


def test_a_new_column_is_null_in_older_rows(catalog, stage):
    moved(catalog, stage("left", ["one"]))
    with_more = pa.schema([KEY, WORD, pa.field("more", pa.string())])
    moved(catalog, stage("left", ["two"], schema=with_more))
    rows = catalog.load_table((NAMESPACE, "left")).scan().to_arrow().to_pylist()
    assert {row["word"]: row["more"] for row in rows} == {"one": None, "two": "two"}


def test_the_order_of_columns_does_not_change_their_field_ids(catalog, address, stage):
    moved(catalog, stage("left", ["one"]))
    numbers = drafted(catalog, address, "left", SCHEMA).file_schema
    turned = drafted(catalog, address, "left", pa.schema([WORD, KEY])).file_schema
    assert {f.name: f.metadata for f in turned} == {f.name: f.metadata for f in numbers}


def test_a_column_that_becomes_nullable_is_nullable_in_the_lake(catalog, stage):
    moved(catalog, stage("left", ["one"]))
    moved(catalog, stage("left", ["two"], schema=pa.schema([KEY, WORD.with_nullable(True)])))
    assert not catalog.load_table((NAMESPACE, "left")).schema().find_field("word").required
    assert words_of(catalog, "left") == ["one", "two"]


def test_the_tracking_column_can_be_added_and_removed(catalog, stage):
    tracked = pa.schema([KEY, WORD, pa.field("tx", pa.string())])
    for words, schema in ((["one"], SCHEMA), (["two"], tracked), (["three"], SCHEMA), (["four"], tracked)):
        moved(catalog, stage("left", words, schema=schema))
        names = {field.name for field in catalog.load_table((NAMESPACE, "left")).schema().fields}
        assert names == set(schema.names)
    assert words_of(catalog, "left") == ["four", "one", "three", "two"]


@pytest.mark.parametrize("kind", [None, pa.int64(), pa.binary()])
def test_a_column_that_is_removed_or_retyped_gets_a_new_field_id(catalog, address, stage, kind):
    moved(catalog, stage("left", ["one"]))
    before = catalog.load_table((NAMESPACE, "left")).schema().find_field("word")
    schema = pa.schema([KEY, *([pa.field("word", kind)] if kind else [])])
    after = drafted(catalog, address, "left", schema).file_schema
    numbers = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in after}
    assert before.field_id not in numbers.values()
    assert words_of(catalog, "left") == ["one"]
