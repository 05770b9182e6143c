"""The output of the commands and their errors."""

import json
import re
from pathlib import Path

import pytest
from terminal import ridelake

from lakehouse.engines import BASE_ENGINES, ENGINES, EnginePackage
from oltp.store import Store
from ridelake.__main__ import _run


@pytest.fixture
def flags(seeded_store: Store, tmp_path: Path) -> list[str | Path]:
    return ["--dsn", seeded_store.conninfo, "--lake", tmp_path / "lake"]


@pytest.mark.slow
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
    assert f"{tmp_path}/lake is a file): choose another folder with --lake" in failed.stderr
    assert ridelake("epochs", *flags).returncode in (0, 2)


@pytest.mark.slow
def test_the_list_has_every_engine_and_how_to_install_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert _run(["--home", str(tmp_path), "engines", "--json"]) == 0
    listed = {one["engine"]: one for one in json.loads(capfd.readouterr().out)}
    assert list(listed) == list(ENGINES)
    assert all(listed[name]["here"] and listed[name]["version"][0].isdigit() for name in BASE_ENGINES)
    assert all(one["folder"] and one["bucket"] for one in listed.values())
    assert listed["spark"]["install"] == "pip install 'ridelake[spark]'"
    assert listed["daft"]["install"] == "pip install 'ridelake[engines]'"


@pytest.mark.slow
def test_the_list_and_an_answer_name_the_same_versions(published, capfd: pytest.CaptureFixture[str]):
    settings = published.settings
    where = ["--home", str(settings.home), "--lake", settings.lake.root, "--dsn", str(settings.dsn)]
    assert _run([*where, "engines"]) == 0
    listed = dict(re.split("  +", line)[:2] for line in capfd.readouterr().out.splitlines()[1:])
    assert re.fullmatch(r"\d+\.\d+ \(psycopg [\d.]+\)", listed["postgres"])
    assert re.fullmatch(r"[\d.]+ \(chdb [\d.]+\)", listed["chdb"])
    for name in ("postgres", "duckdb", "chdb"):
        assert _run([*where, "sql", "SELECT 1", "--engine", name]) == 0
        assert f"({name} {listed[name]}, " in capfd.readouterr().err


def test_a_server_that_cannot_be_reached_has_no_version(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert _run(["--home", str(tmp_path), "--dsn", "host=/nowhere", "engines"]) == 0
    assert "unknown (psycopg " in capfd.readouterr().out


def test_a_missing_engine_is_listed_with_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch
):
    real = EnginePackage.version
    monkeypatch.setattr(
        EnginePackage, "version", lambda self: None if self.distribution == "daft" else real(self)
    )
    assert _run(["--home", str(tmp_path), "engines"]) == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("daft")]
    assert "not installed: pip install 'ridelake[engines]'" in line
    assert list(tmp_path.iterdir()) == []
