"""When should I leave Postgres? The same town in several sizes: questions over rows and over the epoch that
equals them, and how many rows a query must want by their key for the columns to be faster."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from bench.figure import Axis, Cell, Chart, Contest, Figure, Mark, Series
from bench.leaving.crossing import Crossing, crossing_of, words
from bench.leaving.sentences import TITLE, by_share, by_size
from bench.sampling import Ratio
from bench.sized import Sized, sized
from lakehouse.engines import Engine, open_engines
from olap.answer import difference
from olap.ask import answer_of
from olap.question import questions

ROWS, COLUMNS = "postgres", "duckdb"
SIZES = {"quick": (2_000, 20_000), "default": (5_000, 25_000, 120_000), "full": (100_000, 1_000_000)}
SECONDS = {"quick": 0.05, "default": 0.2, "full": 3.0}  # of one contest
STEPS = {"quick": 3, "default": 5, "full": 9}
BY_KEY = (
    "SELECT count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents"
    " FROM rides WHERE ride_id BETWEEN $low AND $high"
)
SHARE_MAX = 0.5
# By key, by index and over all rows: below the full scale there is time for these alone.
FEW = ("ride_by_id", "average_price", "rides_by_weekday_and_hour")
SOME = (
    *FEW,
    "latest_rides",
    "revenue_by_city_and_month",
    "fare_percentiles",
    "top_drivers",
    "rider_sessions",
)


def bench_leaving(figure: Figure) -> None:
    figure.title = TITLE
    sizes = SIZES[figure.scale.name]
    asked = {"quick": FEW, "default": SOME, "full": tuple(questions())}[figure.scale.name]
    by_question: dict[str, list[Contest]] = {name: [] for name in asked}
    with sized(sizes) as towns:
        for town in towns:
            with open_engines((ROWS, COLUMNS), town.settings, town.epoch) as engines:
                for name in asked:
                    by_question[name].append(_asked(figure, engines, name, town.rides))
                if town is towns[-1]:
                    ranges = _ranges(figure, engines, town)
    figure.rows = sizes[-1]
    figure.checked("at every size and for every range both answers were equal before they were timed")
    crossings = {name: _crossing(sizes, contests) for name, contests in by_question.items()}
    key = _crossing(list(ranges), list(ranges.values()))
    figure.facts["questions"] = by_size(crossings)
    figure.facts["ranges"] = by_share(key, sizes[-1], "one number of them")
    rows = [_row(name, contests, crossings[name]) for name, contests in by_question.items()]
    figure.table("From how many rides on the columns are faster", rows)
    ratios = {name: [_ratio(contest) for contest in contests] for name, contests in by_question.items()}
    for found in (*ratios.values(), [_ratio(contest) for contest in ranges.values()]):
        for ratio in found:
            figure.ratio(ratio)
    figure.chart(_lines(sizes, ratios, crossings))
    figure.doubt("a crossing lies on a line between the sizes measured; no size beyond them was tried")
    if len(asked) < len(questions()):
        figure.doubt(f"{len(asked)} of {len(questions())} questions: all of them at the full scale")


def _asked(figure: Figure, engines: Sequence[Engine], name: str, rides: int) -> Contest:
    question = questions()[name]
    ways = {engine.name: partial(answer_of, engine, question) for engine in engines}
    return _contest(figure, ways, f"{name}, {rides:,} rides", ordered=question.ordered)


def _ranges(figure: Figure, engines: Sequence[Engine], town: Sized) -> dict[float, Contest]:
    """From one row to half of all, counted from the middle of the table: ranges lie in no file's corner."""
    found: dict[float, Contest] = {}
    for count in np.geomspace(1, town.rides * SHARE_MAX, STEPS[figure.scale.name]).astype(int).tolist():
        values = {"low": town.rides // 2, "high": town.rides // 2 + count - 1}
        ways = {engine.name: partial(engine.sql, BY_KEY, values) for engine in engines}
        found[float(count)] = _contest(figure, ways, f"{count:,} rows by key", ordered=True)
    return found


def _contest(
    figure: Figure, ways: Mapping[str, Callable[[], pa.Table]], label: str, *, ordered: bool
) -> Contest:
    def compare(answers: dict[str, pa.Table]) -> None:
        differs = difference(answers[ROWS], answers[COLUMNS], ordered=ordered, names=(ROWS, COLUMNS))
        assert differs is None, f"{label}: {differs}"

    return figure.in_turns(ways, compare, label=label, seconds=SECONDS[figure.scale.name])


def _crossing(places: Sequence[float], contests: Sequence[Contest]) -> Crossing:
    rounds = [
        (np.array(one.samples[ROWS].seconds) / np.array(one.samples[COLUMNS].seconds)).tolist()
        for one in contests
    ]
    return crossing_of(places, rounds)


def _ratio(contest: Contest) -> Ratio:
    return contest.ratio(ROWS, COLUMNS)


def _row(name: str, contests: Sequence[Contest], crossing: Crossing) -> dict[str, Cell]:
    medians: dict[str, Cell] = {one.label.split(", ", 1)[1]: _ratio(one).median for one in contests}
    return {"question": name, **medians, "columns overtake": words(crossing, "rides")}


def _lines(sizes: Sequence[int], ratios: dict[str, list[Ratio]], crossings: dict[str, Crossing]) -> Chart:
    series = [Series("as fast as each other", [sizes[0], sizes[-1]], [1.0, 1.0])]
    for name, found in ratios.items():
        middle, low, high = zip(*((one.median, one.low, one.high) for one in found), strict=True)
        series.append(Series(name, list(sizes), list(middle), list(low), list(high)))
    marks = [Mark(name, one.at, 1.0) for name, one in crossings.items() if sizes[0] <= one.at <= sizes[-1]]
    axes = Axis("rides", log=True), Axis("times as long over rows as over columns", log=True)
    return Chart("lines", "Where the columns overtake the rows", *axes, series, marks)
