"""The row count at which one system becomes faster than another, with an interval, and sentences about it.

The logarithm of the ratio is interpolated between two row counts. Each bootstrap resample draws the rounds of
each row count and adds a difference between runs (`bench.statistics`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf, isfinite
from statistics import median_low
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.statistics import CONFIDENCE, RESAMPLES, Ratio, ratio_of, resampled_medians
from ridelake.text import listed, ratio_text

if TYPE_CHECKING:
    from bench.figure import VariantTimes  # which needs pytest-benchmark; a report does not


@dataclass(frozen=True, slots=True)
class Crossing:
    """The ratio stays above 1 from `at` rows on. `at` is 0 if the ratio is above 1 at all row counts, and
    infinite if it is below 1 at the largest. `low` and `high` are the interval of `at`. `first` and `last`
    are the smallest and the largest row count measured."""

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


def find_crossing(row_counts: Sequence[float], ratios: Sequence[Sequence[float]]) -> Crossing:
    """`row_counts` are positive and ascending. `ratios`: for each row count, the ratio of every round; above
    1 the column store is faster."""
    random = np.random.default_rng(len(row_counts))
    drawn = np.empty((RESAMPLES, len(row_counts)))
    for number, rounds in enumerate(ratios):
        drawn[:, number] = np.log(resampled_medians(rounds, random))
    found = np.sort([_last_crossing(row_counts, one.tolist()) for one in drawn])
    tail = (1 - CONFIDENCE) / 2
    # No interpolation between resamples: some may be infinite.
    low, high = found[int(tail * RESAMPLES)], found[int((1 - tail) * RESAMPLES) - 1]
    middle = _last_crossing(row_counts, [float(np.log(np.median(rounds))) for rounds in ratios])
    # If the ratio is near 1, most resamples cross at more rows than the median does. Extend the interval to
    # it.
    return Crossing(middle, min(float(low), middle), max(float(high), middle), row_counts[0], row_counts[-1])


def _last_crossing(row_counts: Sequence[float], logs: Sequence[float]) -> float:
    """The row count from which on the ratio stays above 1."""
    if logs[-1] < 0:
        return inf
    steps = list(zip(pairwise(row_counts), pairwise(logs), strict=True))
    for (near, far), (left, right) in reversed(steps):
        if left < 0 <= right:
            return float(near * (far / near) ** (-left / (right - left)))
    return 0.0


def crossing_of(
    row_counts: Sequence[float],
    times: Sequence["VariantTimes"],
    rows: str = "postgres",
    columns: str = "duckdb",
) -> Crossing:
    """The crossing of the times of a row store and a column store, measured at these row counts."""
    return find_crossing(
        row_counts, [_ratios(one.samples[rows].seconds, one.samples[columns].seconds) for one in times]
    )


def _ratios(seconds: Sequence[float], others: Sequence[float]) -> list[float]:
    ratios: list[float] = (np.array(seconds) / np.array(others)).tolist()
    return ratios


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


# With fewer rows, a scan of the table takes a few milliseconds on any engine.
ROWS_TO_TELL = 100_000

TITLE = "When should I leave Postgres?"
FRESH = "DuckDB with --fresh"


def size_sentence(
    rows: int, ratios: Mapping[str, Ratio], crossings: Mapping[str, Crossing], unit: str = "rides"
) -> str:
    """`ratios`: for each question, the time of Postgres divided by the time of DuckDB, at this many rows."""
    clear = {name: one.median for name, one in ratios.items() if one.distinguishable}
    columns = {name: factor for name, factor in clear.items() if factor > 1}
    by_rows = {name: 1 / factor for name, factor in clear.items() if factor < 1}
    parts = []
    if columns:
        parts.append(f"DuckDB is faster on {len(columns)} {_largest_factor(columns)}")
    if by_rows:
        parts.append(
            f"Postgres on {len(by_rows)} {_largest_factor(by_rows)}"
            if parts
            else f"Postgres is faster on {len(by_rows)} {_largest_factor(by_rows)}"
        )
    if even := len(ratios) - len(clear):
        parts.append(f"no measurable difference on {even}")
    count = f"{len(ratios)} question{'' if len(ratios) == 1 else 's'}"
    crossover = f" {_crossover([crossings[name] for name in columns], unit)}" if columns else ""
    return f"At {rows:,} {unit}, of {count}: {', '.join(parts)}.{crossover}"


def _largest_factor(factors: Mapping[str, float]) -> str:
    name = max(factors, key=factors.__getitem__)
    return f"(up to {ratio_text(factors[name])}, {name})"


def _crossover(crossings: list[Crossing], unit: str) -> str:
    """From how many rows on DuckDB is faster on these questions, or on half of them."""
    row_counts = sorted(one.at for one in crossings)
    half = median_low(row_counts)
    every = len(row_counts) == 1 or row_counts[-1] == 0
    questions = "" if every else f" on half of its {len(row_counts)} questions"
    start = f"{half:,.0f} {unit}" if half else f"{crossings[0].first:,.0f} {unit}, the smallest size tried"
    return f"DuckDB is faster{questions} from {start}."


def table_sentences(rows: int, ratios: Mapping[str, Ratio], crossings: Mapping[str, Crossing]) -> list[str]:
    """Advice on a user's table: the questions by the faster engine, then whether to stay with Postgres."""
    columns = {name: one.median for name, one in ratios.items() if one.distinguishable and one.median > 1}
    by_rows = [name for name, one in ratios.items() if one.distinguishable and one.median < 1]
    sentences = [size_sentence(rows, ratios, crossings, "rows")]
    if columns:
        sentences += [
            f"Columns are faster for the {name} {crossing_text(crossings[name], 'rows')}." for name in columns
        ]
        if by_rows:
            sentences.append(f"Stay with Postgres for the {listed(by_rows)}.")
    elif rows < ROWS_TO_TELL:
        sentences.append(
            f"Stay with Postgres: {rows:,} rows are too few to find the number of rows from which columns "
            f"are faster. Measure again with at least {ROWS_TO_TELL:,} rows."
        )
    else:
        sentences.append("Stay with Postgres: columns are measurably faster for none of these questions.")
    return sentences


# The samples of a question at a number of rows, as the benchmarks label them.
SIZED = re.compile(r"(.+), ([\d,]+) (rides|rows): (postgres|duckdb)")
NAMES_MAX = 3


@dataclass(frozen=True, slots=True)
class QuestionSizes:
    """A question in a record. `seconds`: the times of the rounds, by row count and engine."""

    name: str
    unit: str
    seconds: dict[int, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The largest row count."""
        return max(self.seconds)

    @property
    def ratio(self) -> Ratio:
        """The time of Postgres divided by the time of DuckDB, at the largest row count."""
        largest = self.seconds[self.rows]
        return ratio_of("Postgres", largest["postgres"], "DuckDB", largest["duckdb"])

    @property
    def crossing(self) -> Crossing:
        counts = sorted(self.seconds)
        ratios = [_ratios(self.seconds[count]["postgres"], self.seconds[count]["duckdb"]) for count in counts]
        return find_crossing(counts, ratios)


def questions_by_size(figure: Mapping[str, Any]) -> list[QuestionSizes]:
    """The questions of a figure in a record that Postgres and DuckDB answered at the same row counts."""
    found: dict[str, QuestionSizes] = {}
    for label, samples in figure.get("samples", {}).items():
        if (sized := SIZED.fullmatch(label)) and samples["seconds"]:
            name, rows, unit, engine = sized.groups()
            sizes = found.setdefault(name, QuestionSizes(name, unit)).seconds
            sizes.setdefault(int(rows.replace(",", "")), {})[engine] = samples["seconds"]
    return [one for one in found.values() if all(len(both) == 2 for both in one.seconds.values())]


def answer_sentence(found: Sequence[QuestionSizes]) -> str:
    """`Stay with Postgres for ride_by_id and newest_ride; columns are faster for 7 of the 12 questions from
    about 19,000 rides.`"""
    ratios = {one.name: one.ratio for one in found}
    rows, unit, count = max(one.rows for one in found), found[0].unit, len(found)
    columns = [one for one in found if ratios[one.name].distinguishable and ratios[one.name].median > 1]
    by_rows = [one for one in found if ratios[one.name].distinguishable and ratios[one.name].median < 1]
    if not columns:
        again = f": measure again with at least {ROWS_TO_TELL:,} {unit}" if rows < ROWS_TO_TELL else ""
        one_of = f"any of the {count} questions" if count > 1 else "the question"
        return f"Stay with Postgres; columns are not faster for {one_of} up to {rows:,} {unit}{again}."
    at = max(one.crossing.at for one in columns)
    first = min(columns[0].seconds)
    always = f"from {first:,} {unit}" if first < rows else f"at {rows:,} {unit}"
    start = f"from about {float(f'{at:.2g}'):,.0f} {unit}" if at else always
    every = f"all {count} questions" if count > 1 else "the question"
    faster_for = f"{len(columns)} of the {count} questions" if len(columns) < count else every
    advice = f"columns are faster for {faster_for} {start}."
    if not by_rows:
        return advice[0].upper() + advice[1:]
    names = [one.name for one in sorted(by_rows, key=lambda one: ratios[one.name].median)]
    more = [f"{len(names) - NAMES_MAX} more"] if len(names) > NAMES_MAX + 1 else []
    return f"Stay with Postgres for {listed([*names[: NAMES_MAX if more else None], *more])}; {advice}"


def range_sentence(rides: int, number: Crossing, whole: Crossing, scanned: Crossing) -> str:
    """Crossings by the number of rows in a key range. `number`: of a sum, with an index. `whole`: of whole
    rows, with an index. `scanned`: of the sum, without an index."""
    without = "DuckDB is always faster" if scanned.always else f"at sums {_largest_range(scanned, rides)}"
    return (
        f"Key ranges of {rides:,} rides: with an index, Postgres is faster than DuckDB at sums "
        f"{_largest_range(number, rides)} and at whole rows {_largest_range(whole, rides)}; "
        f"without an index, {without}."
    )


def _largest_range(crossing: Crossing, rides: int) -> str:
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


def freshness_sentence(
    rides: int, epoch_seconds: float, now_over_last: Ratio, rows_over_now: Ratio, now_seconds: float
) -> str:
    """`rides`: the number of requests before each epoch, and before the up-to-date query."""
    last = replace(now_over_last, of=FRESH, over="DuckDB without it")
    rows = replace(rows_over_now, of="Postgres", over=FRESH)
    return (
        f"An epoch of {rides:,} more requests takes {epoch_seconds:.2f} s; an up-to-date answer takes "
        f"{now_seconds:.2f} s. {_capital(rows.sentence())}; {last.sentence()}."
    )


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
