"""A wrong answer, a failed audit or a killed engine: no figure, a report, and exit code 1."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2] / "support"
COMMAND = (sys.executable, "-m", "ridelake")

pytestmark = pytest.mark.slow


def environment(**more: str) -> dict[str, str]:
    """The environment of a separate process, because a pytest worker disables timing."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | more


@pytest.mark.parametrize(
    ("fault", "only", "why"),
    [
        ("wrong_answer", ("--quick", "--only", "bench_frontier"), "wrong answer to"),
        ("broken_store", ("--quick", "--only", "bench_frontier"), "money_is_conserved"),
        (
            "dead_engine",
            ("--full", "--only", "bench_question_by_engine and datafusion"),
            "its process ended unexpectedly (SIGKILL",
        ),
    ],
)
def test_an_injected_fault_removes_the_figure_and_is_reported(
    fault: str, only: tuple[str, ...], why: str, tmp_path: Path
):
    path = str(os.pathsep).join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*COMMAND, "bench", "--record", "record.json", *only],
        env=environment(PYTHONPATH=path, PYTEST_PLUGINS="fault_plugin", PLANTED=fault),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    document = json.loads((tmp_path / "record.json").read_text())
    (failed,) = document["ridelake"]["not_measured"]
    assert (failed["status"], document["benchmarks"]) == ("failed", [])
    assert why in failed["why"]
    assert f"✗ {failed['why']}" in done.stdout
    assert f"1 benchmark failed: {failed['why']}" in done.stderr
    page = drawn(tmp_path)
    assert why in page[page.index('id="left-out"') :]


def test_an_interrupted_run_leaves_a_valid_record(tmp_path: Path):
    with subprocess.Popen(
        [*COMMAND, "bench", "--quick", "--record", "record.json"],
        env=environment(PYTHONUNBUFFERED="1"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Background jobs ignore SIGINT by default, and child processes inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("[1/")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode not in (0, 1)
    document = json.loads((tmp_path / "record.json").read_text())
    assert document["benchmarks"][0]["stats"]["rounds"]
    assert document["machine_info"]["cpu"]
    assert not document["ridelake"]["finished_at"]
    assert 'id="figures"' in drawn(tmp_path)


def drawn(folder: Path) -> str:
    """The body of the page that `ridelake report` writes from the record."""
    subprocess.run(
        [*COMMAND, "report", "record.json", "-o", "page.html"], env=environment(), cwd=folder, check=True
    )
    page = (folder / "page.html").read_text()
    return page[page.index("<body>") :]
