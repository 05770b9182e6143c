"""The notebook reads the lake of the current folder. Without a lake, it says what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import ridelake

from oltp.store import Store

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook" / "layout.py"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RIDELAKE_")}
PROGRAM = """
import runpy, sys
app = runpy.run_path(sys.argv[1], run_name="notebook")["app"]
outputs, defined = app.run()
print(*(output.text for output in outputs if hasattr(output, "text")))
print(sorted(defined.get("samples", ())), defined.get("rows"), sorted(defined.get("columns", ())))
"""

pytest.importorskip("marimo", reason="not installed: pip install 'ridelake[bench]'")


def run(folder: Path) -> list[str]:
    """The output of PROGRAM in this folder, by line."""
    arguments = [sys.executable, "-c", PROGRAM, NOTEBOOK]
    done = subprocess.run(
        arguments, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_notebook_measures_both_layouts_of_a_table_of_the_lake(seeded_store_once: Store, tmp_path: Path):
    published = ridelake(
        "snapshot", "--dsn", seeded_store_once.conninfo, environment=ENVIRONMENT, folder=tmp_path
    )
    assert published.returncode == 0, published.stderr
    *page, defined = run(tmp_path)
    assert "of 2,000 rows of <code>rides</code>; the answers are equal" in " ".join(page)
    assert defined.startswith("['column-major', 'row-major'] 2000 [")
    assert "'fare_cents'" in defined


@pytest.mark.slow
def test_the_notebook_without_a_lake_states_what_to_do_and_creates_nothing(tmp_path: Path):
    *page, defined = run(tmp_path)
    assert "ridelake snapshot" in " ".join(page)
    assert defined == "[] None []"
    assert not list(tmp_path.iterdir())
