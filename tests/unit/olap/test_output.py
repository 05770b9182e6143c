"""`-o FILE` writes the answer atomically, in the format of the suffix."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import olap.output
from olap.output import choose_format, write_answer
from ridelake.errors import BadInput, OutOfResources, UsageError

ANSWER = pa.table({"n": [1, 2], "name": ["a", None]})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "n,name\n1,a\n2,\n"),
        ("a.CSV", "n,name\n1,a\n2,\n"),
        ("a.jsonl", '{"n": 1, "name": "a"}\n{"n": 2, "name": null}\n'),
        ("a.md", "| n | name |\n| --: | --- |\n| 1 | a |\n| 2 | null |\n"),
    ],
)
def test_the_suffix_determines_the_format(tmp_path: Path, name: str, text: str):
    file = tmp_path / name
    write_answer(ANSWER, choose_format(None, str(file)), str(file))
    assert file.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_parquet_and_json_read_back_unchanged(tmp_path: Path):
    for name in ("a.parquet", "a.json"):
        write_answer(ANSWER, choose_format(None, str(tmp_path / name)), str(tmp_path / name))
    assert pq.read_table(tmp_path / "a.parquet").equals(ANSWER)
    assert json.loads((tmp_path / "a.json").read_text()) == ANSWER.to_pylist()


def test_two_columns_of_the_same_name_are_two_columns_in_parquet(tmp_path: Path):
    twins = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["n", "n"])
    write_answer(twins, "parquet", str(tmp_path / "a.parquet"))
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [{"n": 1, "n_2": 2}]


def test_format_none_writes_nothing_or_an_empty_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    write_answer(ANSWER, "none", None)
    assert capfd.readouterr().out == ""
    write_answer(ANSWER, "none", str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b""


def test_an_existing_file_is_replaced_and_keeps_its_permissions(tmp_path: Path):
    file, link = tmp_path / "a.csv", tmp_path / "link.csv"
    file.write_text("before")
    file.chmod(0o640)
    link.symlink_to(file)
    write_answer(ANSWER, "csv", str(link))
    assert link.is_symlink()
    assert file.read_text().startswith("n,name")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_new_file_has_default_permissions(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_answer(ANSWER, "csv", str(tmp_path / "a.csv"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_existing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    file = tmp_path / "a.csv"
    file.write_text("before")
    monkeypatch.setattr(olap.output, "_write", lambda answer, format_, out: fail(out, error))
    expected = OutOfResources if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="is full" if isinstance(error, OSError) else None):
        write_answer(ANSWER, "csv", str(file))
    assert file.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def fail(out, error: BaseException) -> None:
    out.write(b"half")
    out.flush()
    raise error


def test_a_killed_writer_leaves_the_existing_file(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("before")
    code = (
        "import os, sys; from pathlib import Path; from olap.output import replace_file\n"
        "with replace_file(Path(sys.argv[1])) as f:\n"
        "    f.write(b'half'); f.flush(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(file)], check=False).returncode == -9
    assert file.read_text() == "before"


def test_a_pipe_is_written_directly(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_answer(ANSWER, "csv", str(pipe))
    assert reader.communicate(timeout=20)[0] == b"n,name\n1,a\n2,\n"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_file_that_cannot_be_written_is_refused_before_the_query(tmp_path: Path):
    for file, error, message in (
        ("a.xls", UsageError, r"no format is known for the suffix of .*a.xls; use .csv"),
        (".", BadInput, "is a folder"),
        ("none/a.csv", BadInput, "cannot write a.csv: the folder .*none does not exist"),
    ):
        with pytest.raises(error, match=message):
            choose_format(None, str(tmp_path / file))


def test_a_type_that_parquet_cannot_store_is_one_line_and_no_file(tmp_path: Path):
    intervals = pa.table({"gap": pa.array([pa.MonthDayNano([1, 0, 0])])})
    with pytest.raises(BadInput, match="cannot store this answer as Parquet"):
        write_answer(intervals, "parquet", str(tmp_path / "a.parquet"))
    assert not [*tmp_path.iterdir()]
