"""Floats are written as text by every writer and read by every reader; values with changed bits are
counted."""

import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from bench.env import SEED
from bench.figure import Axis, Cell, Chart, Figure, Series, verdict_of
from bench.textbook import ClaimId

COLUMN = "price"
TEXTBOOK_FLOAT = 0.12345678901232323  # the textbook's example
Floats = np.ndarray  # an array of float64


def floats(rows: int, seed: int) -> Floats:
    """One half are random bits of a finite number, one half are between 0 and 1. Some values are included
    that readers often get wrong; 5e-324 is the smallest positive float."""
    random = np.random.default_rng(seed)
    bits = random.integers(-(2**63), 2**63 - 1, rows).view(np.float64)
    anything = bits[np.isfinite(bits)][: rows // 2]
    special = np.array([TEXTBOOK_FLOAT, 20.4, 0.1, -0.0, 5e-324, 2.2250738585072014e-308, 1e23, 2.0**53])
    return np.concatenate([special, anything, random.random(rows - len(special) - len(anything))])


def changed(before: Floats, after: Floats) -> int:
    """The number of values that have other bits."""
    return int((before.view(np.int64) != np.ascontiguousarray(after, np.float64).view(np.int64)).sum())


def _write_python(values: Floats, path: Path) -> None:
    path.write_text("\n".join([COLUMN, *map(repr, values.tolist())]) + "\n")


def _write_digits(form: str, values: Floats, path: Path) -> None:
    path.write_text("\n".join([COLUMN, *(format(value, form) for value in values.tolist())]) + "\n")


def _write_duckdb(values: Floats, path: Path) -> None:
    with duckdb.connect() as engine:
        engine.from_arrow(pa.table({COLUMN: values})).write_csv(str(path), header=True)


def _read_python(path: Path) -> Floats:
    return np.array([float(line) for line in path.read_text().splitlines()[1:]])


def _read_pyarrow(path: Path) -> Floats:
    options = pc.ConvertOptions(column_types={COLUMN: pa.float64()})
    return np.asarray(pc.read_csv(path, convert_options=options)[COLUMN].to_numpy())


def _read_duckdb(path: Path) -> Floats:
    with duckdb.connect() as engine:
        return np.asarray(engine.read_csv(str(path), dtype={COLUMN: "DOUBLE"}).fetchnumpy()[COLUMN])


def _read_pandas(path: Path, float_precision: Literal["round_trip"] | None = None) -> Floats:
    """pandas ≥ 3.1 has one converter, which is exact, and warns if it is selected by name. Before, the
    default was fast and inexact."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = pd.read_csv(path, dtype={COLUMN: "float64"}, float_precision=float_precision)
    return np.asarray(frame[COLUMN])


WRITERS: dict[str, Callable[[Floats, Path], None]] = {
    "Python's repr": _write_python,
    "pandas": lambda values, path: pd.DataFrame({COLUMN: values}).to_csv(path, index=False),
    "pyarrow": lambda values, path: pc.write_csv(pa.table({COLUMN: values}), path),
    "Polars": lambda values, path: pl.DataFrame({COLUMN: values}).write_csv(path),
    "DuckDB": _write_duckdb,
    # 17 digits are enough for any float64; a spreadsheet keeps 15.
    "17 digits": partial(_write_digits, ".17g"),
    "15 digits": partial(_write_digits, ".15g"),
    "6 decimals": partial(_write_digits, ".6f"),
}
READERS: dict[str, Callable[[Path], Floats]] = {
    "Python's float": _read_python,
    "pandas": _read_pandas,
    "pandas, round_trip": partial(_read_pandas, float_precision="round_trip"),
    "pyarrow": _read_pyarrow,
    "Polars": lambda path: pl.read_csv(path, schema={COLUMN: pl.Float64})[COLUMN].to_numpy(),
    "DuckDB": _read_duckdb,
}


def through_json(values: Floats) -> Floats:
    return np.array(json.loads(json.dumps(values.tolist())))


def bench_floats_as_text(figure: Figure, tmp_path: Path) -> None:
    figure.title = "How many floats survive a round trip through text?"
    values = floats(figure.scale.rides // 10, SEED)
    figure.rows = len(values)
    text, binary = tmp_path / "floats.csv", tmp_path / "floats.parquet"

    def compare(answers: dict[str, Floats]) -> None:
        assert all(changed(values, found) == 0 for found in answers.values())

    variants: dict[str, Callable[[], Floats]] = {
        "CSV": partial(_through_csv, values, text),
        "Parquet": partial(_through_parquet, values, binary),
    }
    times = figure.interleaved(variants, compare, label="write and read")
    losses = {writer: _losses(writer, values, tmp_path) for writer in WRITERS}
    losses["JSON"] = {"json": changed(values, through_json(values))}
    figure.checked("every value was compared with the original, by its 64 bits")
    table: list[dict[str, Cell]] = [
        {"written by": writer, **{f"read by {reader}": losses[writer][reader] for reader in READERS}}
        for writer in WRITERS
    ]
    figure.table(f"Changed values of {figure.rows:,}", table)
    worst: list[Cell] = [max(losses[writer].values()) for writer in losses]
    bars = [Series("changed", list(losses), worst)]
    title = f"Changed values of {figure.rows:,}, by the worst reader"
    figure.chart(Chart("bars", title, Axis("written by"), Axis("values"), bars))
    figure.facts["changed_through_json"] = losses["JSON"]["json"]
    figure.facts["textbook_number_is"] = repr(TEXTBOOK_FLOAT)  # its last digit does not fit into a float
    figure.facts["pandas"] = pd.__version__
    figure.facts["csv_bytes_a_float"] = text.stat().st_size / figure.rows
    figure.facts["parquet_bytes_a_float"] = binary.stat().st_size / figure.rows
    figure.ratio(times.ratio("CSV", "Parquet"))
    pairs = [lost for of_writer in losses.values() for lost in of_writer.values()]
    figure.set_verdict(ClaimId.FLOATS_AS_TEXT, verdict_of(*map(bool, pairs)))


def _through_csv(values: Floats, path: Path) -> Floats:
    WRITERS["pyarrow"](values, path)
    return READERS["pyarrow"](path)


def _through_parquet(values: Floats, path: Path) -> Floats:
    pq.write_table(pa.table({COLUMN: values}), path, compression="none", use_dictionary=False)
    return np.asarray(pq.read_table(path)[COLUMN])


def _losses(writer: str, values: Floats, folder: Path) -> dict[str, int]:
    path = folder / "written.csv"
    WRITERS[writer](values, path)
    return {reader: changed(values, read(path)) for reader, read in READERS.items()}
