"""Benchmark records with invented numbers, and with every kind of chart and table."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.figure import QUICK, Figure
from bench.machine import Machine
from bench.record import Entry, Record, write_document

MACHINE = Machine(
    system="Linux 6.1",
    processor="Example 9000",
    cores=2,
    memory_gib=7.7,
    load_per_core=0.2,
    versions={"python": "3.13.1", "duckdb": "2.0.0"},
)


def record(*entries: Entry, **more: Any) -> Record:
    began = datetime(2026, 11, 1, 12, tzinfo=UTC).isoformat()
    fields = {"scale": "quick", "seed": 1, "machine": MACHINE, "warnings": []}
    fields |= {"started_at": began, "finished_at": began} | more
    return Record(**fields, figures=list(entries))


def write(record: Record, path: Path) -> None:
    """Write it as a run does, without the fields that only pytest-benchmark reads."""
    benchmarks = [
        {
            "fullname": entry.name,
            "group": entry.group,
            "extra_info": {"figure": entry.figure, "seconds": entry.seconds},
        }
        for entry in record.figures
    ]
    document = {"machine_info": {"ridelake": asdict(record.machine)}, "benchmarks": benchmarks}
    record.add_to(document)
    write_document(document, path)


def entry(name: str, group: str = "A group", **figure: Any) -> Entry:
    return Entry(f"bench/bench_x.py::bench_{name}", group, "measured", None, 1.5, figure_of(**figure))


def failed(name: str, why: str = "ProofFailed: answers differ") -> Entry:
    return Entry(f"bench/bench_x.py::bench_{name}", f"The group of {name}", "failed", why, 0.2)


def skipped(name: str, why: str = "Skipped: no file of real trips") -> Entry:
    return Entry(f"bench/bench_x.py::bench_{name}", f"The group of {name}", "skipped", why, 0.0)


def figure_of(**found: Any) -> dict[str, Any]:
    """A figure in the form of `Figure.report`."""
    empty = Figure(None, QUICK, check="all answers are equal", rows=20_000)  # type: ignore[arg-type]
    return empty.report() | found


def claim(number: int, verdict: str, text: str = "Columns are read fast.") -> Any:
    return {"number": number, "text": text, "verdict": verdict}


def samples(**seconds: float) -> dict[str, Any]:
    """Twenty samples of each variant around its median."""
    noise = np.exp(np.random.default_rng(1).normal(0, 0.05, 20))
    return {
        name: {"cold_seconds": 3 * usual, "seconds": (usual * noise).tolist(), "repeats": 1}
        for name, usual in seconds.items()
    }


def ratio(of: str, over: str, median: float, low: float, high: float) -> dict[str, Any]:
    fields = {"of": of, "over": over, "median": median, "low": low, "high": high}
    return fields | {"distinguishable": not low <= 1 <= high}


def chart(kind: str, *series: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chart in the form of `bench.figure.Chart`."""
    axes = {"x": axis("rides in the table"), "y": axis("seconds a question")}
    return {
        "kind": kind,
        "title": f"A chart of {kind}",
        **axes,
        "series": list(series),
        "marks": [],
        "colour": None,
    } | more


def axis(title: str, log: bool = False) -> dict[str, Any]:
    return {"title": title, "log": log}


def series(name: str, x: list[Any], y: list[Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "x": x, "y": y, "low": None, "high": None, "colour": None, "text": None} | more


def mark(text: str, x: float, y: float | None = None) -> dict[str, Any]:
    return {"text": text, "x": x, "y": y}


FORMATS = [
    "CSV",
    "JSON lines",
    "Avro",
    "Protobuf, one message a ride, each with its length before it",
    "Parquet, zstd",
]
SIZES = [1_000, 10_000, 100_000, 1_000_000]
CHARTS = {
    "bars": chart(
        "bars",
        series("bytes", FORMATS, [14.1e6, 31e6, 9.2e6, 8.1e6, 2.9e6]),
        x=axis("format"),
        y=axis("bytes"),
    ),
    "bars of engines": chart(
        "bars",
        series(
            "median",
            ["postgres", "duckdb", "polars"],
            [0.81, 0.012, 0.009],
            low=[0.7, 0.01, 0.008],
            high=[0.9, 0.013, 0.01],
        ),
        x=axis("engine"),
        y=axis("seconds", log=True),
    ),
    "bars, grouped": chart(
        "bars",
        series(
            "write",
            FORMATS,
            [0.4, 0.5, 0.3, 0.3, 0.2],
            low=[0.35, 0.45, 0.2, 0.28, 0.1],
            high=[0.5, 0.6, 0.4, 0.4, 0.3],
        ),
        series("read four columns", FORMATS, [0.3, 0.6, 0.2, 0.2, 0.01]),
        x=axis("format"),
        y=axis("seconds"),
    ),
    "lines": chart(
        "lines",
        series(
            "postgres",
            SIZES,
            [0.001, 0.009, 0.08, 0.9],
            low=[0.0008, 0.008, 0.07, 0.8],
            high=[0.002, 0.01, 0.1, 1.1],
        ),
        series("duckdb", SIZES, [0.004, 0.005, 0.008, 0.03]),
        series("polars", SIZES, [0.003, 0.004, 0.009, 0.04]),
        x=axis("rides in the table", log=True),
        y=axis("seconds a question", log=True),
        marks=[mark("DuckDB is faster from 5,200 rides", 5_200)],
    ),
    "lines over names": chart(
        "lines", series("rides/s", ["1", "10", "100"], [120, 800, 2_900]), x=axis("batch")
    ),
    "points": chart(
        "points",
        series("one Postgres", [0, 200, 400, 520], [9.0, 7.5, 4.1, 0.2], colour=[0.0, 0.0, 0.0, 0.0]),
        series(
            "Postgres and a lake",
            [0, 250, 480, 540],
            [22.0, 21.0, 19.5, 18.0],
            colour=[0.3, 0.5, 0.9, 1.4],
            text=["a", "b", "c", "d"],
        ),
        x=axis("bookings a second"),
        y=axis("questions a second"),
        marks=[mark("the corner of the bounding box", 540, 22.0)],
        colour="seconds that the answer is behind",
    ),
}


def formats() -> Entry:
    """A figure with all kinds of contents."""
    return entry(
        "formats",
        title="What do formats cost?",
        claim=claim(
            1,
            "holds",
            "Row-major formats are faster to write, column-major ones to read a few columns of.",
        ),
        charts=[CHARTS["bars"], CHARTS["bars, grouped"]],
        samples=samples(csv=0.9, parquet=0.3, avro=0.31),
        ratios=[ratio("csv", "parquet", 3.1, 2.9, 3.3), ratio("avro", "parquet", 1.02, 0.97, 1.08)],
        tables=[
            {
                "title": "Bytes",
                "rows": [
                    {"format": "CSV", "bytes": 14_100_000, "per ride": 70.5},
                    {"format": "Parquet", "bytes": 2_900_000, "per ride": None},
                ],
            }
        ],
    )


def full() -> Record:
    """A record with all kinds of entries."""
    figures = [
        formats(),
        entry(
            "average[1,000]",
            title="How long does an average take?",
            charts=[CHARTS["lines"]],
            claim=claim(8, "holds in part"),
        ),
        entry(
            "average[2,000]",
            title="… and of more rides?",
            charts=[CHARTS["bars of engines"]],
            samples=samples(postgres=0.8, duckdb=0.01),
        ),
        entry(
            "frontier",
            title="Both at once?",
            charts=[CHARTS["points"], CHARTS["lines over names"]],
            claim=claim(15, "does not hold"),
            warnings=["the clients shared the cores with the server"],
        ),
        entry(
            "drawn_by_us",
            title="A comparison without a chart",
            samples=samples(rows=0.00021, columns=0.0000041),
        ),
        entry(
            "facts",
            facts={
                "rides/s": 1234.5,
                "at each size": [{"rides": 10, "ms": 1.0}],
                "engines": ["a", "b"],
            },
        ),
        failed("broken"),
        skipped("absent"),
    ]
    return record(*figures, warnings=["other processes were running (load 0.9 per core): times are too long"])
