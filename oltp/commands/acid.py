"""`ridelake acid`."""

import math
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ridelake.errors import ProofFailed, UsageError
from ridelake.progress import progress
from ridelake.screen import note, say, say_json, say_table
from ridelake.settings import Settings

if TYPE_CHECKING:
    from oltp.acid.contrast import Contrast
    from oltp.acid.hermitage import Played

COLUMNS_MAX = 110
WIDE, NARROW = 98, 80  # columns: for names on one line, for everything that is counted
ANOMALIES = ("driver\ntwice", "paid,\nno ride", "ride,\nunpaid", "debit\nlost")
PRICES = ("aborts", "retries", "rides\nper s")
ROUNDS_MAX, DRIVERS_MAX = 100_000, 10_000
OF_THE_RIVALS = ("rivals", "drivers", "rounds", "think_ms", "seed")


@click.command()
@click.option(
    "--rivals",
    type=click.IntRange(2, 150),
    default=16,
    show_default=True,
    help="Clients at once; two to a rider.",
)
@click.option(
    "--drivers", type=click.IntRange(1, DRIVERS_MAX), default=4, show_default=True, help="To be had."
)
@click.option(
    "--rounds", type=click.IntRange(1, ROUNDS_MAX), default=25, show_default=True, help="For each strategy."
)
@click.option(
    "--think-ms",
    type=click.FloatRange(0, 1000),
    default=10.0,
    show_default=True,
    help="Between the check and the act.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same clients die.")
@click.option("--hermitage", is_flag=True, help="Instead: 14 known interleavings at each isolation level.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_context
def acid(context: click.Context, /, hermitage: bool, as_json: bool, **rules: Any) -> None:
    """See what breaks without transactions, at each isolation level, and in the store.

    The same rivals compete for the same few drivers under nine strategies; what they leave behind is counted.
    It happens in a database of its own, which is dropped afterwards. Exit 1 if the store shows an anomaly, or
    an isolation level does not do what is expected of it.
    """
    settings: Settings = context.obj
    if not math.isfinite(rules["think_ms"]):
        raise UsageError(f"--think-ms {rules['think_ms']}: a number from 0 to 1000")
    if not hermitage:
        _contrast(settings, as_json, rules)
        return
    for name in OF_THE_RIVALS:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UsageError(
                f"--{name.replace('_', '-')}: --hermitage has no rivals; leave out one or the other"
            )
    _hermitage(settings, as_json)


def _contrast(settings: Settings, as_json: bool, wanted: dict[str, Any]) -> None:
    from oltp.acid.contrast import contrast
    from oltp.acid.rivals import Rules
    from oltp.acid.scratch import open_scratch
    from oltp.acid.strategies import STRATEGIES

    rules = Rules(**wanted)
    with (
        open_scratch(settings) as scratch,
        progress("rounds", rules.rounds * len(STRATEGIES)) as shown,
    ):
        done = contrast(scratch, rules, shown.reach)
    if as_json:
        say_json(done.as_dict())
    else:
        _tell_contrast(done)
    if not done.store_holds:
        raise ProofFailed("the store shows an anomaly, which must never be: please report this output")


def _tell_contrast(done: "Contrast") -> None:
    rules = done.rules
    most = min(rules.drivers, rules.rivals) * rules.rounds
    _say_wrapped(
        f"{rules.rivals} rivals, who are {riders_of(rules.rivals)}; {rules.drivers:,} drivers, "
        f"{rules.rounds:,} rounds: at most {most:,} rides are right. Released together; "
        f"{rules.think_ms:g} ms between looking and writing, the same for all, so that overlaps that are "
        "rare in life happen here. One client in eight dies in the middle of its work."
    )
    say("")
    _say_counted(done)
    say("")
    for one in done.seen:
        _say_wrapped(one.verdict, indent="  ")
    note(
        "anomalies and rides are counted in SQL over the tables, aborts and retries by the clients; "
        f"rides and rides/s count the wrong ones too. {done.seconds:.0f} s"
    )


def riders_of(rivals: int) -> str:
    """Two rivals share a rider; one may be left over."""
    pairs, single = divmod(rivals, 2)
    with_two = "1 rider with two phones" if pairs == 1 else f"{pairs} riders with two phones each"
    return with_two + (" and 1 with one" if single else "")


def _say_counted(done: "Contrast") -> None:
    """As much of it as the terminal has room for: names are never broken in the middle of a word."""
    from oltp.acid.strategies import Anomaly

    width = shutil.get_terminal_size().columns
    rows: list[tuple[object, ...]] = []
    for one in done.seen:
        name = one.strategy.name if width >= WIDE else one.strategy.name.replace(", ", ",\n  ")
        prices = (one.tally.aborts.total(), one.tally.retries, round(one.rides_per_second))
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
    from oltp.acid.hermitage import play_all
    from oltp.acid.scratch import open_scratch
    from oltp.acid.spec import LEVELS, hermitage_cases

    cases = hermitage_cases()
    with open_scratch(settings) as scratch, progress("plays", len(cases) * len(LEVELS)) as shown:
        played = play_all(scratch.small, cases, shown.reach)
    server = scratch.small.server_version
    different = [one for one in played if not one.as_expected]
    if as_json:
        say_json(_as_document(played, server))
    else:
        _tell_matrix(played, server)
    if different:
        raise ProofFailed(
            f"{len(different)} of {len(played)} plays went another way than expected of Postgres: "
            "do not rely on what this project says about isolation on this server"
        )


def _tell_matrix(played: "tuple[Played, ...]", server_version: int) -> None:
    from oltp.acid.hermitage import level_name
    from oltp.acid.spec import LEVELS

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
    say(f"{right} of {len(played)} are as expected, on Postgres {_version(server_version)}")
    for level in LEVELS:
        let = [one.case.name for one in played if one.level == level and one.verdict == "anomaly"]
        _say_wrapped(f"{level_name(level)} lets through: {', '.join(let) or 'nothing'}", indent="  ")
    note("waits: until the other has ended; 40001: refused, rolled back. Steps: oltp/acid/isolation.spec")


def _as_document(played: "tuple[Played, ...]", server_version: int) -> dict[str, Any]:
    cases: dict[str, dict[str, Any]] = {}
    for one in played:
        told = {"case": one.case.name, "title": one.case.title, "story": one.case.story, "levels": {}}
        cases.setdefault(one.case.name, told)["levels"][one.level.name.lower()] = one.as_dict()
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
