"""Movers: pinned packages, addresses, the cost for the server, and when the benchmarks run."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.movers.bench_movers import summary
from bench.movers.copied import bytes_written
from bench.movers.full_copy import MoverCopies
from bench.movers.mover import MOVERS, TOOLS, error_in, packages_of, plain_address, url_of
from bench.movers.watch import ServerCost
from bench.run import is_not_named


@pytest.mark.parametrize("tool", sorted({mover.tool for mover in MOVERS}))
def test_the_packages_of_a_tool_are_pinned(tool: str):
    assert all("==" in package for package in packages_of(tool))
    assert packages_of(tool) or tool == "ridelake"


def test_each_script_is_a_mover():
    assert {mover.tool for mover in MOVERS} == {path.stem for path in TOOLS.glob("[!_]*.py")}
    assert len({mover.name for mover in MOVERS}) == len(MOVERS)


def test_the_folder_of_a_socket_is_a_parameter_of_the_url():
    assert url_of("host=/tmp/s user=me dbname=d") == "postgresql://me@/d?host=%2Ftmp%2Fs"
    assert url_of("host=db port=5433 user=me password='p@ss' dbname=d") == "postgresql://me:p%40ss@db:5433/d"


def test_a_tool_does_not_inherit_the_settings_of_a_session():
    assert plain_address("host=db user=me dbname=d options='-c x=y' application_name=ridelake") == (
        "host=db user=me dbname=d"
    )


def test_the_line_with_the_error_is_reported():
    assert error_in(["panic: rune", "goroutine 1:", "  file.go:1"]) == "panic: rune"
    assert error_in(["Traceback:", "pyarrow.lib.ArrowInvalid: no", "ValueError: bad  value"]) == (
        "ValueError: bad value"
    )
    assert error_in(["ridelake: the table is missing"]) == "ridelake: the table is missing"
    assert error_in([]) == ""


def test_only_the_files_of_the_tables_are_counted(tmp_path: Path):
    for name, size in (
        ("data/rides/1.parquet", 5),
        ("data/rides/2.parquet", 7),
        ("data/riders/1.parquet", 11),
        ("pipeline/loaded/rides.1.parquet", 5),
        ("data/rides/keys.json", 3),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
    assert bytes_written(tmp_path, ["ridelake.rides", "ridelake.riders"]) == 23


def test_the_age_of_a_snapshot_is_counted_from_its_first_sample():
    cost = ServerCost()
    cost.add([(1, "700", 0.5), (2, None, None)], now=10.0)
    cost.add([(1, "700", 0.2), (2, "701", 3.0)], now=12.0)
    cost.add([(1, "702", None), (2, "701", None)], now=13.0)  # the first session has another snapshot
    cost.add([], now=20.0)
    assert cost.snapshot_seconds == 2.0
    assert cost.statement_seconds == 3.0


def test_a_benchmark_marked_named_runs_only_by_name():
    marked = SimpleNamespace(get_closest_marker=lambda name: SimpleNamespace(args=("movers",)))
    other = SimpleNamespace(get_closest_marker=lambda name: None)
    assert is_not_named(marked, "")
    assert is_not_named(marked, "export")
    assert not is_not_named(marked, "movers and copy")
    assert not is_not_named(other, "")


def copies_of(number: int, torn: list[int], **more: object) -> MoverCopies:
    return MoverCopies(MOVERS[number], torn=torn, torn_rides=torn, **more)


def test_the_sentences_name_the_best_mover_of_each_column():
    whole, fast, late = (MOVERS[number].name for number in (0, 2, 4))
    found = [
        copies_of(0, [0, 0], rows_per_second=[2e5, 3e5], p99_times=[1.5, 1.7], memory_bytes=300 << 20),
        copies_of(2, [7, 9], rows_per_second=[9e5, 8e5], p99_times=[2.5, 2.7], memory_bytes=90 << 20),
        copies_of(4, [0], rows_per_second=[4e5], p99_times=[1.1], memory_bytes=200 << 20, late_copies=1),
    ]
    assert summary(found) == [
        f"No row is torn in the copies of {whole}. The others have at least 8 torn rows a copy",
        f"{fast} is the fastest: 850 thousand rows/s",
        f"The bookings are fastest beside {late}: their p99 is 1.1 × that without a copy",
        f"{fast} needs the least memory: 90 MiB",
    ]
