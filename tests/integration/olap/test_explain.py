"""`--why` reports only measured numbers, and they match an independent count."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from installed_engines import QUICK_ENGINES
from terminal import place_options, ridelake

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import ENGINE_NAMES, ENGINES, open_engine
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import DataFile, Epoch, SnapshotToken, TableState
from lakehouse.table.published import newest_epoch
from olap.ask import ask
from olap.explain import explain_answers
from olap.explain.report import reason_sentence, scan_bars, scan_numbers
from olap.explain.scans import COUNTED_IN_CHILD, COUNTED_IN_PROCESS, ScanShare, ScanStats, scans_of, tables_of
from olap.question import ad_hoc_question
from oltp.store import Store
from ridelake.errors import ProofFailed
from ridelake.settings import LakeAddress, Settings

FILES, GROUPS, ROWS = 2, 4, 40_000  # files, row groups per file, rows per row group
COLUMNS = ("a", "b", "c", "d", "e")
CHUNK_BYTES = ROWS * 8  # random integers without encoding and compression
AROUND_A_FILE = 300_000  # for the footer, Polars reads the last 256 kB of a file

READ_FILES = [
    pytest.param(name, marks=[] if name in QUICK_ENGINES else pytest.mark.slow)
    for name in ENGINE_NAMES
    if name in COUNTED_IN_PROCESS | COUNTED_IN_CHILD and ENGINES[name].version() is not None
]


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> tuple[Settings, Epoch]:
    """A table of known size. Row group N contains only city N. Each row has five columns of eight bytes."""
    # Characters with a special meaning in glob patterns and in SQL.
    folder = tmp_path_factory.mktemp("wide") / "la[k]e *? 'q"
    folder.mkdir()
    random = np.random.default_rng(7)
    files = []
    for number in range(FILES):
        path = folder / f"wide-{number}.parquet"
        rows = ROWS * GROUPS
        cities = np.repeat(np.arange(number * GROUPS, (number + 1) * GROUPS, dtype=np.int32), ROWS)
        columns = {name: random.integers(0, 2**62, rows) >> 20 for name in COLUMNS}
        pq.write_table(
            pa.table({"city": cities} | columns),
            path,
            row_group_size=ROWS,
            compression="none",
            use_dictionary=False,
        )
        files.append(DataFile(str(path), rows, path.stat().st_size, ""))
    state = TableState("public.wide", 1, "", tuple(files), 1, "")
    token = SnapshotToken("1:1:", "2026-01-01T00:00:00+00:00", "0/0", None, None)
    epoch = Epoch(1, "full", datetime(2026, 1, 1, tzinfo=UTC), {"": token}, {"wide": state}, 0.0)
    return Settings(home=folder, lake=LakeAddress.at(folder)), epoch


def stats(wide: tuple[Settings, Epoch], engine: str, sql: str) -> ScanStats:
    settings, epoch = wide
    with open_engine(engine, settings, epoch) as opened:
        asked = ask(ad_hoc_question(sql), [opened], epoch, rounds_max=1)
        return explain_answers(asked, [opened], epoch)[engine]


@pytest.mark.parametrize("engine", READ_FILES)
def test_one_column_reads_its_chunks_only(wide, engine: str):
    scan_stats = stats(wide, engine, "SELECT sum(a) AS s FROM wide")
    chunks = FILES * GROUPS * CHUNK_BYTES
    assert scan_stats.bytes is not None
    assert chunks <= scan_stats.bytes <= chunks + FILES * AROUND_A_FILE
    assert scan_stats.bytes_total == wide[1].bytes > 5 * chunks
    assert scan_stats.columns in (ScanShare(1, 6), None)
    assert scan_stats.row_groups in (ScanShare(8, 8), None)


@pytest.mark.parametrize("engine", READ_FILES)
def test_one_city_reads_its_row_group_only(wide, engine: str):
    scan_stats = stats(wide, engine, "SELECT sum(a) AS s FROM wide WHERE city = 5")
    assert scan_stats.bytes is not None
    assert CHUNK_BYTES <= scan_stats.bytes <= CHUNK_BYTES + ROWS * 4 + FILES * AROUND_A_FILE
    assert scan_stats.row_groups in (ScanShare(1, 8), None)
    assert scan_stats.columns in (ScanShare(2, 6), None)


def test_duckdb_and_polars_report_row_groups_and_columns(wide):
    """The two tests above also pass with None, so these engines must report numbers."""
    for engine in ("duckdb", "polars"):
        scan_stats = stats(wide, engine, "SELECT sum(a) AS s, max(b) AS m FROM wide WHERE city IN (1, 6)")
        assert (scan_stats.row_groups, scan_stats.columns) == (ScanShare(2, 8), ScanShare(3, 6)), engine
        assert scan_stats.files == ScanShare(2, 2)
    assert stats(wide, "duckdb", "SELECT a FROM wide WHERE city = 5").rows_past_filters == ROWS


def test_all_columns_read_everything(wide):
    """With all columns and without a filter, nothing can be skipped."""
    for engine in ("duckdb", "polars"):
        scan_stats = stats(wide, engine, "SELECT * FROM wide ORDER BY a, b, c LIMIT 1")
        assert scan_stats.bytes is not None
        assert scan_stats.bytes >= FILES * GROUPS * CHUNK_BYTES


def test_duckdb_explains_a_query_whose_plan_begins_with_a_cte(wide):
    twice = "SELECT city FROM few UNION SELECT city FROM few"
    query = f"WITH few AS MATERIALIZED (SELECT city FROM wide WHERE city < 2) {twice}"
    assert stats(wide, "duckdb", query).rows_returned == 2


def test_an_engine_whose_reads_are_not_counted_has_no_bytes(wide):
    """The count is wrong if an engine maps files into memory, as chDB does by default."""
    settings, epoch = wide
    with open_engine("duckdb", settings, epoch) as engine:
        masked = SimpleNamespace(
            name="another", sql=engine.sql, interrupt=engine.interrupt, version=engine.version
        )
        asked = ask(ad_hoc_question("SELECT sum(a) AS s FROM wide"), [masked], epoch, rounds_max=1)
        scan_stats = explain_answers(asked, [masked], epoch)["another"]
    assert (scan_stats.bytes, scan_stats.row_groups, scan_stats.columns) == (None, None, None)
    assert reason_sentence(scan_stats) == "another: not measured."


def test_duckdbs_count_of_bytes_matches_the_kernel(wide):
    settings, epoch = wide
    question = ad_hoc_question("SELECT sum(a) AS s, sum(b) AS t FROM wide WHERE city > 2")
    with open_engine("duckdb", settings, epoch) as engine:
        reported = scans_of(engine, question, 1, epoch).bytes
    counted = stats(wide, "duckdb", question.sql).bytes
    assert reported is not None
    assert counted is not None
    assert reported == pytest.approx(counted, abs=FILES * 16_384)  # the binder reads the footers again


@pytest.fixture
def postgres(seeded_store: Store, tmp_path: Path) -> Iterator[SimpleNamespace]:
    settings = Settings(home=tmp_path, lake=LakeAddress.at(tmp_path / "lake"), dsn=seeded_store.conninfo)
    with open_engine("postgres", settings, None) as engine, seeded_store.connect() as connection:
        yield SimpleNamespace(engine=engine, connection=connection)


def postgres_stats(postgres: SimpleNamespace, sql: str) -> ScanStats:
    asked = ask(ad_hoc_question(sql), [postgres.engine], None, rounds_max=1)
    return explain_answers(asked, [postgres.engine], None)["postgres"]


def test_a_sequential_scan_visits_every_page_of_the_table(postgres):
    pages, rows = postgres.connection.execute(
        "SELECT pg_relation_size('rides') / 8192, (SELECT count(*) FROM rides)"
    ).fetchone()
    scan_stats = postgres_stats(postgres, "SELECT sum(fare_cents) FROM rides WHERE fare_cents > 999999999")
    assert (scan_stats.pages_hit or 0) + (scan_stats.pages_read or 0) == pages
    assert scan_stats.bytes == pages * 8192
    assert (scan_stats.rows_scanned, scan_stats.rows_exact, scan_stats.rows_returned) == (rows, True, 1)
    assert (scan_stats.index_scans, scan_stats.sequential_scans) == ((), ("rides",))
    assert "scanned 2,000 rows to return 1, with a sequential scan of rides" in reason_sentence(scan_stats)


def test_a_look_up_reads_the_index_levels_and_one_page(postgres):
    postgres.connection.execute("CREATE EXTENSION pageinspect SCHEMA public")
    (levels,) = postgres.connection.execute("SELECT fastlevel + 1 FROM bt_metap('rides_pkey')").fetchone()
    scan_stats = postgres_stats(postgres, "SELECT * FROM rides WHERE ride_id = 1234")
    assert (scan_stats.pages_hit or 0) + (scan_stats.pages_read or 0) == levels + 1
    assert (scan_stats.rows_scanned, scan_stats.rows_returned) == (1, 1)
    assert (scan_stats.index_scans, scan_stats.sequential_scans) == (("rides_pkey",), ())
    assert "scanned 1 row to return 1, with the index rides_pkey" in reason_sentence(scan_stats)


def test_pages_read_into_shared_buffers_are_counted_separately(postgres):
    postgres.connection.execute("CREATE EXTENSION pg_buffercache SCHEMA public")
    postgres.connection.execute("CHECKPOINT")
    evict = (
        "SELECT count(*) FILTER (WHERE (pg_buffercache_evict(bufferid)).buffer_evicted) FROM pg_buffercache"
        " WHERE relfilenode = pg_relation_filenode('rides') AND reldatabase ="
        " (SELECT oid FROM pg_database WHERE datname = current_database()) AND relforknumber = 0"
    )
    asked = ask(
        ad_hoc_question("SELECT * FROM rides WHERE ride_id = 1234"), [postgres.engine], None, rounds_max=1
    )
    assert postgres.connection.execute(evict).fetchone()[0] > 0
    scan_stats = explain_answers(asked, [postgres.engine], None)["postgres"]
    assert (scan_stats.pages_hit, scan_stats.pages_read) == (2, 1)
    assert "2 found in shared buffers, 1 read into them" in reason_sentence(scan_stats)


def test_rows_that_changed_between_the_runs_are_an_error(postgres):
    asked = ask(
        ad_hoc_question("SELECT city_id, name FROM cities ORDER BY 1"), [postgres.engine], None, rounds_max=1
    )
    postgres.connection.execute("INSERT INTO cities VALUES (99, 'Atlantis', 'UTC')")
    with pytest.raises(ProofFailed, match="a second run returned 5 rows instead of 4"):
        explain_answers(asked, [postgres.engine], None)


def test_a_different_answer_in_the_second_run_is_an_error(wide):
    """`ask` compares engines. `explain_answers` compares the answer with that of the measured run."""
    settings, epoch = wide
    with ExitStack() as opened:
        engine = opened.enter_context(open_engine("duckdb", settings, epoch))
        asked = ask(ad_hoc_question("SELECT sum(a) AS s FROM wide"), [engine], epoch, rounds_max=1)
        (run,) = asked.runs
        wrong = replace(asked, runs=(replace(run, answer=pa.table({"s": [1]})),))
        with pytest.raises(ProofFailed, match="cannot explain the answer of duckdb: a second run differs"):
            explain_answers(wrong, [engine], epoch)


def test_tables_are_found_in_views_parameters_and_subqueries(settings: Settings):
    epoch = newest_epoch(settings.lake)
    assert tables_of("SELECT avg(Price) FROM RideTable", epoch) == {"rides", "riders", "cities"}
    assert tables_of("WITH x AS (SELECT * FROM Rides WHERE ride_id = $r) SELECT * FROM x", epoch) == {"rides"}
    assert tables_of("SELECT 'FROM riders'", epoch) == set()
    assert tables_of("SELEC", epoch) is None or tables_of("SELEC", epoch) == set()


def test_missing_measurements_are_reported_as_not_measured():
    unmeasured = ScanStats(engine="daft", layout="column-major", rows_returned=3)
    assert reason_sentence(unmeasured) == "daft: not measured."
    assert scan_numbers(unmeasured) == (
        "rows returned 3 · not measured: bytes, files, row groups, columns, rows past filters, rows decoded"
    )
    bytes_only = replace(unmeasured, bytes=1_234, bytes_total=4_936)
    assert (
        reason_sentence(bytes_only)
        == "daft read 1.23 kB of the 4.94 kB in its files (25.0%), to return 3 rows."
    )
    assert (
        reason_sentence(ScanStats(engine="postgres", layout="row-major", rows_returned=1))
        == "postgres: not measured."
    )


def test_bars_share_one_scale():
    scan_stats = {
        "postgres": ScanStats(engine="postgres", layout="row-major", rows_returned=1, bytes=4_000_000),
        "duckdb": ScanStats(engine="duckdb", layout="column-major", rows_returned=1, bytes=1_000_000),
        "polars": ScanStats(engine="polars", layout="column-major", rows_returned=1, bytes=3),
        "daft": ScanStats(engine="daft", layout="column-major", rows_returned=1),
    }
    for columns in (60, 100):
        head, *lines, legend = [
            str(line) for line in scan_bars(scan_stats, dict.fromkeys(scan_stats, 0.5), columns)
        ]
        assert max(map(len, (head, *lines, legend))) <= columns
        rows, quarter = lines[0].count("▓"), lines[1].count("▒")
        assert rows == columns - len("postgres") - len("not measured") - len("seconds") - 4
        assert quarter == pytest.approx(rows / 4, abs=1)
        assert "▏" in lines[2]
        assert "not measured" in lines[3]
        assert "▏" not in lines[3]


@pytest.mark.slow
def test_reasons_are_on_stderr_in_60_columns_without_escapes(settings: Settings):
    environment = os.environ | {"COLUMNS": "60"}
    done = ridelake(
        *place_options(settings),
        *("ask", "average_price", "--why", "--engine", "postgres,duckdb,polars"),
        environment=environment,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2  # only the answer
    assert "\x1b" not in done.stderr
    reasons = done.stderr[done.stderr.index("postgres scanned") :].splitlines()
    assert max(map(len, reasons)) <= 60
    printed = " ".join(done.stderr.split())
    assert re.search(r"postgres scanned (≈ )?[\d,]+ rows to return 1", printed)
    assert re.search(
        r"duckdb read [\d.]+ kB of the [\d.]+ kB in its files \([\d.]+%\): 8 of 26 columns", printed
    )
    assert re.search(r"polars read [\d.]+ kB", printed)
    assert "▓ row-major ▒ column-major" in printed


def test_the_json_report_has_the_numbers(settings: Settings):
    done = ridelake(
        *place_options(settings),
        *("sql", "--why", "--json", "--engine", "postgres,duckdb,polars"),
        *("SELECT count(*) AS n FROM rides WHERE fare_cents > $c", "-p", "c=3000"),
    )
    assert done.returncode == 0, done.stderr
    rows, duckdb, polars = json.loads(done.stdout)["engines"]
    assert rows["scan_stats"]["layout"] == "row-major"
    assert rows["scan_stats"]["bytes"] == 8192 * (
        rows["scan_stats"]["pages_hit"] + rows["scan_stats"]["pages_read"]
    )
    assert duckdb["scan_stats"]["columns"] == {"read": 1, "total": 17}
    assert 0 < duckdb["scan_stats"]["bytes"] <= duckdb["scan_stats"]["bytes_total"]
    assert polars["why"].startswith("polars read ")


def test_delete_files_are_counted(seeded_store: Store, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 100)  # otherwise the table is rewritten
    settings = Settings(tmp_path, LakeAddress.at(tmp_path / "lake"))
    lake = Lake.create(settings.lake)
    publish_snapshot(seeded_store, lake)
    with seeded_store.connect() as connection:
        changed = connection.execute(
            "UPDATE accounts SET balance_cents = balance_cents + 1 WHERE account_id % 50 = 0"
        ).rowcount
    epoch = publish_changes(seeded_store, lake).epoch
    deletes = sum(Path(file.location).stat().st_size for file in epoch.tables["accounts"].deletes)
    assert deletes > 0
    scan_stats = stats((settings, epoch), "duckdb", "SELECT sum(balance_cents) AS s FROM accounts")
    assert (scan_stats.deletes, scan_stats.rows_deleted) == (deletes, changed)
    assert reason_sentence(scan_stats).endswith(f"exclude {changed} rows.")
    unchanged = stats((settings, epoch), "duckdb", "SELECT count(zone_id) AS n FROM zones")
    assert (unchanged.deletes, unchanged.rows_deleted) == (0, 0)
    assert "Delete files" not in reason_sentence(unchanged)


def test_queries_without_scans_or_plans_are_answered_but_not_explained(settings: Settings):
    """DuckDB takes max(fare_cents) from the statistics in the footer."""
    epoch = newest_epoch(settings.lake)
    with open_engine("duckdb", settings, epoch) as engine:
        for query in ("SELECT max(fare_cents) AS m FROM rides", "DESCRIBE rides"):
            scan_stats = explain_answers(
                ask(ad_hoc_question(query), [engine], epoch, rounds_max=1), [engine], epoch
            )["duckdb"]
            assert (scan_stats.row_groups, scan_stats.columns, scan_stats.rows_past_filters) == (
                None,
                None,
                None,
            )
            assert scan_stats.bytes is not None
            assert scan_stats.bytes < epoch.tables["rides"].bytes
            assert "not measured: files, row groups, columns" in scan_numbers(scan_stats)
