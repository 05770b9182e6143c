"""`ridelake report` and `compare`, and opening a page in the browser."""

import webbrowser
from pathlib import Path

import click

from ridelake.errors import ProofFailed, UsageError
from ridelake.screen import note, say, say_json, say_table


def open_page(page: Path) -> None:
    """Print a note if there is no browser; this is not an error."""
    try:
        opened = webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        note(f"no browser found; open {page} by hand")


@click.command()
@click.argument(
    "record",
    type=click.Path(path_type=Path, dir_okay=False),
    default="ridelake-bench.json",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="ridelake-report.html",
    show_default=True,
    help="The page to write.",
)
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--terminal", is_flag=True, help="Print results, verdicts and ratios instead of writing a page."
)
def report(record: Path, output: Path, in_browser: bool, terminal: bool) -> None:
    """Write an HTML report from a benchmark record [ridelake-bench.json].

    The page is self-contained. The record may be of a run that is in progress, was interrupted, or failed.
    """
    from bench.record import read_record

    if in_browser and terminal:
        raise UsageError("--open and --terminal exclude each other; choose one of them")
    found = read_record(record)
    if terminal:
        from bench.report.terminal import report_lines
        from ridelake.screen import draw, drawing_columns

        draw(list(report_lines(found, drawing_columns())))
        return
    from bench.report.page import write_report

    write_report(output, found)
    say(f"Report: {output}", verbatim=True)
    if in_browser:
        open_page(output)


def percent(text: str) -> float:
    """`5%` or `0.05` → 0.05. Raises UsageError for anything else."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 10:
        raise UsageError(f"'{text}' is not a threshold; write it like 5% or 0.05")
    return share


@click.command()
@click.argument("before", type=click.Path(path_type=Path, dir_okay=False), metavar="A.json")
@click.argument("after", type=click.Path(path_type=Path, dir_okay=False), metavar="B.json")
@click.option("--threshold", metavar="PERCENT", default="5%", show_default=True, help="Allowed slowdown.")
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="NAME=PERCENT",
    help="A threshold for benchmarks with NAME in their name or group. Repeatable; the last match counts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, for a pull request.")
def compare(
    before: Path, after: Path, threshold: str, groups: tuple[str, ...], as_json: bool, as_markdown: bool
) -> None:
    """Compare two records of `ridelake bench`, B against A. Exits with 1 if B is slower or has a failure.

    A variant is slower if the whole interval of B/A is above the threshold, after the drift between the two
    runs is divided out.
    """
    if as_json and as_markdown:
        raise UsageError("--json and --markdown exclude each other; choose one of them")
    own = dict(_group(words) for words in groups)
    from bench import compare as comparison
    from bench.record import read_record

    found = comparison.compare_records(read_record(before), read_record(after), percent(threshold), own)
    if as_json:
        say_json(comparison.as_json(found))
    elif as_markdown:
        say(comparison.markdown(found), verbatim=True)
    else:
        if found.changes:
            say_table(comparison.COLUMNS, comparison.rows(found), dense=True)
        say(comparison.summary(found))
        for remark in comparison.remarks(found):
            note(remark)
    slower = found.of("regression")
    if slower:
        raise ProofFailed(f"✗ slower: {', '.join(change.path.name for change in slower)}")
    if found.failed:
        raise ProofFailed(f"✗ {found.failed[0]}")


def _group(words: str) -> tuple[str, float]:
    name, equals, share = words.rpartition("=")
    if not equals or not name:
        raise UsageError(f"cannot read --group {words}; write NAME=PERCENT, as in bench_booking=10%")
    return name, percent(share)
