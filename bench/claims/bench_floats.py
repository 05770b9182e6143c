"""Floats written as text and read again, by any writer and any reader: how many come back with other bits."""

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
from bench.figure import Axis, Cell, Chart, Figure, Series, Verdict


def bench_floats_as_text(figure: Figure, tmp_path: Path) -> None:
    figure.title = "How many floats come back from text as they were?"
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
    figure.checked("every value was compared with what it had been, by its 64 bits")
    table: list[dict[str, Cell]] = [
        {"written by": writer, **{f"read by {reader}": losses[writer][reader] for reader in READERS}}
        for writer in WRITERS
    ]
    figure.table(f"Values of {figure.rows:,} that have changed", table)
    worst: list[Cell] = [max(losses[writer].values()) for writer in losses]
    bars = [Series("changed", list(losses), worst)]
    title = f"Values of {figure.rows:,} that have changed, by the worst reader"
    figure.chart(Chart("bars", title, Axis("written by"), Axis("values"), bars))
    figure.facts["changed_through_json"] = losses["JSON"]["json"]
    figure.facts["lectures_number_is"] = repr(THE_LECTURES)  # its last digit was never there
    figure.facts["pandas"] = pd.__version__
    figure.facts["csv_bytes_a_float"] = text.stat().st_size / figure.rows
    figure.facts["parquet_bytes_a_float"] = binary.stat().st_size / figure.rows
    ratio = figure.ratio(contest.ratio("CSV", "Parquet"))
    _judge(figure, losses, f"Exact text has its price: {ratio.words()} to write and read.")


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


def _judge(figure: Figure, losses: dict[str, dict[str, int]], price: str) -> None:
    losing = {writer: max(lost.values()) for writer, lost in losses.items() if any(lost.values())}
    exact = [writer for writer in losses if writer not in losing]
    pairs = [lost for of_writer in losses.values() for lost in of_writer.values()]
    verdict: Verdict = "holds" if all(pairs) else "holds in part" if any(pairs) else "does not hold"
    words = [f"{most:,} change when written with {writer}" for writer, most in losing.items()]
    figure.state(
        Saying.FLOATS_AS_TEXT,
        verdict,
        f"Of {figure.rows:,} floats, {', '.join(words) or 'none changes'}; "
        f"what {', '.join(exact) or 'nobody'} wrote, every reader reads as it was. {price}",
    )
