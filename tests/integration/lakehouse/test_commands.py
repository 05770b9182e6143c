"""The output of the commands and their errors."""

import json
from pathlib import Path

import pytest
from terminal import ridelake

from oltp.store import Store


@pytest.fixture
def flags(seeded_store: Store, tmp_path: Path) -> list[str | Path]:
    return ["--dsn", seeded_store.conninfo, "--lake", tmp_path / "lake"]


def test_a_snapshot_is_published_listed_and_reported(flags):
    first = ridelake("snapshot", *flags)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("epoch 1: ")
    report = json.loads(ridelake("snapshot", "--json", *flags).stdout)
    assert (report["epoch"], report["tables"]["rides"]["rows"]) == (2, 2000)
    assert report["rows"] == sum(table["rows"] for table in report["tables"].values())
    assert report["token"]["snapshot"]
    assert [epoch["epoch"] for epoch in json.loads(ridelake("epochs", "--json", *flags).stdout)] == [2, 1]
    assert f"{report['rows']:,}" in ridelake("epochs", *flags).stdout


def test_no_epoch_is_an_empty_list_and_a_hint(flags):
    listed = ridelake("epochs", *flags)
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "run `ridelake snapshot`" in listed.stderr
    assert json.loads(ridelake("epochs", "--json", *flags).stdout) == []


def test_a_lake_that_is_a_file_is_one_line_and_exit_2(flags, tmp_path: Path):
    (tmp_path / "lake").touch()
    failed = ridelake("snapshot", *flags)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1
    assert f"{tmp_path}/lake is a file: choose another folder with --lake" in failed.stderr
    assert ridelake("epochs", *flags).returncode in (0, 2)


def test_engines_are_listed_with_their_versions():
    found = json.loads(ridelake("engines", "--json").stdout)
    assert [one["engine"] for one in found[:4]] == ["postgres", "duckdb", "polars", "pyarrow"]
    assert all(one["here"] and one["version"] for one in found[:4])
    assert "duckdb" in ridelake("engines").stdout
