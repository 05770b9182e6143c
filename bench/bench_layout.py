"""Our files beside DuckDB's default `COPY … TO … (FORMAT parquet)` of the same rows: every question, by every
engine that reads files, in turns.

    ours          an epoch as it is: sorted runs, small row groups, page index, zstd, delta encodings
    default       the rows in the order of their key, as they lie in the store, written by a plain COPY
    default kept  the rows in our order, written so too: what all but the order is worth
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.sized import Sized, sized
from bench.spread import geometric_mean, resampled, spread
from lakehouse.engines import ENGINES, open_engine
from lakehouse.epoch import DataFile, Epoch
from olap.answer import difference
from olap.ask import timed
from olap.question import questions

pytestmark = pytest.mark.scale("full")

RIDES = 1_000_000
ROUNDS = 5
SLOW = {"spark": 2, "daft": 2}  # a question takes them up to a second
FILE_ENGINES = tuple(name for name in ENGINES if name != "postgres")
PROMISED = "geometric mean ≤ 0.8 on duckdb, no engine over 1.05"


@pytest.fixture(scope="module")
def town() -> Iterator[Sized]:
    with sized([RIDES]) as (one,):
        yield one


@pytest.fixture(scope="module")
def layouts(town: Sized) -> Iterator[Mapping[str, Epoch]]:
    with tempfile.TemporaryDirectory(prefix="ridelake-layout-") as name:
        folder = Path(name)
        yield {
            "ours": town.epoch,
            "default": _copied(town.epoch, folder / "by_key", by_key=True),
            "default kept": _copied(town.epoch, folder / "kept", by_key=False),
        }


def _copied(epoch: Epoch, folder: Path, *, by_key: bool) -> Epoch:
    """The same epoch in other files: one for each table, as DuckDB writes them when it is told nothing."""
    folder.mkdir()
    tables = {}
    for name, table in epoch.tables.items():
        file = folder / f"{name}.parquet"
        with duckdb.connect() as connection:
            rows = connection.read_parquet(table.locations)
            if by_key:
                rows = rows.order(f'"{rows.columns[0]}"')
            rows.create_view("rows")
            connection.execute("COPY rows TO ? (FORMAT parquet)", [str(file)])
        counted = pq.read_metadata(file).num_rows
        assert counted == table.rows, name
        tables[name] = replace(table, files=(DataFile(str(file), counted, file.stat().st_size, ""),))
    return replace(epoch, tables=tables)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FILE_ENGINES)
def bench_layout(benchmark: BenchmarkFixture, town: Sized, layouts: Mapping[str, Epoch], name: str) -> None:
    benchmark.group = "our file layout against DuckDB's default"
    found: dict[str, dict[str, list[float]]] = {}
    benchmark.pedantic(lambda: found.update(_interleaved(name, town, layouts)), rounds=1)
    versus = {other: _ratios(found, other) for other in layouts if other != "ours"}
    rows = [_row(question, found[question], versus) for question in found]
    benchmark.extra_info |= {"engine": name, "rides": RIDES, "promised": PROMISED, "answers": "equal"}
    for other, ratios in versus.items():
        told = other.replace(" ", "_")
        middle = geometric_mean([spread(of)[0] for of in ratios.values()])
        low, high = _interval(list(ratios.values()))
        benchmark.extra_info |= {f"of_{told}": middle, f"of_{told}_low": low, f"of_{told}_high": high}
    benchmark.extra_info |= {
        f"{told.replace(' ', '_')}_mb": epoch.bytes / 1e6 for told, epoch in layouts.items()
    }
    benchmark.extra_info["questions"] = rows


def _interleaved(name: str, town: Sized, layouts: Mapping[str, Epoch]) -> dict[str, dict[str, list[float]]]:
    """Seconds by question and layout, one for each round; the first round's are not kept."""
    found: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as opened:
        engines = {
            layout: opened.enter_context(open_engine(name, town.settings, epoch))
            for layout, epoch in layouts.items()
        }
        for question in questions().values():
            seconds = found[question.name] = {layout: [] for layout in layouts}
            for turn in range(1 + SLOW.get(name, ROUNDS)):
                answers = {}
                for layout in list(layouts)[:: 1 if turn % 2 else -1]:
                    answers[layout], taken = timed(engines[layout], question)
                    seconds[layout] += [taken] if turn else []
                for layout, answer in answers.items():
                    told = difference(answers["ours"], answer, ordered=question.ordered)
                    assert told is None, (question.name, layout, told)
    return found


def _ratios(found: dict[str, dict[str, list[float]]], other: str) -> dict[str, np.ndarray]:
    return {name: np.array(seconds["ours"]) / np.array(seconds[other]) for name, seconds in found.items()}


def _row(
    question: str, seconds: dict[str, list[float]], versus: dict[str, dict[str, np.ndarray]]
) -> dict[str, object]:
    return {
        "question": question,
        "ours_ms": 1e3 * spread(seconds["ours"])[0],
        **{f"of_{other.replace(' ', '_')}": spread(of[question])[0] for other, of in versus.items()},
    }


def _interval(ratios: list[np.ndarray]) -> tuple[float, float]:
    """Of the geometric mean: the rounds are drawn again, the same ones for all questions."""
    of = np.array(ratios)  # questions × rounds
    drawn = np.median(of[:, resampled(of.shape[1])], axis=2)
    low, high = np.percentile(np.exp(np.log(drawn).mean(axis=0)), (2.5, 97.5))
    return float(low), float(high)
