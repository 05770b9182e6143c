"""`ridelake sync` as a long-running process: with bookings, a restart of Postgres, and Ctrl-C."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bare_database import run
from private_server import private_server
from terminal import COMMAND, answer, command_running, ridelake

from lakehouse.capture.publish import publish_snapshot
from lakehouse.capture.sync import sync_once, sync_repeatedly
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.published import newest_epoch, read_epochs
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.settings import LakeAddress


@contextmanager
def syncing(store: Store, folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    flags = ["--dsn", store.conninfo, "--lake", folder, *more]
    with command_running("sync", "--every", "0.2", *flags) as process:
        yield process


def ended(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> tuple[str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, err
    return out, err


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


@pytest.mark.slow
def test_every_epoch_prints_a_line_until_ctrl_c(store: Store, tmp_path: Path):
    metrics = tmp_path / "sync.prom"
    with syncing(store, tmp_path / "lake", "--metrics", str(metrics)) as process:
        assert line_of(process).startswith("epoch 1: ")
        time.sleep(1)
        assert f'ridelake_sync_epoch_number{{lake="{tmp_path}/lake"}} 1\n' in metrics.read_text()
        run(store, "INSERT INTO accounts (kind, balance_cents) VALUES ('rider', 0)")
        assert line_of(process).startswith("epoch 2: 1 rows changed, 0 deleted; ")
        out, err = ended(process)
    assert out == "", "an iteration without an epoch printed a line"
    begun, interrupted = (line for line in err.splitlines() if line)  # click prints a newline after ^C
    assert begun == f"publishing an epoch to {tmp_path}/lake every 0.2 s; press Ctrl-C to stop"
    assert interrupted == "ridelake: interrupted"


@pytest.mark.slow
def test_json_prints_one_document_per_line(store: Store, tmp_path: Path):
    with syncing(store, tmp_path / "lake", "--json", "--verify") as process:
        for number in (1, 2):
            report = json.loads(line_of(process))
            assert (report["epoch"], report["new"], report["trouble"], report["verified"]) == (
                number,
                True,
                None,
                True,
            )
            run(store, "INSERT INTO accounts (kind, balance_cents) VALUES ('rider', 0)")
        ended(process, signal.SIGTERM)
    once = json.loads(
        answer("sync", "--once", "--json", "--dsn", store.conninfo, "--lake", tmp_path / "lake")
    )
    assert once["epoch"] in (2, 3)


@pytest.mark.slow
def test_a_terminal_shows_one_line_that_fits(store: Store, tmp_path: Path):
    ours, theirs = pty.openpty()
    flags = ["--dsn", store.conninfo, "--lake", str(tmp_path / "lake")]
    process = subprocess.Popen(
        [*COMMAND, "sync", "--every", "0.1", *flags],
        stdout=theirs, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "40"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while shown.count(b"\r\x1b[K") < 4:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    os.close(ours)
    first, *more = shown.decode().split("\r\x1b[K")
    assert first == ""
    assert more[0].startswith("epoch 1: ")
    assert "up to date" not in more[0]
    assert more[1].startswith("epoch 1 is up to date")
    assert all(len(line.rstrip()) <= 39 and "\n" not in line for line in more[:-1])


@pytest.mark.slow
def test_syncing_resumes_after_a_restart_of_postgres(tmp_path: Path):
    with private_server() as server:
        flags = ["--dsn", server.store.conninfo, "--lake", tmp_path / "lake"]
        with syncing(server.store, tmp_path / "lake") as process:
            assert line_of(process).startswith("epoch 1: ")
            server.kill()
            time.sleep(1)
            assert "Postgres" in line_of(process), "the error was not printed"
            server.start()
            run(server.store, "INSERT INTO accounts (kind, balance_cents) VALUES ('rider', 0)")
            seen = [line_of(process)]
            while not seen[-1].startswith("epoch 2: 1 rows changed"):
                assert "ostgres" in seen[-1], seen
                seen.append(line_of(process))
            assert len(seen) < 6, seen
            ended(process)
        assert "equals Postgres" in answer("verify", *flags)
        server.stop()
        failed = ridelake("sync", "--once", *flags)
        assert (failed.returncode, failed.stderr.count("\n")) == (3, 1)


@pytest.mark.slow
def test_syncing_during_a_simulation_ends_equal(seeded_store: Store, tmp_path: Path):
    with syncing(seeded_store, tmp_path / "lake") as process:
        line_of(process)
        simulated = ridelake("simulate", "--clients", "4", "--seconds", "20", "--dsn", seeded_store.conninfo)
        assert simulated.returncode == 0, simulated.stderr
        time.sleep(2)
        out, _ = ended(process)
    assert all(line.startswith("epoch ") for line in out.splitlines())
    lake = Lake.create(LakeAddress.at(tmp_path / "lake"))
    assert newest_epoch(lake.address).number > 10
    assert {epoch.kind for epoch in read_epochs(lake.address)} <= {"full", "changes", "maintenance"}
    verify_now(seeded_store, lake).prove()


@pytest.mark.slow
def test_a_sync_with_a_conflict_reports_that_it_retries(seeded_store: Store, tmp_path: Path, monkeypatch):
    lake = Lake.create(LakeAddress.at(tmp_path / "lake"))
    publish_snapshot(seeded_store, lake)
    publish, races = Lake.publish, iter([True])

    def publish_second(self: Lake, *arguments: Any, **more: Any) -> None:
        if next(races, False):
            monkeypatch.undo()
            publish_snapshot(seeded_store, lake)
        publish(self, *arguments, **more)

    monkeypatch.setattr(Lake, "publish", publish_second)
    with seeded_store.connect() as connection:
        connection.execute("UPDATE riders SET username = 'of a conflict' WHERE rider_id = 1")
        connection.execute("UPDATE drivers SET status = 'offline' WHERE status = 'available'")
    turns = sync_repeatedly(0.01, seeded_store, lake)
    lost = next(turns)
    assert lost.trouble == ("another process published an epoch first; `ridelake sync` retries every 0.2 s")
    assert next(turns).trouble is None
    monkeypatch.setattr(Lake, "publish", publish_second)
    races = iter([True])
    with seeded_store.connect() as connection:
        connection.execute("UPDATE riders SET username = 'of another' WHERE rider_id = 1")
    with pytest.raises(
        CommitConflict,
        match=r"cannot publish epoch \d+: another process published it first; run .* again",
    ):
        sync_once(seeded_store, lake)


def test_a_snapshot_of_a_store_without_rides_hints_at_seed(store: Store, tmp_path: Path):
    done = ridelake("snapshot", "--dsn", store.conninfo, "--lake", tmp_path / "lake")
    assert done.returncode == 0
    assert "the ride store has no rides: run `ridelake seed`" in done.stderr
