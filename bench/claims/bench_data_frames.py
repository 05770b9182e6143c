"""Data frames and matrices, read by column and by row.

Two tasks are measured separately: getting one column or one row, which may be only a view, and reading every
value. The frame contains rides, whose columns have different types. The matrices are square.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from bench.claims.file_format import rides_table
from bench.env import SEED
from bench.figure import Axis, Cell, Chart, Figure, Series, VariantTimes, Verdict
from bench.textbook import ClaimId
from lakehouse.table.epoch import Epoch

FRAME_ROWS_MAX = 1_000
MATRIX_ROWS = 2_000  # 32 MB of float64, more than a cache holds
# The claim says "much slower". The ratios in the textbook are 81 for one row and 34 for all values.
MUCH_SLOWER_RATIO_MIN = 10
ROW_VARIANTS = ("iloc", "iterrows", "itertuples")

Values = list[list[Any]]


def bench_data_frames(figure: Figure, epoch: Epoch) -> None:
    figure.title = "Are data frames and matrices faster to read by column or by row?"
    rides = rides_table(epoch, min(figure.scale.rides // 100, FRAME_ROWS_MAX))
    figure.rows = rides.num_rows
    full_reads = figure.interleaved(_full_reads(rides), _assert_values_equal, label="read all values")
    single_reads = figure.interleaved(_single_reads(rides), _assert_first, label="get one")
    sums = figure.interleaved(_matrix_sums(), _assert_sums_equal, label="sum")
    figure.checked("all variants visited the same values; the sums by row and by column are equal")
    _add_ratios(figure, f"All values of a frame of {figure.rows:,} rides", full_reads)
    _add_ratios(figure, f"One column, or one row, of a frame of {figure.rows:,} rides", single_reads)
    _add_ratios(figure, f"Sums over a matrix of {MATRIX_ROWS:,} × {MATRIX_ROWS:,} float64", sums)
    mixed = rides.to_pandas().to_numpy()
    figure.facts["numpy_order_by_default"] = _order(np.zeros((2, 2)))
    figure.facts["order_of_to_numpy_of_mixed_frame"] = _order(mixed)
    _set_verdict(figure, full_reads, single_reads, sums)


def _order(matrix: np.ndarray) -> str:
    return "rows (C)" if matrix.flags.c_contiguous else "columns (Fortran)"


def _full_reads(rides: pa.Table) -> dict[str, Callable[[], Values]]:
    """Each variant returns all values, column by column or row by row."""
    frame, polar = rides.to_pandas(), pl.DataFrame(rides)
    return {
        "pandas by column": lambda: [list(frame[name]) for name in frame],
        "pandas by iloc": lambda: [list(frame.iloc[i]) for i in range(len(frame))],
        "pandas by iterrows": lambda: [list(row) for _, row in frame.iterrows()],
        "pandas by itertuples": lambda: [list(row) for row in frame.itertuples(index=False)],
        "Polars by column": lambda: [polar[name].to_list() for name in polar.columns],
        "Polars by row": lambda: [list(polar.row(i)) for i in range(len(polar))],
        "Arrow by column": lambda: [column.to_pylist() for column in rides.columns],
        "Arrow by row": lambda: [[c[i].as_py() for c in rides.columns] for i in range(rides.num_rows)],
    }


def _assert_values_equal(values: dict[str, Values]) -> None:
    wanted = values["Arrow by column"]
    for variant, found in values.items():
        columns = found if variant.endswith("column") else zip(*found, strict=True)
        for column, expected in zip(columns, wanted, strict=True):
            for value, right in zip(column, expected, strict=True):
                assert pd.isna(value) if right is None else value == right, variant


def _single_reads(rides: pa.Table) -> dict[str, Callable[[], Any]]:
    """As in the textbook: a column, which exists in memory, and a row, which has to be assembled."""
    frame, polar = rides.to_pandas(), pl.DataFrame(rides)
    return {
        "pandas, a column": lambda: frame["fare_cents"],
        "pandas, a row": lambda: frame.iloc[0],
        "Polars, a column": lambda: polar["fare_cents"],
        "Polars, a row": lambda: polar.row(0, named=True),
    }


def _assert_first(found: dict[str, Any]) -> None:
    for library in ("pandas", "Polars"):
        assert found[f"{library}, a column"][0] == found[f"{library}, a row"]["fare_cents"]


def _matrix_sums() -> dict[str, Callable[[], list[float]]]:
    """Sums of integers, which do not depend on the order."""
    whole = np.random.default_rng(SEED).integers(0, 100, (MATRIX_ROWS, MATRIX_ROWS))
    by_row, by_column = np.ascontiguousarray(whole, float), np.asfortranarray(whole, float)
    every = range(MATRIX_ROWS)
    return {
        "NumPy in C order, by row": lambda: [by_row[i].sum() for i in every],
        "NumPy in C order, by column": lambda: [by_row[:, i].sum() for i in every],
        "NumPy in Fortran order, by row": lambda: [by_column[i].sum() for i in every],
        "NumPy in Fortran order, by column": lambda: [by_column[:, i].sum() for i in every],
    }


def _assert_sums_equal(sums: dict[str, list[float]]) -> None:
    for direction in ("by row", "by column"):
        wanted = sums[f"NumPy in C order, {direction}"]
        assert all(found == wanted for variant, found in sums.items() if variant.endswith(direction))


def _add_ratios(figure: Figure, title: str, times: VariantTimes) -> None:
    seconds: dict[Cell, Cell] = {variant: times.median_seconds(variant) for variant in times.samples}
    figure.table(title, [{"variant": variant, "seconds": taken} for variant, taken in seconds.items()])
    bars = [Series("median", list(seconds), list(seconds.values()))]
    figure.chart(Chart("bars", title, Axis("variant"), Axis("seconds", log=True), bars))


def _set_verdict(
    figure: Figure, full_reads: VariantTimes, single_reads: VariantTimes, sums: VariantTimes
) -> None:
    pandas = {
        variant: figure.ratio(full_reads.ratio(f"pandas by {variant}", "pandas by column"))
        for variant in ROW_VARIANTS
    }
    one = figure.ratio(single_reads.ratio("pandas, a row", "pandas, a column"))
    c_order, fortran_order = (
        figure.ratio(sums.ratio(f"NumPy in {order}, by column", f"NumPy in {order}, by row"))
        for order in ("C order", "Fortran order")
    )
    by_row = (one, *pandas.values())
    numpy_by_row = c_order.low > 1 and fortran_order.high < 1
    verdict: Verdict = "does not hold"
    if numpy_by_row or any(ratio.low > 1 for ratio in by_row):
        much_slower = all(ratio.low >= MUCH_SLOWER_RATIO_MIN for ratio in by_row)
        verdict = "holds" if much_slower and numpy_by_row else "holds in part"
    figure.set_verdict(ClaimId.DATA_FRAMES, verdict)
