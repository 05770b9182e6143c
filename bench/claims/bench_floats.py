"""Floats written as text and read again, by several writers and readers: how many return with other bits."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.claims.floats import COLUMN, READERS, THE_LECTURES, WRITERS, Floats, changed, floats, through_json
from bench.claims.words import Saying
from bench.conftest import SEED
from bench.figure import Axis, Cell, Chart, Figure, Series


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
    contest = figure.interleaved(variants, compare, label="write and read")
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
    figure.facts["textbook_number_is"] = repr(THE_LECTURES)  # its last digit does not fit into a float
    figure.facts["pandas"] = pd.__version__
    figure.facts["csv_bytes_a_float"] = text.stat().st_size / figure.rows
    figure.facts["parquet_bytes_a_float"] = binary.stat().st_size / figure.rows
    figure.ratio(contest.ratio("CSV", "Parquet"))
    pairs = [lost for of_writer in losses.values() for lost in of_writer.values()]
    figure.state(
        Saying.FLOATS_AS_TEXT, "holds" if all(pairs) else "holds in part" if any(pairs) else "does not hold"
    )


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
