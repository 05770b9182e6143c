"""The options that `sql` and `ask` share, and how a shell completes them."""

import math
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from lakehouse.engines import ENGINE_NAMES
from olap.ask import TIMEOUT_SECONDS_MAX

FORMATS = ("table", "csv", "json", "jsonl", "markdown", "parquet", "none")

EPILOG = """
    A $name in the query takes its value from -p name=VALUE, bound by the engine and never pasted into the
    text. 7 is a whole number, 0.3 a decimal, 3e-1 a double, true and false truth values, 2026-07-01 a date,
    2026-07-01T12:00:00Z a timestamp, null none; all else is text, and so is what stands in single quotes,
    as in -p "zip='01234'".

    \b
    Completion in bash, and alike in zsh and fish: eval "$(_RIDELAKE_COMPLETE=bash_source ridelake)"
"""


def answer_options(engine: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--engine (by default `engine`), --as-of, --fresh, -p, --format, -o, --limit, --timeout and --json."""
    options = [
        click.option(
            "--engine", "engines", multiple=True, default=[engine], metavar="NAME|all",
            shell_complete=complete_engines,
            help=f"Who answers; several by comma, `all` compares every one [{engine}].",
        ),
        click.option(
            "--as-of", metavar="EPOCH|TIME",
            help="Over the epoch of that number, or of that time (ISO 8601, UTC) [the newest].",
        ),
        click.option("--fresh", is_flag=True, help="Over the newest epoch and what has changed since."),
        click.option(
            "-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE",
            help="Value of $NAME in the query; see below.",
        ),
        click.option(
            "--format", "format_", type=click.Choice(FORMATS),
            help="Of the answer [table on a terminal, csv elsewhere, by the suffix with -o].",
        ),
        click.option(
            "-o", "--output", "file", type=click.Path(), metavar="FILE",
            help="Write the answer into FILE, whole or not at all; one that is there is replaced.",
        ),
        click.option(
            "--limit", type=click.IntRange(min=0), metavar="N",
            help="Show the first N rows, 0 for all [100 in a table on a terminal, all elsewhere].",
        ),
        click.option(
            "--timeout", "timeout_seconds", type=float, metavar="SECONDS", callback=checked_timeout,
            help="Cancel what has no answer by then; exit code 4.",
        ),
        click.option("--why", is_flag=True, help="Tell too what each engine had to read, measured."),
        click.option("--json", "as_json", is_flag=True, help="Tell who answered, how fast, and checksums."),
    ]  # fmt: skip

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def checked_timeout(_: click.Context, option: click.Parameter, seconds: float | None) -> float | None:
    if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= TIMEOUT_SECONDS_MAX):
        raise click.BadParameter(
            f"{seconds:g}: seconds from 0.001 to {TIMEOUT_SECONDS_MAX:,.0f}", param=option
        )
    return seconds


def complete_engines(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last of `duckdb,pol` too."""
    *before, begun = incomplete.split(",")
    said = "".join(f"{name}," for name in before)
    names = [name for name in (*ENGINE_NAMES, *(() if before else ("all",))) if name not in before]
    return [CompletionItem(said + name) for name in names if name.startswith(begun)]


def complete_questions(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from olap.question import questions

    known = questions().values()
    return [
        CompletionItem(each.name, help=each.purpose) for each in known if each.name.startswith(incomplete)
    ]


def complete_tables(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last word of a query, by the tables of the newest epoch."""
    from lakehouse.published import read_epochs
    from ridelake.errors import RidelakeError

    query, space, begun = incomplete.rpartition(" ")
    try:
        epochs = read_epochs(ctx.obj.lake, limit=1) if ctx.obj is not None else []
    except RidelakeError:  # there is nothing to offer, and nobody to tell
        return []
    tables = [*sorted({name for epoch in epochs for name in epoch.tables}), "RideTable"]
    found = [name for name in tables if begun and name.lower().startswith(begun.lower())]
    return [CompletionItem(query + space + name) for name in found]
