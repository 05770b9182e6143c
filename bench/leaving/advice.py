"""The result in three sentences, from the measurements only."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from statistics import median_low

from bench.leaving.crossing import Crossing
from bench.record import Entry, Record
from bench.sampling import Ratio, factor_text

TITLE = "When should I leave Postgres?"
FRESH = "DuckDB with --fresh"


def by_size(rides: int, ratios: Mapping[str, Ratio], crossings: Mapping[str, Crossing]) -> str:
    """`ratios`: for each question, the time of Postgres divided by the time of DuckDB, at this many rides."""
    clear = {name: one.median for name, one in ratios.items() if one.distinguishable}
    columns = {name: factor for name, factor in clear.items() if factor > 1}
    rows = {name: 1 / factor for name, factor in clear.items() if factor < 1}
    parts = []
    if columns:
        parts.append(f"DuckDB is faster on {len(columns)} {_most(columns)}")
    if rows:
        parts.append(
            f"Postgres on {len(rows)} {_most(rows)}"
            if parts
            else f"Postgres is faster on {len(rows)} {_most(rows)}"
        )
    if even := len(ratios) - len(clear):
        parts.append(f"no measurable difference on {even}")
    count = f"{len(ratios)} question{'' if len(ratios) == 1 else 's'}"
    crossover = f" {_crossover([crossings[name] for name in columns])}" if columns else ""
    return f"At {rides:,} rides, of {count}: {', '.join(parts)}.{crossover}"


def _most(factors: Mapping[str, float]) -> str:
    name = max(factors, key=factors.__getitem__)
    return f"(up to {factor_text(factors[name])}×, {name})"


def _crossover(crossings: list[Crossing]) -> str:
    """From how many rides on DuckDB is faster on these questions, or on half of them."""
    places = sorted(one.at for one in crossings)
    half = median_low(places)
    every = len(places) == 1 or places[-1] == 0
    questions = "" if every else f" on half of its {len(places)} questions"
    start = f"{half:,.0f} rides" if half else f"{crossings[0].first:,.0f} rides, the smallest size tried"
    return f"DuckDB is faster{questions} from {start}."


def by_range(rides: int, number: Crossing, whole: Crossing, scanned: Crossing) -> str:
    """`number`: a sum over a key range with an index; `whole`: its rows with an index; `scanned`: the sum
    without an index. Crossings are in rows of the range."""
    without = "DuckDB is always faster" if scanned.always else f"at sums {_until(scanned, rides)}"
    return (
        f"Key ranges of {rides:,} rides: with an index, Postgres is faster than DuckDB at sums "
        f"{_until(number, rides)} and at whole rows {_until(whole, rides)}; without an index, {without}."
    )


def _until(crossing: Crossing, rides: int) -> str:
    """The largest range at which Postgres is faster, with its interval."""
    if crossing.always:
        return "of no size tried"
    if crossing.never:
        return f"of all sizes tried, up to {crossing.last:,.0f} rows ({_share(crossing.last / rides)})"
    if crossing.low == 0 and crossing.high == inf:
        return "up to an unknown size"
    if crossing.at == 0:
        return f"of up to {crossing.high:,.0f} rows at most"
    if crossing.at == inf:
        return f"of up to at least {crossing.low:,.0f} rows ({_share(crossing.low / rides)})"
    low = f"{crossing.low:,.0f}" if crossing.low else "none"
    high = f"{crossing.high:,.0f}" if crossing.high < inf else f"more than {crossing.last:,.0f}"
    return f"of up to {crossing.at:,.0f} rows ({_share(crossing.at / rides)}; {low} to {high})"


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{share:.2%}"


def by_freshness(
    rides: int, epoch_seconds: float, now_over_last: Ratio, rows_over_now: Ratio, now_seconds: float
) -> str:
    """`rides`: requested before each epoch, and before the up-to-date query."""
    last = replace(now_over_last, of=FRESH, over="DuckDB without it")
    rows = replace(rows_over_now, of="Postgres", over=FRESH)
    return (
        f"An epoch of {rides:,} more requests takes {epoch_seconds:.2f} s; an up-to-date answer takes "
        f"{now_seconds:.2f} s. {_capital(rows.sentence())}; {last.sentence()}."
    )


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def advising(record: Record) -> list[Entry]:
    """The entries that have advice."""
    return [entry for entry in record.figures if entry.figure and entry.figure.get("advice")]
