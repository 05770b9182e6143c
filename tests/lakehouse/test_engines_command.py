"""`ridelake engines`: who is here, and what installs the others."""

import json
from pathlib import Path

import pytest

from lakehouse.engines import ENGINES, Package
from ridelake.__main__ import _run


def test_it_names_every_engine_and_what_installs_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert _run(["--home", str(tmp_path), "engines", "--json"]) == 0
    told = {one["engine"]: one for one in json.loads(capfd.readouterr().out)}
    assert list(told) == list(ENGINES)
    assert told["duckdb"]["version"][0].isdigit()
    assert told["spark"]["install"] == "pip install 'ridelake[spark]'"
    assert told["daft"]["install"] == "pip install 'ridelake[engines]'"


def test_a_missing_one_is_listed_with_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch
):
    real = Package.version
    monkeypatch.setattr(Package, "version", lambda self: None if self.distribution == "daft" else real(self))
    assert _run(["--home", str(tmp_path), "engines"]) == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("daft")]
    assert "not here: pip install 'ridelake[engines]'" in line
    assert list(tmp_path.iterdir()) == []
