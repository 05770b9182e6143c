"""An epoch equals Postgres, row for row and bit for bit."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published_tables import exported, rows_of, source_of

from lakehouse.capture.publish import publish_snapshot
from lakehouse.capture.writer import TableWriter
from lakehouse.engines import open_engine
from lakehouse.table.catalog import Lake
from lakehouse.table.layout import STORE_TABLES
from lakehouse.table.storage import Storage
from oltp.store import Store
from ridelake.errors import BadInput
from ridelake.settings import LakeAddress

EVERY_TYPE = """
CREATE TYPE colour AS ENUM ('red', 'green "g"');
CREATE DOMAIN fare AS numeric(10, 2);
CREATE TABLE every (
    key bigint PRIMARY KEY, flag boolean, small smallint, whole integer, big bigint, half real, full_ float8,
    words text, few varchar(9), padded char(4), id uuid, raw bytea, day date, at timestamptz, wall timestamp,
    paint colour, price fare, precise numeric(38, 12)
);
INSERT INTO every VALUES
    (1, true, -32768, -2147483648, -9223372036854775808, '-0', 'NaN', '', '', '',
     '00000000-0000-0000-0000-000000000000', '', '0001-01-01', '0001-01-01 00:00:00+00',
     '0001-01-01 00:00:00', 'red', 0.00, 0.000000000001),
    (2, false, 32767, 2147483647, 9223372036854775807, 'Infinity', 1e-320,
     E'a "quote", it''s\\r\\n\\t\\\\N🚕', 'NULL', 'ab',
     'ffffffff-ffff-ffff-ffff-ffffffffffff', '\\x00ff0a', '9999-12-31', '9999-12-31 23:59:59.999999+00',
     '1969-12-31 23:59:59.999999', 'green "g"', -99999999.99, 12345678901234567890123456.123456789012);
INSERT INTO every (key) VALUES (3);
"""


def test_every_table_equals_its_rows(published):
    with (
        open_engine("postgres", published.settings, None) as rows,
        open_engine("duckdb", published.settings, published.epoch) as files,
    ):
        for table in STORE_TABLES:
            query = f"SELECT * FROM {table} ORDER BY 1"
            expected, found = rows.sql(query), files.sql(query)
            assert found.equals(expected), table
            assert published.epoch.tables[table].rows == len(expected)
            with published.store.connect() as connection:
                order_by = list(source_of(connection, table).order_by)
            for location in published.epoch.tables[table].locations:
                in_file = pq.ParquetFile(location).read()
                assert in_file.column_names == expected.column_names
                assert in_file.select(order_by).equals(
                    in_file.select(order_by).sort_by([(name, "ascending") for name in order_by])
                ), f"{table} is not sorted as declared in its file"


def test_nulls_extremes_and_special_text_are_stored_exactly(store: Store, tmp_path: Path):
    with store.connect() as connection:
        connection.execute(EVERY_TYPE)
        file = exported(connection, "every", tmp_path)
    table = pq.ParquetFile(file).read().sort_by("key")
    assert str(table.schema.field("precise").type) == "decimal128(38, 12)"
    assert table.schema.field("key").nullable is False
    first, second, third = table.to_pylist()
    assert set(third.values()) == {3, None}
    assert first["words"] == "" == first["few"]
    assert first["raw"] == b""
    assert first["padded"] == "    "
    assert (first["small"], first["whole"], first["big"]) == (-(2**15), -(2**31), -(2**63))
    assert str(first["half"]) == "-0.0"
    assert first["full_"] != first["full_"]
    assert first["at"] == datetime(1, 1, 1, tzinfo=UTC)
    assert str(first["precise"]) == "1E-12"
    assert second["words"] == 'a "quote", it\'s\r\n\t\\N🚕'
    assert second["few"] == "NULL"
    assert second["half"] == float("inf")
    assert second["full_"] == 1e-320
    assert second["id"] == "ffffffff-ffff-ffff-ffff-ffffffffffff"
    assert second["raw"] == b"\x00\xff\x0a"
    assert second["day"].isoformat() == "9999-12-31"
    assert second["at"] == datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
    assert second["wall"] == datetime(1969, 12, 31, 23, 59, 59, 999999)
    assert second["paint"] == 'green "g"'
    assert str(second["price"]) == "-99999999.99"
    assert str(second["precise"]) == "12345678901234567890123456.123456789012"


def test_files_end_at_row_groups_and_lose_no_row(store: Store, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("lakehouse.table.layout.ROW_GROUP_ROWS", 100)
    monkeypatch.setattr("lakehouse.capture.writer.RUN_ROWS", 200)
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 100)
    with store.connect() as connection:
        connection.execute(
            "CREATE TABLE many AS SELECT i::bigint, repeat('x', i % 7) AS x FROM generate_series(1, 999) i"
        )
        connection.execute("ALTER TABLE many ADD PRIMARY KEY (i)")
        table = source_of(connection, "many")
        rows = rows_of(connection, "many")
    writer = TableWriter(
        Storage.of(LakeAddress.at(tmp_path)), table, table.arrow_schema, str(tmp_path / "many")
    )
    writer.add_rows(rows.take(list(range(998, -1, -1))))
    files = writer.finish()
    assert [file.rows for file in files] == [200, 200, 200, 200, 199]
    together = pa.concat_tables([pq.ParquetFile(file.location).read() for file in files])
    assert together["i"].to_pylist() == list(range(1, 1000))
    assert [len(x) for x in together["x"].to_pylist()] == [i % 7 for i in range(1, 1000)]
    assert pq.read_metadata(files[0].location).num_row_groups == 2


def test_a_relation_that_is_not_a_table_with_a_key_is_refused_by_name(store: Store):
    with store.connect() as connection:
        connection.execute("CREATE TABLE odd (a int)")
        with pytest.raises(BadInput, match="there is no table nowhere in this database"):
            source_of(connection, "nowhere")
        connection.execute("CREATE SEQUENCE counted")
        with pytest.raises(BadInput, match="counted is not a table"):
            source_of(connection, "counted")


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "290000-01-01"])
def test_a_time_outside_of_arrows_range_is_refused(store: Store, moment: str):
    with store.connect() as connection:
        connection.execute("CREATE TABLE late (at timestamptz)")
        connection.execute("INSERT INTO late VALUES (%s)", (moment,))
        if moment == "290000-01-01":
            assert len(rows_of(connection, "late")) == 1  # Arrow's last microsecond is in the year 294247
        else:
            with pytest.raises(BadInput, match="column at contains infinity"):
                rows_of(connection, "late")
            assert connection.execute("SELECT 1").fetchone() == (1,), "the COPY is still active"


def test_an_empty_store_can_be_published(store: Store, lake: Lake, monkeypatch):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    epoch = publish_snapshot(store, lake)
    assert epoch.tables["rides"].rows == 0
    assert len(epoch.tables["rides"].locations) == 1
    assert len(pl.scan_iceberg(str(epoch.tables["rides"].metadata)).collect()) == 0


def test_any_iceberg_reader_opens_the_tables(published, monkeypatch):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    for table in STORE_TABLES:
        state = published.epoch.tables[table]
        read = pl.scan_iceberg(str(state.metadata)).collect().sort(pl.nth(0))
        assert read.equals(pl.scan_parquet(state.locations, glob=False).collect().sort(pl.nth(0)))


def test_the_files_are_laid_out_for_every_engine(published):
    metadata = pq.read_metadata(published.epoch.tables["rides"].locations[0])
    group = metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert [metadata.schema.column(s.column_index).name for s in group.sorting_columns] == [
        "city_id",
        "requested_at",
    ]
    assert all(column.has_column_index and column.has_offset_index for column in columns.values())
    plain = {name for name, column in columns.items() if column.compression != "ZSTD"}
    assert plain <= {name for name in columns if name.endswith(("_at", "_local"))}
    assert "DELTA_BINARY_PACKED" in columns["requested_at"].encodings
    assert "RLE_DICTIONARY" in columns["status"].encodings
    assert columns["request_id"].is_stats_set
