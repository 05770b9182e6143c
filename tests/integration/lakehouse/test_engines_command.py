"""`ridelake engines` lists the installed engines, and how to install the others."""

import json
import re
from pathlib import Path

import pytest

from lakehouse.engines import ENGINES, EnginePackage
from ridelake.__main__ import _run


def test_the_list_has_every_engine_and_how_to_install_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert _run(["--home", str(tmp_path), "engines", "--json"]) == 0
    listed = {one["engine"]: one for one in json.loads(capfd.readouterr().out)}
    assert list(listed) == list(ENGINES)
    assert listed["duckdb"]["version"][0].isdigit()
    assert listed["spark"]["install"] == "pip install 'ridelake[spark]'"
    assert listed["daft"]["install"] == "pip install 'ridelake[engines]'"


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
