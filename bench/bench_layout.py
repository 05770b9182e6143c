"""Our file layout compared with DuckDB's default `COPY … TO … (FORMAT parquet)`: all questions on all engines
that read files, interleaved.

    ours          an epoch: sorted runs, small row groups, page index, zstd, delta encodings
    default       the rows ordered by key, as in the store, written by a plain COPY
    default kept  the rows in the order of the epoch, written by a plain COPY: the effect of all but the order
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

from bench.env import SizedStore, sized_stores
from bench.statistics import geometric_mean, median_interval, resampled
from lakehouse.engines import ENGINES, open_engine
from lakehouse.table.epoch import DataFile, Epoch
from olap.answer import difference
from olap.ask import timed
from olap.question import questions

pytestmark = pytest.mark.scale("full")

RIDES = 1_000_000
ROUNDS = 5
SLOW = {"spark": 2, "daft": 2}  # rounds; a question takes up to a second
FILE_ENGINES = tuple(name for name in ENGINES if name != "postgres")
TARGET = "geometric mean ≤ 0.8 on duckdb, no engine over 1.05"


@pytest.fixture(scope="module")
def sized_store() -> Iterator[SizedStore]:
    with sized_stores([RIDES]) as (one,):
        yield one


@pytest.fixture(scope="module")
def layouts(sized_store: SizedStore) -> Iterator[Mapping[str, Epoch]]:
    with tempfile.TemporaryDirectory(prefix="ridelake-layout-") as name:
        folder = Path(name)
        yield {
            "ours": sized_store.epoch,
            "default": _copied(sized_store.epoch, folder / "by_key", by_key=True),
            "default kept": _copied(sized_store.epoch, folder / "kept", by_key=False),
        }


def _copied(epoch: Epoch, folder: Path, *, by_key: bool) -> Epoch:
    """The same epoch with other files: one per table, written by DuckDB with its defaults."""
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
def bench_layout(
    benchmark: BenchmarkFixture, sized_store: SizedStore, layouts: Mapping[str, Epoch], name: str
) -> None:
    benchmark.group = "our file layout against DuckDB's default"
    found: dict[str, dict[str, list[float]]] = {}
    benchmark.pedantic(lambda: found.update(_interleaved(name, sized_store, layouts)), rounds=1)
    versus = {other: _ratios(found, other) for other in layouts if other != "ours"}
    rows = [_row(question, found[question], versus) for question in found]
    benchmark.extra_info |= {"engine": name, "rides": RIDES, "target": TARGET, "answers": "equal"}
    for other, ratios in versus.items():
        column = other.replace(" ", "_")
        middle = geometric_mean([median_interval(of)[0] for of in ratios.values()])
        low, high = _interval(list(ratios.values()))
        benchmark.extra_info |= {f"of_{column}": middle, f"of_{column}_low": low, f"of_{column}_high": high}
    benchmark.extra_info |= {
        f"{layout.replace(' ', '_')}_mb": epoch.bytes / 1e6 for layout, epoch in layouts.items()
    }
    benchmark.extra_info["questions"] = rows


def _interleaved(
    name: str, sized_store: SizedStore, layouts: Mapping[str, Epoch]
) -> dict[str, dict[str, list[float]]]:
    """Seconds by question and layout, one per round, without the first round."""
    found: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as opened:
        engines = {
            layout: opened.enter_context(open_engine(name, sized_store.settings, epoch))
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
                    found_difference = difference(answers["ours"], answer, ordered=question.ordered)
                    assert found_difference is None, (question.name, layout, found_difference)
    return found


def _ratios(found: dict[str, dict[str, list[float]]], other: str) -> dict[str, np.ndarray]:
    return {name: np.array(seconds["ours"]) / np.array(seconds[other]) for name, seconds in found.items()}


def _row(
    question: str, seconds: dict[str, list[float]], versus: dict[str, dict[str, np.ndarray]]
) -> dict[str, object]:
    return {
        "question": question,
        "ours_ms": 1e3 * median_interval(seconds["ours"])[0],
        **{f"of_{other.replace(' ', '_')}": median_interval(of[question])[0] for other, of in versus.items()},
    }


def _interval(ratios: list[np.ndarray]) -> tuple[float, float]:
    """The interval of the geometric mean; the same rounds are resampled for all questions."""
    of = np.array(ratios)  # questions × rounds
    drawn = np.median(of[:, resampled(of.shape[1])], axis=2)
    low, high = np.percentile(np.exp(np.log(drawn).mean(axis=0)), (2.5, 97.5))
    return float(low), float(high)
