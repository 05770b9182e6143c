"""`ridelake sync --metrics` writes a file in the text format of Prometheus."""

import re
import time
from pathlib import Path

import pytest
from bare_database import run
from terminal import refusal

from lakehouse.capture.metrics import HELP, SyncMetrics
from lakehouse.capture.sync import SyncResult, sync_once
from lakehouse.table.catalog import Lake
from oltp.store import Store
from ridelake.errors import UsageError

SAMPLE = re.compile(r'ridelake_sync_(\w+)\{lake="((?:[^"\\\n]|\\["\\n])*)"\} ([0-9.]+)')


def samples(path: Path) -> dict[str, float]:
    """The values by name. Checks that every sample follows its HELP and TYPE, as the format requires."""
    lines = path.read_text().splitlines()
    found = {}
    for about, kind, sample in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        parts = SAMPLE.fullmatch(sample)
        assert parts is not None, sample
        name = f"ridelake_sync_{parts[1]}"
        assert about == f"# HELP {name} {HELP[parts[1]][1]}"
        assert kind == f"# TYPE {name} {HELP[parts[1]][0]}"
        assert (kind.endswith(" counter")) == name.endswith("_total")
        found[parts[1]] = float(parts[3])
    return found


def test_each_iteration_is_counted(orders: Store, lake: Lake, tmp_path: Path):
    path = tmp_path / "ridelake.prom"
    metrics = SyncMetrics(path, 's3://a/"b"\\c\n')
    metrics.write()
    assert samples(path) == {
        "epochs_total": 0, "rows_changed_total": 0, "rows_deleted_total": 0, "failures_total": 0
    }  # fmt: skip
    run(orders, "UPDATE orders SET what = 'x' WHERE id <= 10", "DELETE FROM orders WHERE id > 997")
    assert metrics.record(sync_once(orders, lake)) is None
    found = samples(path)
    assert found["epoch_number"] == 2
    assert (found["epoch_rows"], found["rows_changed_total"], found["rows_deleted_total"]) == (997, 10, 3)
    assert found["epoch_bytes"] > 0
    assert 0 <= found["lag_seconds"] < 60
    assert abs(found["success_timestamp_seconds"] - time.time()) < 60
    metrics.record(sync_once(orders, lake))  # nothing has changed
    metrics.record(SyncResult(None, False, 0.1, None, trouble="the server is away"))
    later = samples(path)
    assert (later["epochs_total"], later["failures_total"], later["epoch_number"]) == (1, 1, 2)
    assert later["success_timestamp_seconds"] >= found["success_timestamp_seconds"]
    assert {file.name for file in tmp_path.iterdir()} == {"lake", "ridelake.prom"}


def test_the_lag_increases_while_iterations_fail(orders: Store, lake: Lake, tmp_path: Path):
    metrics = SyncMetrics(tmp_path / "ridelake.prom", "lake")
    metrics.record(sync_once(orders, lake))
    of_store = metrics.stores[""]
    assert of_store.current_at is not None
    of_store.current_at -= 100
    metrics.record(SyncResult(None, False, 0.1, None, trouble="the server is away"))
    assert 100 <= samples(metrics.path)["lag_seconds"] < 160


def test_a_file_that_cannot_be_written_is_reported_once_and_does_not_end_the_sync(
    orders: Store, lake: Lake, tmp_path: Path
):
    metrics = SyncMetrics(tmp_path / "absent" / "ridelake.prom", "lake")
    with pytest.raises(UsageError, match=r"cannot write the metrics to .* correct --metrics"):
        metrics.write()
    reported = [metrics.record(sync_once(orders, lake)) for _ in range(3)]
    assert [bool(one) for one in reported] == [True, False, False]
    (tmp_path / "absent").mkdir()
    assert metrics.record(sync_once(orders, lake)) is None
    assert samples(metrics.path)["epoch_number"] == 1


def test_the_option_is_checked_before_the_first_epoch(orders: Store, tmp_path: Path):
    flags = ["--dsn", orders.conninfo, "--lake", tmp_path / "other", "--table", "orders"]
    assert "leave out --once" in refusal("sync", "--once", "--metrics", tmp_path / "m.prom", *flags)
    message = refusal("sync", "--metrics", tmp_path / "absent" / "m.prom", *flags)
    assert "cannot write the metrics to" in message
    assert not (tmp_path / "other").exists()
