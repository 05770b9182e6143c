"""Records are written atomically and read back unchanged; the README is generated from the record."""

import json
import os
import subprocess
import sys
from pathlib import Path

import made_up_records
import pytest
from click.testing import CliRunner

from bench.commands.bench import bench
from bench.machine import this_machine
from bench.readme import (
    MOVERS_PAGE,
    MOVERS_RECORD,
    PICTURE,
    README,
    RECORD,
    RESULTS,
    movers_with,
    picture,
    readme_with,
    results,
)
from bench.record import Record, read_record
from bench.run import Recorder, run
from bench.statistics import Ratio
from ridelake.errors import BadInput, UsageError
from ridelake.settings import LakeAddress, Settings


def test_a_record_is_read_back_unchanged(tmp_path: Path):
    record = made_up_records.full()
    made_up_records.write(record, tmp_path / "folder" / "record.json")
    assert read_record(tmp_path / "folder" / "record.json") == record
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"ridelake": 2}',
        '{"ridelake": {"format": 2}}',
        '{"ridelake": {"format": 2}, "benchmarks": [{"fullname": "a"}]}',
        '{"machine_info": {}, "benchmarks": []}',
        "null",
    ],
)
def test_an_invalid_record_is_bad_input(text: str, tmp_path: Path):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(BadInput, match="record"):
        read_record(path)


def test_a_record_of_an_older_version_is_refused(tmp_path: Path):
    path = tmp_path / "record.json"
    path.write_text('{"format": 1, "scale": "quick", "figures": []}')
    with pytest.raises(BadInput, match="format 1, and this version reads 2: run `ridelake bench` again"):
        read_record(path)


@pytest.mark.parametrize("path", ["/proc/record.json", "/dev/null/record.json"])
def test_an_unwritable_record_is_refused_before_the_run(path: str):
    with pytest.raises(UsageError, match=r"cannot write .*--record"):
        run("quick", Path(path), "no_benchmark", None, lambda *entry: None)


@pytest.mark.child
@pytest.mark.slow
@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("no_benchmark", "no benchmark matches --only 'no_benchmark'"),
        ("leaving and", "is not a valid expression"),
    ],
)
def test_a_misspelt_selection_leaves_the_record_of_another_run(only: str, message: str, tmp_path: Path):
    path = tmp_path / "record.json"
    made_up_records.write(made_up_records.full(), path)
    before = path.read_bytes()
    # A separate process: a pytest worker disables timing.
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
    assert message in done.stderr
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--quick", "--full"], "choose one of them"), (["--only", " "], "omit it")],
)
def test_contradictory_options_are_refused(arguments: list[str], message: str, tmp_path: Path):
    settings = Settings(tmp_path, LakeAddress.at(tmp_path))
    done = CliRunner().invoke(bench, arguments, obj=settings)
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)


def test_claims_are_ordered_by_number_and_failures_are_listed():
    record = made_up_records.full()
    assert [entry.claim["number"] for entry in record.claims] == [1, 8, 15]
    assert [entry.name for entry in record.with_status("failed")] == ["bench/bench_x.py::bench_broken"]


def test_readme_results_and_picture_are_generated_from_the_record():
    record = read_record(RECORD)
    text = README.read_text("utf-8")
    assert readme_with(text, record, read_record(MOVERS_RECORD)) == text, "run `python -m bench.readme`"
    assert RESULTS.read_text("utf-8") == results(record), "run `python -m bench.readme`"
    assert PICTURE.read_text("utf-8") == picture(record), "run `python -m bench.readme`"


def test_the_tables_of_the_movers_are_generated_from_their_record():
    text = MOVERS_PAGE.read_text("utf-8")
    assert movers_with(text, read_record(MOVERS_RECORD)) == text, "run `python -m bench.readme`"


def test_the_record_of_the_readme_is_complete_and_without_failures():
    record = read_record(RECORD)
    assert record.claims
    assert record.finished_at
    assert not record.with_status("failed")


def test_another_record_gives_another_readme():
    text = README.read_text("utf-8")
    movers = read_record(MOVERS_RECORD)
    changed = readme_with(text, made_up_records.full(), movers)
    assert changed != text
    assert "| ✗ |" in changed
    assert readme_with(changed, read_record(RECORD), movers) == text


def test_the_advice_of_a_record_is_in_the_results():
    record = made_up_records.full()
    last = record.figures[-3]
    last.figure["advice"] = ["Leave.", "Stay."]
    assert f"## {last.group}\n\n1. Leave.\n2. Stay.\n" in results(record)


def test_each_figure_has_its_check_and_ratios_in_the_results():
    record = made_up_records.full()
    text = results(record)
    for entry in record.figures:
        assert f"`{entry.name}`" in text
        if entry.status != "measured":
            assert str(entry.why) in text
        elif entry.figure.get("checked"):
            assert f"Checked: {entry.figure['checked']}." in text
        for ratio in entry.figure.get("ratios", []):
            assert Ratio.from_record(ratio).sentence() in text


def test_the_table_of_the_readme_has_one_number_without_its_interval():
    record = made_up_records.full()
    assert "(2.9–3.3×)" in results(record)
    assert "(2.9–3.3×)" not in readme_with(README.read_text("utf-8"), record, read_record(MOVERS_RECORD))


def test_the_picture_has_a_row_for_each_ratio_and_escapes_markup():
    record = made_up_records.full()
    record.figures[0].figure["claim"] |= {"text": "<b>A & B</b>", "number": 99}
    drawn = picture(record)
    assert "&lt;b&gt;A &amp; B" in drawn
    ratios = [entry for entry in record.claims if entry.figure["ratios"]]
    assert drawn.count('<text class="sign') == len(ratios)
    assert drawn.count('class="bar') == drawn.count("× faster<")
    assert json.dumps(picture(made_up_records.record()))  # also without claims


@pytest.mark.parametrize("first", [KeyboardInterrupt, ValueError])
def test_an_interrupt_within_a_hook_of_a_plugin_is_not_an_internal_error(first: type[BaseException]):
    """pluggy replaces the interrupt by a warning, which is an error here."""
    recorder = Recorder(Record.begin("quick", 1, this_machine()))
    try:
        try:
            raise first
        except BaseException:
            raise RuntimeError("a plugin raised an exception") from None
    except RuntimeError:
        caught = pytest.ExceptionInfo[BaseException].from_current()
    assert recorder.pytest_internalerror(caught) == recorder.interrupted == (first is KeyboardInterrupt)
