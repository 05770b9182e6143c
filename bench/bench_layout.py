"""The file layout of ridelake compared with DuckDB's default `COPY … TO … (FORMAT parquet)`: all questions on
all engines that read files, interleaved.

    ridelake                 an epoch: sorted runs, small row groups, page index, zstd, delta encodings
    default                  the rows ordered by key, as in the store, written by a plain COPY
    default, epoch's order   the rows in the order of the epoch, written by a plain COPY
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from bench.env import SizedStore, sized_stores
from bench.figure import Cell, Figure, VariantTimes
from bench.statistics import ratio_of
from lakehouse.engines import ENGINES, open_engine
from lakehouse.table.epoch import DataFile, Epoch
from olap.answer import compare_answers
from olap.ask import answer_of
from olap.question import questions

pytestmark = pytest.mark.scale("full")

RIDES = 1_000_000
ROUNDS_MIN = 5
ROUNDS_OF_SLOW_ENGINES = {"spark": 2, "daft": 2}  # rounds; a question takes up to a second
RIDELAKE, DEFAULT, DEFAULT_IN_EPOCH_ORDER = "ridelake", "default", "default, epoch's order"
FILE_ENGINES = tuple(name for name in ENGINES if name != "postgres")
TARGET = "a geometric mean of ratios of at most 0.8 on duckdb, and of 1.05 on other engines"


@pytest.fixture(scope="module")
def sized_store() -> Iterator[SizedStore]:
    with sized_stores([RIDES]) as (one,):
        yield one


@pytest.fixture(scope="module")
def layouts(sized_store: SizedStore) -> Iterator[Mapping[str, Epoch]]:
    with tempfile.TemporaryDirectory(prefix="ridelake-layout-") as name:
        folder = Path(name)
        yield {
            RIDELAKE: sized_store.epoch,
            DEFAULT: _copied(sized_store.epoch, folder / "by_key", by_key=True),
            DEFAULT_IN_EPOCH_ORDER: _copied(sized_store.epoch, folder / "kept", by_key=False),
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
def bench_layout(figure: Figure, sized_store: SizedStore, layouts: Mapping[str, Epoch], name: str) -> None:
    figure.title = f"Is ridelake's file layout faster than DuckDB's default on {name}?"
    all_times: dict[str, VariantTimes] = {}
    with ExitStack() as opened:
        engines = {
            layout: opened.enter_context(open_engine(name, sized_store.settings, epoch))
            for layout, epoch in layouts.items()
        }
        for question in questions().values():
            all_times[question.name] = figure.interleaved(
                {layout: partial(answer_of, engine, question) for layout, engine in engines.items()},
                partial(compare_answers, question),
                label=question.name,
                seconds=0.0,
                rounds_min=ROUNDS_OF_SLOW_ENGINES.get(name, ROUNDS_MIN),
            )
    figure.rows = RIDES
    figure.checked("the answers to all questions are equal over all layouts")
    seconds = {layout: _geometric_means(all_times.values(), layout) for layout in layouts}
    for other in (DEFAULT, DEFAULT_IN_EPOCH_ORDER):
        figure.ratio(
            ratio_of(RIDELAKE, seconds[RIDELAKE], other, seconds[other], "geometric mean of the questions")
        )
    figure.facts["target"] = TARGET
    sizes: list[dict[str, Cell]] = [
        {"layout": layout, "MB": epoch.bytes / 1e6} for layout, epoch in layouts.items()
    ]
    figure.table("Bytes of all tables", sizes)
    figure.table("Milliseconds per question", [_row(asked, times) for asked, times in all_times.items()])


def _geometric_means(all_times: Iterable[VariantTimes], layout: str) -> list[float]:
    """The geometric mean of all questions, for each round."""
    seconds = np.array([times.samples[layout].seconds for times in all_times])
    means: list[float] = np.exp(np.log(seconds).mean(axis=0)).tolist()
    return means


def _row(question: str, times: VariantTimes) -> dict[str, Cell]:
    ratios = {
        f"{RIDELAKE} ÷ {other}": times.ratio(RIDELAKE, other).median
        for other in (DEFAULT, DEFAULT_IN_EPOCH_ORDER)
    }
    return {"question": question, f"{RIDELAKE}, ms": 1e3 * times.median_seconds(RIDELAKE), **ratios}
