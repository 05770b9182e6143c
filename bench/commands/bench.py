"""`ridelake bench`."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from ridelake.errors import NotReady, ProofFailed, UsageError
from ridelake.progress import progress
from ridelake.screen import note, say, say_table
from ridelake.settings import Settings
from ridelake.text import counted

if TYPE_CHECKING:
    from bench.record import Entry

DEFAULT_RECORD = Path("ridelake-bench.json")


@click.command()
@click.option("--quick", is_flag=True, help="Measure all claims on few rows, in about a minute.")
@click.option("--full", is_flag=True, help="Run all benchmarks; takes much longer.")
@click.option(
    "--table",
    "name",
    metavar="SCHEMA.NAME|FILE",
    help="Measure your own table, or a Parquet or CSV file, instead of the claims: look-ups, inserts into a "
    "copy, scans, group-bys, sizes.",
)
@click.option(
    "--only", metavar="WORDS", help="Run only benchmarks whose names match this expression, as in pytest -k."
)
@click.option(
    "--record",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_RECORD,
    show_default=True,
    help="The file to write; updated after each benchmark.",
)
@click.pass_obj
def bench(
    settings: Settings, quick: bool, full: bool, name: str | None, only: str | None, path: Path
) -> None:
    """Measure textbook claims, the store, the lake and the engines on this machine, in about six minutes.

    Uses its own store and lake in a temporary folder. `ridelake report` draws the result. Exits with 1 if an
    answer was wrong or a benchmark failed.
    """
    if quick and full:
        raise UsageError("--quick and --full exclude each other; choose one of them")
    if only is not None and not only.strip():
        raise UsageError("--only is empty; omit it, or give words of the benchmark names")
    scale = "quick" if quick else "full" if full else "default"
    try:
        from bench.custom_table.subject import open_user_table
        from bench.run import run
    except ModuleNotFoundError as error:
        raise NotReady(f"{error.name} is not installed: `pip install 'ridelake[bench]'`") from error

    with ExitStack() as opened:
        subject = None
        if name is not None:
            folder = opened.enter_context(TemporaryDirectory(prefix="ridelake-bench-"))
            subject = opened.enter_context(open_user_table(settings, name, Path(folder)))
        opened.enter_context(progress("bench"))
        record = run(scale, path, only, subject, _print_entry)
    for warning in record.warnings:
        note(f"warning: {warning}")
    for entry in record.with_advice:
        say("\n   ".join([entry.group, *entry.figure["advice"]]))
    figures, verdicts = len(record.with_status("measured")), len(record.claims)
    say(f"{counted(figures, 'figure')}, {counted(verdicts, 'verdict')}: {path}; draw with `ridelake report`")
    if failed := record.with_status("failed"):
        raise ProofFailed(f"✗ {counted(len(failed), 'benchmark')} failed: {failed[0].why}")


def _print_entry(entry: "Entry", number: int, of: int) -> None:
    head = f"[{number}/{of}] {entry.group}"
    if entry.status != "measured":
        say(f"{head}\n   {'✗' if entry.status == 'failed' else '–'} {entry.why}")
        return
    say(f"{head} ({entry.seconds:.1f} s)")
    if not entry.figure.get("advice"):  # which is printed at the end
        _print_result(entry)
    for warning in entry.figure.get("warnings", []):
        note(f"   warning: {warning}")


def _print_result(entry: "Entry") -> None:
    from bench.claims.headlines import headline_of
    from bench.statistics import Ratio

    if claim := entry.claim:
        say(f"   {claim['text']}\n   {claim['verdict'].upper()}: {headline_of(entry.figure).sentence}")
        return
    for ratio in entry.figure.get("ratios", []):
        say(f"   {Ratio.from_record(ratio).labelled_sentence()}")
    for table in entry.figure.get("tables", []):
        say_table(list(table["rows"][0]), [list(row.values()) for row in table["rows"]])
