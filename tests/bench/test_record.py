"""A record is whole or not there, is read as it was written, and the README says what the record says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import records
from click.testing import CliRunner

from bench.commands.bench import bench
from bench.readme import PICTURE, README, RECORD, picture, readme_with
from bench.record import read_record
from bench.run import run
from ridelake.errors import BadInput, UsageError
from ridelake.settings import LakeAddress, Settings


def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    record = records.full()
    record.write(tmp_path / "folder" / "record.json")
    assert read_record(tmp_path / "folder" / "record.json") == record
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "figures": [{"name": "a"}]}', "null"],
)
def test_what_is_no_record_is_refused_with_a_sentence(text: str, tmp_path: Path):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(BadInput, match="record"):
        read_record(path)


@pytest.mark.parametrize("path", ["/proc/record.json", "/dev/null/record.json"])
def test_a_record_that_could_not_be_kept_is_refused_before_anything_is_measured(path: str):
    with pytest.raises(UsageError, match=r"cannot write .*--record"):
        run("quick", Path(path), "no_benchmark", None, lambda *told: None)


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ("no_benchmark", "no benchmark is selected by --only 'no_benchmark'"),
        ("leaving and", "is no selection"),
    ],
)
def test_a_misspelt_selection_leaves_the_record_of_another_run(only: str, says: str, tmp_path: Path):
    path = tmp_path / "record.json"
    records.full().write(path)
    before = path.read_bytes()
    # This process is a worker of pytest, where nothing can be timed; that one is none.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "ridelake", "bench", "--only", only, "--record", str(path)],
        env=alone,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--quick", "--full"], "choose one of them"), (["--only", " "], "leave it out")],
)
def test_what_nothing_can_be_measured_by_is_refused(arguments: list[str], says: str, tmp_path: Path):
    settings = Settings(tmp_path, LakeAddress.at(tmp_path))
    done = CliRunner().invoke(bench, arguments, obj=settings)
    assert isinstance(done.exception, UsageError)
    assert says in str(done.exception)


def test_claims_come_in_the_order_of_their_numbers_and_failures_apart():
    record = records.full()
    assert [entry.figure["claim"]["number"] for entry in record.claims] == [1, 8, 15]
    assert [entry.name for entry in record.failed] == ["bench/bench_x.py::bench_broken"]


def test_the_readme_and_its_picture_are_those_of_the_record():
    record = read_record(RECORD)
    text = README.read_text("utf-8")
    assert readme_with(text, record) == text, "`python -m bench.readme` makes them anew"
    assert PICTURE.read_text("utf-8") == picture(record), "`python -m bench.readme` makes them anew"


def test_the_record_of_the_readme_has_verdicts_and_no_failure():
    record = read_record(RECORD)
    assert record.claims
    assert record.finished_at
    assert not record.failed


def test_another_record_is_another_readme():
    text = README.read_text("utf-8")
    changed = readme_with(text, records.full())
    assert changed != text
    assert "✗ does not hold" in changed
    assert readme_with(changed, read_record(RECORD)) == text


def test_the_advice_of_a_record_is_in_the_readme():
    record = records.full()
    last = record.figures[-3]
    last.figure["advice"] = ["Leave.", "Stay."]
    told = readme_with(README.read_text("utf-8"), record)
    assert f"**{last.group}**\n\n1. Leave.\n2. Stay.\n" in told


def test_the_picture_has_a_row_for_each_claim_and_no_text_that_is_markup():
    record = records.full()
    record.figures[0].figure["claim"]["says"] = "<b>A & B</b>"
    drawn = picture(record)
    assert "&lt;b&gt;A &amp; B" in drawn
    assert drawn.count('<text class="sign') == 3
    assert json.dumps(picture(records.record()))  # of nothing, too
