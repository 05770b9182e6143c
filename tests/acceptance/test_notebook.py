"""The notebook runs, from top to bottom."""

import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook" / "layout.py"
PROGRAM = """
import runpy, sys
app = runpy.run_path(sys.argv[1], run_name="notebook")["app"]
outputs, defined = app.run()
print(len(outputs), defined["ratio"] >= 1, sorted(defined["milliseconds"]))
"""


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs():
    pytest.importorskip("marimo", reason="not installed: pip install 'ridelake[bench]'")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, NOTEBOOK], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("True ['column-major', 'row-major']")
