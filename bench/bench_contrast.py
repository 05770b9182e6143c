"""Rows and columns: each question of Postgres and of DuckDB over the epoch that equals it, warm, in turns,
with the bytes that each has to touch; and how few rows a query must want for the row store to win.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from time import perf_counter

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.sized import Sized, sized
from bench.spread import CONFIDENCE, resampled, spread
from lakehouse.engines import Engine, open_engines
from lakehouse.engines.parameters import Parameters
from olap.answer import difference
from olap.ask import ask
from olap.question import questions
from olap.why import why

pytestmark = pytest.mark.scale("full")

ENGINES = ("postgres", "duckdb")
SWEEP_ROUNDS = 9
STEPS = 13
# From one row to this share of all, counted from the middle of the table: ranges lie in no file's corner.
SWEEPS = {
    "one number by key": (
        "SELECT count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents"
        " FROM rides WHERE ride_id BETWEEN $low AND $high",
        0.5,
    ),
    "whole rows by key": ("SELECT * FROM rides WHERE ride_id BETWEEN $low AND $high ORDER BY ride_id", 0.05),
}


@pytest.fixture(scope="module")
def towns(sizes: tuple[int, ...]) -> Iterator[dict[int, Sized]]:
    with sized(sizes) as all_towns:
        yield {town.rides: town for town in all_towns}


@pytest.mark.timeout(1800)
def bench_contrast(benchmark: BenchmarkFixture, towns: dict[int, Sized]) -> None:
    """A ratio over 1 is the column store's win."""
    benchmark.group = "rows and columns, question by question"
    rows: dict[str, dict[str, object]] = {name: {"question": name} for name in questions()}

    def all_sizes() -> None:
        for town in towns.values():
            with open_engines(ENGINES, town.settings, town.epoch) as engines:
                for name in questions():
                    rows[name] |= _contrasted(town, engines, name)

    benchmark.pedantic(all_sizes, rounds=1)
    benchmark.extra_info |= {"ratio": "postgres to duckdb, median [least, most]", "answers": "equal"}
    benchmark.extra_info["questions"] = sorted(rows.values(), key=lambda row: str(row["question"]))


def _contrasted(town: Sized, engines: list[Engine], name: str) -> dict[str, object]:
    asked = ask(questions()[name], engines, town.epoch)
    touched = why(asked, engines, town.epoch)
    by_rows, by_columns = (run.seconds[1:] or run.seconds for run in asked.runs)
    ratios = np.array(by_rows) / np.array(by_columns)
    size = f"{town.rides / 1e6:g}M"
    return {
        f"ratio_{size}": f"{np.median(ratios):.2f} [{ratios.min():.2f}, {ratios.max():.2f}]",
        f"rows_ms_{size}": 1e3 * asked.runs[0].usual_seconds,
        f"rows_mb_{size}": (touched["postgres"].bytes or 0) / 1e6,
        f"columns_mb_{size}": (touched["duckdb"].bytes or 0) / 1e6,
    }


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sweep", SWEEPS)
def bench_selectivity(benchmark: BenchmarkFixture, towns: dict[int, Sized], sweep: str) -> None:
    """The share of the rides below which an index of Postgres answers sooner than DuckDB."""
    benchmark.group = "the selectivity at which the row store wins"
    found: list[dict[str, object]] = []
    benchmark.pedantic(
        lambda: found.extend(_crossing(town, *SWEEPS[sweep]) for town in towns.values()), rounds=1
    )
    benchmark.extra_info |= {"sweep": sweep, "answers": "equal", "crossings": found}


def _crossing(town: Sized, query: str, share_max: float) -> dict[str, object]:
    counts = sorted({int(count) for count in np.geomspace(1, town.rides * share_max, STEPS)})
    with open_engines(ENGINES, town.settings, town.epoch) as engines:
        seconds = np.array([_swept(engines, query, town.rides // 2, count) for count in counts])
    ratios = seconds[:, :, 0] / seconds[:, :, 1]  # counts × rounds; below 1 the row store is faster
    wanted = np.log(np.array(counts) / town.rides)
    drawn = np.median(ratios[:, resampled(SWEEP_ROUNDS)], axis=2).T
    shares = 100 * np.exp([_where_one(wanted, np.log(of)) for of in drawn])
    low, high = np.percentile(shares, CONFIDENCE)
    share = 100 * float(np.exp(_where_one(wanted, np.log(np.median(ratios, axis=1)))))
    return {
        "rides": town.rides,
        "share_percent": f"{share:.3f} [{low:.3f}, {high:.3f}]",  # at most 100 × share_max: not crossed
        "rows": round(share / 100 * town.rides),
        "one_row_ratio": spread(ratios[0])[0],
        "most_rows_ratio": spread(ratios[-1])[0],
    }


def _swept(engines: list[Engine], query: str, middle: int, count: int) -> list[list[float]]:
    """Seconds of both, round by round."""
    values = {"low": middle, "high": middle + count - 1}
    found = []
    for turn in range(1 + SWEEP_ROUNDS):
        answers, seconds = zip(*(_timed(engine.sql, query, values) for engine in engines), strict=True)
        assert difference(*answers) is None
        found += [list(seconds)] if turn else []
    return found


def _timed(sql: Callable[..., object], query: str, values: Parameters) -> tuple[object, float]:
    started = perf_counter()
    answer = sql(query, values)
    return answer, perf_counter() - started


def _where_one(wanted: np.ndarray, ratios: np.ndarray) -> float:
    """Where the logarithm of the ratio crosses nought for the last time, on a line between two steps; the
    first or the last step if it never does."""
    for step, (left, right) in reversed(list(enumerate(pairwise(ratios)))):
        if left < 0 <= right:
            return float(wanted[step] + (wanted[step + 1] - wanted[step]) * -left / (right - left))
    return float(wanted[-1] if ratios[-1] < 0 else wanted[0])
