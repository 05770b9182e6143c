"""What is wrong, broken or dead has no figure: the command says why, the record and the page too, exit 1."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "ridelake")

pytestmark = pytest.mark.slow


def environment(**more: str) -> dict[str, str]:
    """For a process of its own: this one is a worker of pytest, where nothing can be timed."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | more


@pytest.mark.parametrize(
    ("planted", "only", "why"),
    [
        ("wrong_answer", ("--quick", "--only", "bench_frontier"), "was answered wrongly"),
        ("broken_store", ("--quick", "--only", "bench_frontier"), "money_is_conserved"),
        (
            "dead_engine",
            ("--full", "--only", "bench_lecture_question and datafusion"),
            "its process ended (SIGKILL",
        ),
    ],
)
def test_a_planted_fault_takes_the_figure_and_says_why(
    planted: str, only: tuple[str, ...], why: str, tmp_path: Path
):
    path = str(os.pathsep).join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*COMMAND, "bench", "--record", "record.json", *only],
        env=environment(PYTHONPATH=path, PYTEST_PLUGINS="planted", PLANTED=planted),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (entry,) = json.loads((tmp_path / "record.json").read_text())["figures"]
    assert (entry["status"], entry["figure"]) == ("failed", None)
    assert why in entry["why"]
    assert f"✗ {entry['why']}" in done.stdout
    assert f"1 failed, and have no figure: {entry['why']}" in done.stderr
    page = drawn(tmp_path)
    assert why in page[page.index('id="left-out"') :]


def test_an_interrupt_leaves_a_record_of_what_was_done_and_it_is_drawn(tmp_path: Path):
    with subprocess.Popen(
        [*COMMAND, "bench", "--quick", "--record", "record.json"],
        env=environment(PYTHONUNBUFFERED="1"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Said here, because a test run that is a job in the background was started to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("[1/")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode not in (0, 1)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["figures"]
    assert not record["finished_at"]
    assert 'id="figures"' in drawn(tmp_path)


def drawn(folder: Path) -> str:
    """The page that `ridelake report` makes of the record."""
    subprocess.run(
        [*COMMAND, "report", "record.json", "-o", "page.html"], env=environment(), cwd=folder, check=True
    )
    page = (folder / "page.html").read_text()
    return page[page.index("<body>") :]
