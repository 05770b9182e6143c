"""Output fits the terminal, and lines break only between words."""

import re
from pathlib import Path

import pytest

from lakehouse.capture.publish import publish_snapshot
from lakehouse.table.catalog import Lake
from oltp.acid.isolation import hermitage_cases, run_all
from oltp.commands import acid
from oltp.scratch import open_scratch
from oltp.store import Store
from ridelake.__main__ import _run
from ridelake.screen import note, say, say_table
from ridelake.settings import LakeAddress, Settings
from ridelake.text import cells

WIDTHS = (40, 60, 80, 100, 132)
UNBROKEN = 10_000
NUMBER = re.compile(r"\d[\d.,:T+-]*")  # times and sizes differ between runs
DRAWN = re.compile(r"[─┊·▏▎▍▌▋▊▉█▓▒░≡]+")

CALLS = [
    ["audit"],
    ["ask"],
    ["engines"],
    ["epochs"],
    ["status"],
    ["verify"],
    ["verify", "1"],
    ["sql", "SELECT * FROM cities", "--engine", "postgres,duckdb"],
    ["sql", "SELECT AVG(Price) FROM RideTable WHERE City = 'stanford' AND Month = '7'", "--why"],
    ["ask", "top_drivers", "--engine", "postgres,duckdb", "--format", "none", "--why"],
    ["maintain"],
]


def words_of(text: str) -> set[str]:
    return set(DRAWN.sub(" ", NUMBER.sub("0", text)).split())


def assert_fits(shown: str, unbroken: str, columns: int) -> None:
    for line in shown.splitlines():
        assert cells(line.rstrip()) <= columns or len(line.split()) == 1, (columns, line)
    assert words_of(shown) - words_of(unbroken) == set(), columns


@pytest.fixture
def where(seeded_store: Store, tmp_path: Path) -> list[str]:
    settings = Settings(home=tmp_path, lake=LakeAddress.at(tmp_path / "lake"), dsn=seeded_store.conninfo)
    publish_snapshot(seeded_store, Lake.create(settings.lake))
    return ["--home", str(settings.home), "--lake", settings.lake.root, "--dsn", str(settings.dsn)]


@pytest.mark.slow
@pytest.mark.parametrize("widths", [(40,), pytest.param(WIDTHS, marks=pytest.mark.slow)], ids=str)
def test_every_line_of_a_command_breaks_between_words(
    where: list[str],
    widths: tuple[int, ...],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    for call in CALLS:
        shown = {}
        for columns in (UNBROKEN, *widths):
            monkeypatch.setenv("COLUMNS", str(columns))
            assert _run([*where, *call]) in (0, 1), call
            output = capfd.readouterr()
            # stdout of `sql` is CSV here, which is not wrapped.
            shown[columns] = output.err if call[0] == "sql" else output.out + output.err
        for columns in widths:
            assert_fits(shown[columns], shown[UNBROKEN], columns)


def test_the_matrix_of_isolation_levels_breaks_between_words(
    seeded_store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    settings = Settings(home=tmp_path, lake=LakeAddress.at(tmp_path / "lake"), dsn=seeded_store.conninfo)
    with open_scratch(settings) as scratch:
        played = run_all(scratch.small, hermitage_cases()[:3], lambda _: None)
    shown = {}
    for columns in (UNBROKEN, *WIDTHS):
        monkeypatch.setenv("COLUMNS", str(columns))
        acid._print_matrix(played, 180006)
        shown[columns] = "".join(capfd.readouterr())
    for columns in WIDTHS:
        assert_fits(shown[columns], shown[UNBROKEN], columns)


TABLE = (
    ("anomaly", "what it is and how it comes about", "driver\ntwice", "stand_fleet_of_the_whole_city"),
    [
        (
            "lost update",
            "two clients read the row and both write it, so that one of the writes is lost",
            12,
            "a b",
        ),
        ("東京 write skew", "Iceberg keeps it; Postgres refuses it with 40001", 1_234_567, "rows"),
    ],
)


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("dense", [False, True])
def test_a_table_wraps_cells_or_becomes_lines(
    columns: int, dense: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    shown = {}
    for width in (UNBROKEN, columns):
        monkeypatch.setenv("COLUMNS", str(width))
        say_table(*TABLE, title="Anomalies that a level lets through", dense=dense)
        shown[width] = capfd.readouterr().out
    assert_fits(shown[columns], shown[UNBROKEN], columns)
    assert words_of(shown[columns]) == words_of(shown[UNBROKEN])


def test_text_to_be_copied_is_not_wrapped(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    line = 'ridelake sql "SELECT City, AVG(Price) FROM RideTable GROUP BY City"'
    say(line, verbatim=True)
    note(line, verbatim=True)
    assert "".join(capfd.readouterr()) == f"{line}\n" * 2
