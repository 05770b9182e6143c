"""The options that `sql`, `ask` and the shell share: what to query, by which engines, and how to print it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import click
from click.shell_completion import CompletionItem

from lakehouse.engines import ENGINE_NAMES, omitted_from_all
from ridelake.errors import UsageError, did_you_mean
from ridelake.settings import Settings

FORMATS = ("table", "csv", "json", "jsonl", "markdown", "parquet", "none")
TIMEOUT_SECONDS_MAX = 1e6  # twelve days; larger values overflow the wait of the operating system

Expanded = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """`engines`, `as_of`, `fresh`, `source`, `parameters`, `timeout_seconds`: as on the command line.
    `format_`: None selects the format by the suffix of the file, or by stdout. `file`: None is stdout.
    `limit`: None is all rows, or 100 on a terminal. `as_json`: print a report instead of the answer.
    `why`: report what each engine read. `timing`: print the time. `expanded` and `pager` apply to a table
    on a terminal. `limit_option`: the name of the option that changes the limit, for a message."""

    engines: tuple[str, ...]
    as_of: str | None = None
    fresh: bool = False
    source: str | None = None
    parameters: tuple[str, ...] = ()
    format_: str | None = None
    file: str | None = None
    limit: int | None = None
    timeout_seconds: float | None = None
    why: bool = False
    as_json: bool = False
    timing: bool = True
    expanded: Expanded = "auto"
    pager: bool = False
    limit_option: str = "--limit"

    def engine_names(self, settings: Settings) -> list[str]:
        """The engines of `--engine a,b` or `--engine a --engine b`; `all` is every engine that can answer
        here. Raises UsageError for an unknown name."""
        wanted = [name.strip().lower() for text in self.engines for name in text.split(",")]
        for name in wanted:
            if name not in (*ENGINE_NAMES, "all"):
                meant = did_you_mean(name, (*ENGINE_NAMES, "all"))
                raise UsageError(
                    f"there is no engine '{name}': {meant}choose from {', '.join(ENGINE_NAMES)}, or all"
                )
        if "all" not in wanted:
            return list(dict.fromkeys(wanted))
        omitted = omitted_from_all(settings)
        if self.as_of is not None or (self.source is not None and settings.dsn is None):
            omitted.append("postgres")
        return [name for name in ENGINE_NAMES if name not in omitted or name in wanted]


EPILOG = """
    A $name in the query is a parameter; -p name=VALUE sets its value. The engine binds the value; it is
    never inserted into the SQL text. 7 is an integer, 0.3 a decimal, 3e-1 a double, true and false are
    booleans, 2026-07-01 is a date, 2026-07-01T12:00:00Z a timestamp, null is NULL. Everything else is text,
    and so is a value in single quotes, as in -p "zip='01234'".

    \b
    Completion in bash (zsh and fish likewise): eval "$(_RIDELAKE_COMPLETE=bash_source ridelake)"
"""


def query_options(engine: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds the options of a query; `engine` is the default of --engine. The command gets
    them as keyword arguments of `QueryOptions`."""
    options = [
        click.option(
            "--engine", "engines", multiple=True, default=[engine], metavar="NAME|all",
            shell_complete=complete_engines,
            help=f"Engine that runs the query; a,b or `all` compares several [{engine}].",
        ),
        click.option(
            "--as-of", metavar="EPOCH|TIME",
            help="Query the epoch with this number, or the newest at this time (ISO 8601, UTC) [newest].",
        ),
        click.option("--fresh", is_flag=True, help="Query the newest epoch plus newer changes."),
        click.option(
            "--source", metavar="NAME",
            help="Query the tables of one store, in a lake of several stores [all stores, as one table].",
        ),
        click.option(
            "-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE",
            help="Value of $NAME in the query; see below.",
        ),
        click.option(
            "--format", "format_", type=click.Choice(FORMATS), metavar="FORMAT",
            help=f"{', '.join(FORMATS)} [table on a terminal, else csv; by the suffix with -o].",
        ),
        click.option(
            "-o", "--output", "file", type=click.Path(), metavar="FILE",
            help="Write the answer to FILE atomically; an existing file is replaced.",
        ),
        click.option(
            "--limit", type=click.IntRange(min=0), metavar="N",
            help="Show the first N rows, 0 for all [100 in a table on a terminal, else all].",
        ),
        click.option(
            "--timeout", "timeout_seconds", type=float, metavar="SECONDS", callback=checked_timeout,
            help="Cancel an engine that takes longer; exit code 4.",
        ),
        click.option("--why", is_flag=True, help="Also report what each engine read."),
        click.option("--json", "as_json", is_flag=True, help="Print a JSON report instead of the answer."),
    ]  # fmt: skip

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def checked_timeout(_: click.Context, option: click.Parameter, seconds: float | None) -> float | None:
    if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= TIMEOUT_SECONDS_MAX):
        raise click.BadParameter(
            f"{seconds:g}: must be from 0.001 to {TIMEOUT_SECONDS_MAX:,.0f} seconds", param=option
        )
    return seconds


def complete_engines(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Engine names, also for the last name of a list such as `duckdb,pol`."""
    *before, begun = incomplete.split(",")
    prefix = "".join(f"{name}," for name in before)
    names = [name for name in (*ENGINE_NAMES, *(() if before else ("all",))) if name not in before]
    return [CompletionItem(prefix + name) for name in names if name.startswith(begun)]


def complete_questions(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from olap.question import questions

    known = questions().values()
    return [
        CompletionItem(each.name, help=each.purpose) for each in known if each.name.startswith(incomplete)
    ]


def complete_tables(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Table names of the newest epoch, for the last word of a query."""
    from olap.query_epoch import RIDE_TABLE, last_epoch

    query, space, begun = incomplete.rpartition(" ")
    epoch = last_epoch(ctx.obj) if ctx.obj is not None else None
    tables = [*sorted(epoch.tables if epoch is not None else ()), RIDE_TABLE]
    found = [name for name in tables if begun and name.lower().startswith(begun.lower())]
    return [CompletionItem(query + space + name) for name in found]
