"""`ridelake bench --table` measures a user table with any names and types, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.custom_table.subject import SCHEMA
from bench.record import read_record
from oltp.store import Store
from ridelake.__main__ import _run

ODD = """
CREATE SCHEMA "my shop";
CREATE TABLE "my shop"."the ""Orders"" now" (
    "order" integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "from" text NOT NULL,
    "cost $x" numeric(12, 2),
    placed timestamptz NOT NULL,
    day date,
    weight double precision,
    gift boolean,
    code uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO "my shop"."the ""Orders"" now" ("from", "cost $x", placed, day, weight, gift)
SELECT 'from ' || n % 7, nullif(n % 5, 0) * 1.25, timestamptz '2026-01-01 00:00Z' + n * interval '1 hour',
       date '2026-01-01' + n % 30, n / 3.0, nullif(n % 3, 0) = 1
FROM generate_series(1, 500) AS n;
"""


def measured(record: Path, *arguments: str) -> dict[str, dict]:
    """Run the command in a separate process, because a pytest worker disables timing."""
    folder = record.with_suffix(".cwd")
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "ridelake", "bench", "--quick", "--record", record, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []  # also no .benchmarks
    entries = read_record(record).figures
    assert {entry.status for entry in entries} == {"measured"}
    return {entry.name.rsplit("bench_", 1)[1]: entry.figure for entry in entries}


@pytest.mark.slow
def test_a_table_with_unusual_names_is_measured_and_its_database_is_unchanged(store: Store, tmp_path: Path):
    with store.connect() as connection:
        connection.execute(ODD)
    table = '"my shop"."the ""Orders"" now"'
    figures = measured(tmp_path / "record.json", "--dsn", store.conninfo, "--table", table)
    assert set(figures) == {"look_up", "scan", "group_by", "leaving", "insert", "size"}
    assert all(figure["checked"] for figure in figures.values())
    assert figures["scan"]["rows"] == figures["size"]["rows"] == 500
    labels = [ratio["label"] for ratio in figures["group_by"]["ratios"]]
    assert labels == ["2 groups of gift", "500 groups of placed"]
    assert "At 500 rows, of 4 questions: " in figures["leaving"]["advice"][0]
    with store.connect() as connection:
        assert connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (SCHEMA,)).fetchone() is None
        assert connection.execute('SELECT count(*) FROM "my shop"."the ""Orders"" now"').fetchone() == (500,)


@pytest.mark.slow
def test_a_file_is_measured_without_a_database(tmp_path: Path):
    path = tmp_path / "trips.csv"
    rows = (f"c{n % 4},{n / 4},2026-01-0{n % 9 + 1}\n" for n in range(900))
    path.write_text("city,fare,at\n" + "".join(rows))
    figures = measured(tmp_path / "record.json", "--home", str(tmp_path / "home"), "--table", str(path))
    assert figures["scan"]["rows"] == 900
    assert not (tmp_path / "home").exists()


def test_a_missing_table_and_an_invalid_file_are_usage_errors(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "no.parquet").write_text("not Parquet")
    for name, message in (
        ("public.nothing", "there is no table public.nothing"),
        (str(tmp_path / "no.parquet"), "cannot read"),
        (str(tmp_path / "absent.csv"), "does not exist"),
    ):
        assert _run(["bench", "--table", name, "--dsn", store.conninfo]) == 2
        assert message in capsys.readouterr().err
