"""`ridelake acid`."""

import math
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from oltp.commands import json_option, seed_option
from ridelake.errors import ProofFailed, UsageError
from ridelake.progress import progress
from ridelake.screen import note, say, say_json, say_table
from ridelake.settings import Settings

if TYPE_CHECKING:
    from oltp.acid.contrast import ContrastResult
    from oltp.acid.isolation import IsolationResult

COLUMNS_MAX = 110
WIDE, NARROW = 98, 80  # terminal columns: names on one line; all counts
ANOMALIES = ("driver\ntwice", "paid,\nno ride", "ride,\nunpaid", "debit\nlost")
PRICES = ("aborts", "retries", "rides\nper s")
ROUNDS_MAX, DRIVERS_MAX = 100_000, 10_000
OPTIONS_OF_CONTRAST = ("rivals", "drivers", "rounds", "think_ms", "seed")


@click.command()
@click.option(
    "--rivals",
    type=click.IntRange(2, 150),
    default=16,
    show_default=True,
    help="Concurrent clients; two per rider.",
)
@click.option(
    "--drivers",
    type=click.IntRange(1, DRIVERS_MAX),
    default=4,
    show_default=True,
    help="Available drivers in each round.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, ROUNDS_MAX),
    default=25,
    show_default=True,
    help="Rounds per strategy.",
)
@click.option(
    "--think-ms",
    type=click.FloatRange(0, 1000),
    default=10.0,
    show_default=True,
    help="Milliseconds between the check and the write.",
)
@seed_option("The same seed stops the same clients between their two writes.")
@click.option("--hermitage", is_flag=True, help="Run 14 known interleavings at each isolation level instead.")
@json_option
@click.pass_context
def acid(context: click.Context, /, hermitage: bool, as_json: bool, **rules: Any) -> None:
    """Count anomalies without transactions, at each isolation level, and in the store.

    Concurrent clients compete for the same few drivers under nine strategies, and the anomalies in the tables
    are counted. The command creates a scratch database and drops it afterwards. The exit code is 1 if the
    store shows an anomaly, or if an isolation level behaves in an unexpected way.
    """
    settings: Settings = context.obj
    if not math.isfinite(rules["think_ms"]):
        raise UsageError(f"--think-ms must be from 0 to 1000, not {rules['think_ms']}")
    if not hermitage:
        _contrast(settings, as_json, rules)
        return
    for name in OPTIONS_OF_CONTRAST:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UsageError(
                f"--{name.replace('_', '-')} cannot be used with --hermitage; leave out one of them"
            )
    _hermitage(settings, as_json)


def _contrast(settings: Settings, as_json: bool, wanted: dict[str, Any]) -> None:
    from oltp.acid.contrast import run_strategies
    from oltp.acid.strategies import STRATEGIES, ContentionRules
    from oltp.scratch import open_scratch

    rules = ContentionRules(**wanted)
    with (
        open_scratch(settings) as scratch,
        progress("rounds", rules.rounds * len(STRATEGIES)) as shown,
    ):
        done = run_strategies(scratch, rules, shown.reach)
    if as_json:
        say_json(done.as_dict())
    else:
        _print_contrast(done)
    if not done.store_holds:
        raise ProofFailed("the store shows an anomaly; this is a bug, please report this output")


def _print_contrast(done: "ContrastResult") -> None:
    rules = done.rules
    most = min(rules.drivers, rules.rivals) * rules.rounds
    _say_wrapped(
        f"{rules.rivals} clients: {riders_of(rules.rivals)}; {rules.drivers:,} drivers, "
        f"{rules.rounds:,} rounds: at most {most:,} rides are correct. All clients of a round start together "
        f"and wait {rules.think_ms:g} ms between the check and the write, so that overlaps that are rare in "
        "production occur here. One client in eight dies between its two writes."
    )
    say("")
    _print_counts(done)
    say("")
    for one in done.seen:
        _say_wrapped(one.verdict, indent="  ")
    note(
        "anomalies and rides are counted in SQL over the tables, aborts and retries by the clients; "
        f"rides and rides/s include the incorrect rides. {done.seconds:.0f} s"
    )


def riders_of(rivals: int) -> str:
    """Two clients share a rider; an odd one has its own."""
    pairs, single = divmod(rivals, 2)
    with_two = "1 rider with two clients" if pairs == 1 else f"{pairs} riders with two clients each"
    return with_two + (" and 1 with one" if single else "")


def _print_counts(done: "ContrastResult") -> None:
    """Print the columns for which the terminal has room; names are not broken within a word."""
    from oltp.acid.strategies import Anomaly

    width = shutil.get_terminal_size().columns
    rows: list[tuple[object, ...]] = []
    for one in done.seen:
        name = one.strategy.name if width >= WIDE else one.strategy.name.replace(", ", ",\n  ")
        prices = (one.counts.aborts.total(), one.counts.retries, round(one.rides_per_second))
        rows.append(
            (
                f"{one.mark} {name}",
                *(one.anomalies[anomaly] for anomaly in Anomaly),
                one.rides,
                *(prices if width >= NARROW else ()),
            )
        )
    columns = ("", *ANOMALIES, "rides", *(PRICES if width >= NARROW else ()))
    say_table(columns, rows, dense=width < WIDE)


def _hermitage(settings: Settings, as_json: bool) -> None:
    from oltp.acid.isolation import LEVELS, hermitage_cases, run_all
    from oltp.scratch import open_scratch

    cases = hermitage_cases()
    with open_scratch(settings) as scratch, progress("interleavings", len(cases) * len(LEVELS)) as shown:
        played = run_all(scratch.small, cases, shown.reach)
    server = scratch.small.server_version
    different = [one for one in played if not one.as_expected]
    if as_json:
        say_json(_as_document(played, server))
    else:
        _print_matrix(played, server)
    if different:
        raise ProofFailed(
            f"{len(different)} of {len(played)} interleavings gave another result than expected of Postgres: "
            "do not rely on this project's statements about isolation on this server"
        )


def _print_matrix(played: "tuple[IsolationResult, ...]", server_version: int) -> None:
    from oltp.acid.isolation import LEVELS, level_name

    narrow = shutil.get_terminal_size().columns < NARROW
    rows: dict[str, list[str]] = {}
    for one in played:
        named = [one.case.name] if narrow else [one.case.name, one.case.title]
        rows.setdefault(one.case.name, named).append(one.verdict if one.as_expected else "✗ differs")
    levels = [level_name(level).replace(" ", "\n") for level in LEVELS]
    say_table(("case", *([] if narrow else [""]), *levels), list(rows.values()), dense=narrow)
    say("")
    for one in played:
        for line in one.differences:
            _say_wrapped(f"✗ {line}", indent="  ")
    right = sum(one.as_expected for one in played)
    say(f"{right} of {len(played)} results are as expected on Postgres {_version(server_version)}")
    for level in LEVELS:
        allowed = [one.case.name for one in played if one.level == level and one.verdict == "anomaly"]
        _say_wrapped(f"{level_name(level)} allows: {', '.join(allowed) or 'no anomaly'}", indent="  ")
    note(
        "waits: blocked until the other transaction ends; 40001: serialization failure, rolled back. "
        "Steps: oltp/acid/isolation.spec"
    )


def _as_document(played: "tuple[IsolationResult, ...]", server_version: int) -> dict[str, Any]:
    cases: dict[str, dict[str, Any]] = {}
    for one in played:
        case = {
            "case": one.case.name,
            "title": one.case.title,
            "description": one.case.description,
            "levels": {},
        }
        cases.setdefault(one.case.name, case)["levels"][one.level.name.lower()] = one.as_dict()
    return {
        "as_expected": all(one.as_expected for one in played),
        "server_version": server_version,
        "cases": list(cases.values()),
    }


def _version(number: int) -> str:
    """180006 → 18.6."""
    return f"{number // 10_000}.{number % 10_000}"


def _say_wrapped(text: str, *, indent: str = "") -> None:
    width = min(shutil.get_terminal_size().columns, COLUMNS_MAX)
    say(textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False))
