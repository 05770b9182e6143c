"""Engines in child processes: a crash of one does not affect others, and nothing is left."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from installed_engines import EVERY_ENGINE_IN_SUBPROCESS

from lakehouse.engines import open_engine, open_engines
from lakehouse.engines.subprocess_engine import SubprocessEngine
from olap.ask import timed
from olap.question import ad_hoc_question
from ridelake.errors import NotReady, QueryRejected, TimedOut
from ridelake.settings import LakeAddress, Settings

LONG = "SELECT count(*) FROM rides a, rides b, rides c, rides d WHERE a.ride_id <> d.ride_id"
COUNT = "SELECT count(*) AS n FROM rides"


@pytest.fixture(scope="module")
def published(published_once):
    return published_once


@pytest.fixture
def engine(published):
    with open_engine("datafusion", published.settings, published.epoch) as engine:
        yield engine


def children() -> list[psutil.Process]:
    running = psutil.Process().children(recursive=True)
    return [process for process in running if "serve_engine" in str(process.cmdline())]


def kill(number: signal.Signals) -> None:
    (child,) = children()
    os.kill(child.pid, number)


@pytest.mark.slow
def test_a_crash_is_one_line_and_the_next_query_works(engine):
    for number, reason in (
        (signal.SIGSEGV, "SIGSEGV"),
        (signal.SIGKILL, "SIGKILL, perhaps because memory ran"),
    ):
        kill(number)
        with pytest.raises(QueryRejected) as crashed:
            engine.sql(COUNT)
        assert str(crashed.value).startswith("datafusion: its process ended unexpectedly (" + reason)
        assert "\n" not in str(crashed.value)
        assert engine.sql(COUNT)["n"].to_pylist() == [2000]


@pytest.mark.slow
def test_a_crash_during_a_query_does_not_affect_other_engines(published):
    with open_engines(["duckdb", "datafusion"], published.settings, published.epoch) as (duckdb, datafusion):
        threading.Timer(0.5, kill, [signal.SIGABRT]).start()
        with pytest.raises(QueryRejected, match="its process ended"):
            datafusion.sql(
                "SELECT count(*) FROM rides a, rides b, rides c, rides d WHERE a.ride_id <> d.ride_id"
            )
        assert duckdb.sql(COUNT)["n"].to_pylist() == [2000]


def test_no_process_and_no_folder_is_left(published):
    with open_engine("datafusion", published.settings, published.epoch) as engine:
        folder = Path(engine._folder.name)
        assert children()
        assert folder.is_dir()
        engine.sql(COUNT)
    assert not children()
    assert not folder.exists()


def test_spilled_files_of_an_interrupted_query_are_deleted(
    published, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("POLARS_OOC_MEMORY_BUDGET_MB", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spilled: list[Path] = []

    def interrupt_once_it_spills() -> None:
        until = time.monotonic() + 60
        while not spilled and time.monotonic() < until:
            spilled.extend(tmp_path.rglob("spill-*"))
            time.sleep(0.01)
        engine.interrupt()

    with open_engine("polars", published.settings, published.epoch) as engine:
        interrupter = threading.Thread(target=interrupt_once_it_spills)
        interrupter.start()
        with pytest.raises(QueryRejected, match="interrupted"):
            engine.sql("SELECT a.* FROM rides a CROSS JOIN rides b ORDER BY a.distance_metres, b.ride_id")
        interrupter.join()
    assert spilled
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_between_queries_changes_nothing(engine):
    before = children()
    engine.interrupt()
    assert engine.sql(COUNT)["n"].to_pylist() == [2000]
    assert children() == before


@pytest.mark.slow
def test_a_child_whose_parent_is_killed_exits(published, tmp_path: Path):
    script = (
        "import pickle, sys, time; from lakehouse.engines.subprocess_engine import start_engine\n"
        "with start_engine('datafusion', *pickle.load(sys.stdin.buffer), cancels=False) as engine:\n"
        "    engine.ready(); print(engine._process.pid, engine._folder.name, flush=True)\n"
        f"    engine.sql('{LONG}')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        pickle.dump((published.settings, published.epoch), parent.stdin)
        parent.stdin.close()
        pid, folder = parent.stdout.readline().decode().split()
        child = psutil.Process(int(pid))
        time.sleep(0.3)
        parent.kill()
    try:
        child.wait(5)
        assert not Path(folder).exists()
    finally:
        if child.is_running():
            child.kill()


@pytest.mark.parametrize("name", EVERY_ENGINE_IN_SUBPROCESS)
def test_only_the_pinned_files_are_read(name, published, tmp_path: Path):
    """The engine ignores other files in the folder, and does not use the settings of the lake."""
    table = published.epoch.tables["cities"]
    decoy = Path(table.locations[0]).with_name("decoy.parquet")
    pq.write_table(pq.read_table(table.locations[0]), decoy)
    away = Settings(home=tmp_path, lake=LakeAddress.at(tmp_path / "nowhere"), dsn="host=/nowhere")
    try:
        with open_engine(name, away, published.epoch) as engine:
            answer = engine.sql("SELECT count(*) AS n FROM cities")
            assert answer["n"].to_pylist() == [table.rows]
    finally:
        decoy.unlink()


def test_a_large_result_is_complete_and_in_order(engine):
    answer = engine.sql("SELECT a.ride_id FROM rides a CROSS JOIN cities ORDER BY a.ride_id")
    assert answer.num_rows == 2000 * engine.sql("SELECT count(*) AS n FROM cities")["n"][0].as_py()
    assert answer["ride_id"].to_pylist() == sorted(answer["ride_id"].to_pylist())
    assert isinstance(answer, pa.Table)


def test_the_error_for_a_missing_engine_says_how_to_install_it(published, monkeypatch):
    monkeypatch.setattr("lakehouse.engines.find_spec", lambda _: None)
    with pytest.raises(
        NotReady, match=r"engine chdb is not installed: run `pip install 'ridelake\[engines\]'`"
    ):
        with open_engine("chdb", published.settings, published.epoch):
            pass


def test_an_error_during_the_start_of_an_engine_is_raised_in_the_parent(published):
    broken = SubprocessEngine("daft", published.settings, published.epoch)
    broken._what = ("daft", published.settings, None)  # type: ignore[assignment]
    broken.start()
    try:
        with pytest.raises(QueryRejected, match="daft: AttributeError"):
            broken.ready()
    finally:
        broken.close()


def test_a_cancelled_query_does_not_end_the_next_one(published, monkeypatch):
    """The timeout of the first query must not kill the second query."""
    monkeypatch.setattr("lakehouse.engines.subprocess_engine.CANCEL_SECONDS", 0.5)
    engine = SubprocessEngine("datafusion", published.settings, published.epoch, cancels=True)
    engine.start()
    try:
        engine.ready()
        before = children()
        engine._busy.set()  # simulate a query that ends immediately
        engine.interrupt()
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:  # a query is running when the timeout expires
            assert engine.sql(COUNT)["n"].to_pylist() == [2000]
        assert children() == before
    finally:
        engine.close()


@pytest.mark.slow
def test_a_start_that_exceeds_the_timeout_is_not_aborted(published):
    """After a crash, the engine starts again in the next query. Its timeout must not abort the start."""
    question = ad_hoc_question(COUNT, {})
    with open_engine("polars", published.settings, published.epoch) as engine:
        kill(signal.SIGKILL)
        with pytest.raises(QueryRejected, match="ended unexpectedly"):
            engine.sql(COUNT)
        with pytest.raises(TimedOut):
            timed(engine, question, timeout_seconds=0.02)
        answer, _ = timed(engine, question, timeout_seconds=20)
        assert answer["n"].to_pylist() == [2000]
        with pytest.raises(TimedOut):  # the engine has started now, so the timeout applies
            timed(engine, ad_hoc_question(LONG, {}), timeout_seconds=0.5)
        with pytest.raises(TimedOut):
            timed(engine, question, timeout_seconds=0.02)
        (process,) = children()
        answer, _ = timed(engine, question, timeout_seconds=20)
        assert answer["n"].to_pylist() == [2000]
        assert children() == [process]
