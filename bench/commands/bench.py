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

if TYPE_CHECKING:
    from bench.record import Entry

DEFAULT_RECORD = Path("ridelake-bench.json")


@click.command()
@click.option("--quick", is_flag=True, help="Every claim, in a minute.")
@click.option("--full", is_flag=True, help="All there is; takes its time.")
@click.option(
    "--table",
    "name",
    metavar="SCHEMA.NAME|FILE",
    help="A table of your own instead: look-ups, inserts into a copy, scans, group-bys, sizes. Or a Parquet "
    "or CSV file.",
)
@click.option("--only", metavar="WORDS", help="Only benchmarks that pytest's -k selects by these words.")
@click.option(
    "--record",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_RECORD,
    show_default=True,
    help="The file to keep what is found in; whole after each benchmark.",
)
@click.pass_obj
def bench(
    settings: Settings, quick: bool, full: bool, name: str | None, only: str | None, path: Path
) -> None:
    """Measure this machine: the lecture's claims, the store, the lake, the engines, in six minutes.

    It measures a store and a lake of its own, in a temporary folder. Draw what it has found with
    `ridelake report`. Exit 1 if an answer was wrong or a benchmark failed.
    """
    if quick and full:
        raise UsageError("--quick and --full are two scales: choose one of them")
    if only is not None and not only.strip():
        raise UsageError("--only is empty: leave it out, or give words of what to measure")
    scale = "quick" if quick else "full" if full else "default"
    try:
        from bench.leaving.advice import advising
        from bench.own.subject import subject_of
        from bench.run import run
    except ModuleNotFoundError as error:
        raise NotReady(f"{error.name} is not installed: `pip install 'ridelake[bench]'`") from error

    with ExitStack() as opened:
        subject = None
        if name is not None:
            folder = opened.enter_context(TemporaryDirectory(prefix="ridelake-bench-"))
            subject = opened.enter_context(subject_of(settings, name, Path(folder)))
        opened.enter_context(progress("bench"))
        record = run(scale, path, only, subject, _tell)
    for warning in record.warnings:
        note(f"warning: {warning}")
    for entry in advising(record):
        say("\n   ".join([entry.group, *(entry.figure or {})["advice"]]))
    measured = [entry for entry in record.figures if entry.status == "measured"]
    counts = f"{_counted(len(measured), 'figure')}, {_counted(len(record.claims), 'verdict')}"
    say(f"{counts}: {path}; draw with `ridelake report`")
    if record.failed:
        raise ProofFailed(f"✗ {len(record.failed)} failed, and have no figure: {record.failed[0].why}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _tell(entry: "Entry", number: int, of: int) -> None:
    head = f"[{number}/{of}] {entry.group}"
    if entry.status != "measured":
        say(f"{head}\n   {'✗' if entry.status == 'failed' else '–'} {entry.why}")
        return
    say(f"{head} ({entry.seconds:.1f} s)")
    for warning in (entry.figure or {}).get("warnings", []):
        note(f"   warning: {warning}")
    if entry.figure is None or entry.figure["advice"]:  # which is told at the end
        return
    if claim := entry.figure["claim"]:
        say(f"   {claim['says']}\n   {claim['verdict'].upper()}: {claim['because']}")
        return
    from bench.sampling import Ratio

    for told in entry.figure["ratios"]:
        ratio = Ratio(**{name: told[name] for name in ("of", "over", "median", "low", "high", "label")})
        say(f"   {ratio.label}: {ratio.words()}" if ratio.label else f"   {ratio.words()}")
    for table in entry.figure["tables"]:
        say_table(list(table["rows"][0]), [list(row.values()) for row in table["rows"]])
