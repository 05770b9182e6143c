"""Where a ratio crosses 1, with an interval, and the sentences that follow from it.

The logarithm of the ratio is interpolated between two places. Each resample draws the rounds of every place,
and a difference between runs (`bench.statistics`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, isfinite
from statistics import median_low

import numpy as np

from bench.statistics import CONFIDENCE, RESAMPLES, Ratio, resampled_medians
from ridelake.text import ratio_text


@dataclass(frozen=True, slots=True)
class Crossing:
    """The ratio stays above 1 from `at` on. `at` is 0 if it is above 1 at all places, and infinite if it is
    below 1 at the last. `low` and `high` are the interval; `first` and `last` the smallest and largest place
    measured."""

    at: float
    low: float
    high: float
    first: float
    last: float

    @property
    def always(self) -> bool:
        return self.high == 0

    @property
    def never(self) -> bool:
        return self.low == inf


def crossing_of(places: Sequence[float], ratios: Sequence[Sequence[float]]) -> Crossing:
    """`places` are positive and ascending. `ratios` has the rounds of each; above 1 the columns are
    faster."""
    random = np.random.default_rng(len(places))
    drawn = np.empty((RESAMPLES, len(places)))
    for number, rounds in enumerate(ratios):
        drawn[:, number] = np.log(resampled_medians(rounds, random))
    found = np.sort([_for_good(places, one.tolist()) for one in drawn])
    tail = (1 - CONFIDENCE) / 2
    # No interpolation between resamples: some may be infinite.
    low, high = found[int(tail * RESAMPLES)], found[int((1 - tail) * RESAMPLES) - 1]
    middle = _for_good(places, [float(np.log(np.median(rounds))) for rounds in ratios])
    # Near a tie, most resamples cross later than the median: the interval is extended to contain it.
    return Crossing(middle, min(float(low), middle), max(float(high), middle), places[0], places[-1])


def _for_good(places: Sequence[float], logs: Sequence[float]) -> float:
    if logs[-1] < 0:
        return inf
    steps = list(zip(pairwise(places), pairwise(logs), strict=True))
    for (near, far), (left, right) in reversed(steps):
        if left < 0 <= right:
            return float(near * (far / near) ** (-left / (right - left)))
    return 0.0


def crossing_text(crossing: Crossing, unit: str) -> str:
    """`from 12,000 rides (9,000 to 15,000)`, `at all sizes from 2,000 rides`, `not up to 20,000 rides`, or
    `between 9,000 and 15,000 rides`."""
    if crossing.always:
        return f"at all sizes from {crossing.first:,.0f} {unit}"
    if crossing.never:
        return f"not up to {crossing.last:,.0f} {unit}"
    low = f"less than {crossing.first:,.0f}" if crossing.low == 0 else f"{crossing.low:,.0f}"
    high = f"more than {crossing.last:,.0f}" if crossing.high == inf else f"{crossing.high:,.0f}"
    if crossing.at == 0 or not isfinite(crossing.at):
        return f"between {low} and {high} {unit}"
    return f"from {crossing.at:,.0f} {unit} ({low} to {high})"


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
    return f"(up to {ratio_text(factors[name])}, {name})"


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
