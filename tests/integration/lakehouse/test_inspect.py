"""The output of `ridelake xray` matches the stored bytes."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from terminal import on_a_terminal, ridelake

from lakehouse.inspect import XrayResult, xray_ride
from lakehouse.inspect.draw import CELL_BYTES, COLUMN, RIDE, VALUE, draw_xray, page_map
from lakehouse.inspect.heap_page import HEADER, parse_page, ride_in_heap
from lakehouse.inspect.parquet_pages import ride_in_files
from lakehouse.table.storage import Storage
from oltp.store import Store
from ridelake.errors import NotReady, RidelakeError, UsageError


@pytest.fixture(scope="module")
def scan(published_once) -> XrayResult:
    return xray_ride(published_once.settings, 1234)


@pytest.fixture
def reader(seeded_store: Store) -> Iterator[Store]:
    """The same store for a role that can only read."""
    name = f"xray_reader_{os.getpid()}"
    with seeded_store.connect() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN")
        admin.execute(f"GRANT USAGE ON SCHEMA ridelake TO {name}")
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA ridelake TO {name}")
        try:
            yield Store(make_conninfo(seeded_store.conninfo, user=name), seeded_store.server_version)
        finally:
            admin.execute(f"DROP OWNED BY {name}")
            admin.execute(f"DROP ROLE {name}")


def test_every_tuple_and_value_is_where_pageinspect_says(seeded_store: Store):
    """Including dead tuples and nulls."""
    with seeded_store.connect() as connection:
        connection.execute("CREATE EXTENSION pageinspect SCHEMA public")
        # Disable the triggers that prevent changes.
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE rides SET fare_cents = 77 WHERE ride_id IN (3, 5)")
        connection.execute("DELETE FROM rides WHERE ride_id = 7")
        block = connection.execute(
            "SELECT (ctid::text::point)[0]::int FROM rides WHERE ride_id = 4"
        ).fetchone()
        assert block == (0,)
        page = ride_in_heap(seeded_store, 4).page
        items = connection.execute(
            "SELECT lp, lp_off, lp_len, t_hoff, t_attrs FROM"
            " heap_page_item_attrs(get_raw_page('rides', 0), 'rides'::regclass) WHERE lp_flags = 1"
        ).fetchall()
        header = connection.execute(
            "SELECT lower::int, upper::int FROM page_header(get_raw_page('rides', 0))"
        ).fetchone()
    assert (page.lower, page.upper) == header
    assert len(items) > 40
    assert [(one.number, one.span.offset, one.span.bytes, one.header_bytes) for one in page.tuples] == [
        item[:4] for item in items
    ]
    content = page.content
    assert content is not None
    for one, (*_, values) in zip(page.tuples, items, strict=True):
        found = [span and content[span.offset : span.end] for span in one.columns.values()]
        assert found == values


def test_the_bytes_of_a_ride_decode_to_the_values_of_select(seeded_store: Store):
    with seeded_store.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE rides SET status = 'cancelled', cancel_reason = 'no_show', started_at = NULL"
            " WHERE ride_id = 9"
        )
        for ride_id in (1, 9, 1000):
            cursor = connection.execute("SELECT * FROM rides WHERE ride_id = %s", (ride_id,))
            row, names = cursor.fetchone(), [column.name for column in cursor.description or ()]
            values = ride_in_heap(seeded_store, ride_id).values
            assert dict(values) == dict(zip(names, row or (), strict=True))


def test_xray_creates_no_extension(published_once, scan: XrayResult):
    with published_once.store.connect() as connection:
        found = connection.execute("SELECT FROM pg_extension WHERE extname = 'pageinspect'").fetchall()
    assert scan.heap.page.content is not None
    assert found == []


def test_without_page_access_the_positions_are_computed_from_lengths(seeded_store: Store, reader: Store):
    """Without dead tuples in the page."""
    real, computed = ride_in_heap(seeded_store, 20), ride_in_heap(reader, 20)
    assert real.page.content is not None
    assert computed.page.content is None
    assert (computed.index_pages, computed.values) == (None, {})
    assert computed.page.tuples == real.page.tuples
    assert (computed.page.lower, computed.page.upper) == (real.page.lower, real.page.upper)
    assert computed.ride == real.ride


def test_an_invalid_page_is_refused():
    with pytest.raises(RidelakeError, match="its layout is not that of Postgres"):
        parse_page(0, bytes(8192), [])


def test_pages_fill_their_chunk_and_hold_every_row(scan: XrayResult, published_once):
    """Compared with DuckDB, which reads the footer itself."""
    file = scan.files.file.location
    footer = duckdb.sql(
        "SELECT path_in_schema, dictionary_page_offset, data_page_offset, total_compressed_size"
        " FROM parquet_metadata(?) WHERE row_group_id = ?",
        params=[duckdb_name(file), scan.files.group],
    ).fetchall()
    assert len(footer) == len(scan.files.chunks)
    for column, dictionary, data, size in footer:
        chunk = scan.files.chunk_of(column)
        kinds = [page.kind for page in chunk.pages]
        assert kinds == ["dictionary"] * bool(dictionary) + ["data"] * kinds.count("data")
        first = next(page for page in chunk.pages if page.kind == "data")
        assert (chunk.offset, first.offset, chunk.bytes) == (dictionary or data, data, size)
        place = chunk.offset
        for page in chunk.pages:
            assert page.offset == place
            place += page.bytes
        assert place == chunk.offset + size
        assert sum(page.values for page in chunk.pages if page.kind == "data") == scan.files.rows


def duckdb_name(path: str) -> str:
    """The path, with escaped glob characters."""
    return re.sub(r"([\[*?])", r"[\1]", path)


def test_the_ride_is_equal_in_both_and_a_change_is_reported(published):
    before = xray_ride(published.settings, 1234)
    assert {chunk.column: str(chunk.value) for chunk in before.files.chunks} == {
        name: str(value) for name, value in before.heap.values.items()
    }
    assert before.changed_columns == []
    with published.store.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE rides SET fare_cents = fare_cents + 1 WHERE ride_id = 1234")
    after = xray_ride(published.settings, 1234)
    assert after.changed_columns == ["fare_cents", "tx"]
    assert "Changed since epoch 1: fare_cents, tx." in "\n".join(map(str, draw_xray(after, 100)))


def test_bytes_to_read_are_computed_from_the_real_offsets(scan: XrayResult, published_once):
    files = [file.location for file in published_once.epoch.tables["rides"].files]
    (column,) = duckdb.sql(
        "SELECT sum(total_compressed_size) FROM parquet_metadata(?) WHERE path_in_schema = 'fare_cents'",
        params=[[duckdb_name(file) for file in files]],
    ).fetchall()[0]
    with published_once.store.connect() as connection:
        heap = connection.execute("SELECT pg_relation_size('rides')").fetchone()
    assert scan.column_bytes_in_files == column
    assert (scan.column_bytes_in_heap,) == heap
    assert scan.ride_bytes_in_heap == 8192 * 3  # the root and a leaf of the index, and the heap page
    assert scan.ride_bytes_in_files < scan.row_group_bytes + scan.files.footer_bytes + 1


def test_without_an_id_a_ride_from_the_middle_is_shown(published_once):
    storage, rides = Storage.of(published_once.settings.lake), published_once.epoch.tables["rides"]
    found = ride_in_files(storage, rides, None)
    assert found.row == found.rows // 2
    again = ride_in_files(storage, rides, found.chunk_of("ride_id").value)
    assert (again.file, again.group, again.row) == (found.file, found.group, found.row)


def test_the_map_marks_the_cells_of_the_ride_and_of_the_column(scan: XrayResult):
    page, ride = scan.heap.page, scan.heap.ride
    for columns, lines in ((60, 16), (100, 8)):
        shown = [str(line) for line in page_map(page, ride.number, "fare_cents", columns)]
        assert len(shown) == lines
        cells = "".join(line[7:] for line in shown)
        assert len(cells) * CELL_BYTES == page.page_bytes
        span = ride.columns["fare_cents"]
        assert span is not None
        assert cells.index(VALUE) == span.offset // CELL_BYTES
        assert cells.count(VALUE) == 1
        others = {
            one.columns["fare_cents"].offset // CELL_BYTES  # type: ignore[union-attr]
            for one in page.tuples
            if one.number != ride.number
        }
        assert {place for place, sign in enumerate(cells) if sign == COLUMN} == others
        pointer = (HEADER.size + 4 * (ride.number - 1)) // CELL_BYTES
        assert cells[pointer] == RIDE


def command(published, *arguments: str) -> list[str]:
    where = ["--home", str(published.settings.home), "--lake", published.settings.lake.root]
    return ["xray", *arguments, *where, "--dsn", str(published.settings.dsn)]


@pytest.mark.parametrize("columns", [60, 160])
def test_the_output_fits_60_columns_and_is_plain_in_a_pipe(published_once, columns: int):
    environment = os.environ | {"COLUMNS": str(columns)}
    done = ridelake(*command(published_once, "--ride", "1234"), environment=environment)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert max(map(len, lines)) <= columns
    assert sum(line.startswith("To read ") for line in lines) == 2
    assert done.stdout.count(VALUE) == 1 + 2 + lines_with_value_bar(lines)


def lines_with_value_bar(lines: list[str]) -> int:
    (bar,) = [line for line in lines if line.startswith("fare_cents ") and VALUE in line]
    return bar.count(VALUE)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colors_depend_on_the_terminal_and_no_color(published_once, no_color: str, coloured: bool):
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": no_color}
    shown = on_a_terminal(*command(published_once), environment=environment)
    assert VALUE in shown
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)) == coloured


def test_the_json_report_has_positions_and_bytes(published_once, scan: XrayResult):
    report = json.loads(ridelake(*command(published_once, "--ride", "1234", "--json")).stdout)
    assert report["bytes_touched"]["column"] == {
        "row_major": scan.column_bytes_in_heap,
        "column_major": scan.column_bytes_in_files,
    }
    assert report["heap"]["values"]["ride_id"] == 1234
    assert [one["offset"] for one in report["heap"]["tuples"]] == [
        one.span.offset for one in scan.heap.page.tuples
    ]
    assert [chunk["offset"] for chunk in report["row_group"]["chunks"]] == [
        chunk.offset for chunk in scan.files.chunks
    ]


def test_an_unknown_ride_or_column_is_one_line(published):
    for arguments, message in (
        (["--ride", "999999"], "there is no ride 999999"),
        (["--column", "fare"], "the table rides has no column 'fare': choose one of ride_id"),
    ):
        done = ridelake(*command(published, *arguments))
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    with psycopg.connect(published.store.conninfo, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM rides WHERE ride_id = 1234")
    with pytest.raises(NotReady, match="no longer in Postgres"):
        xray_ride(published.settings, 1234)
    with pytest.raises(UsageError):
        xray_ride(published.settings, 0)


def test_without_an_epoch_the_error_names_the_command(seeded_store: Store, tmp_path: Path):
    done = ridelake("xray", "--dsn", seeded_store.conninfo, "--lake", tmp_path / "no")
    assert done.returncode == 2
    assert "run `ridelake snapshot`" in done.stderr
