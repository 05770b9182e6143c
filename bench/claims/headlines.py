"""The measured result of a claim as one sentence with one number, made from the figure in the record.

The record stores figures only. A record of an older version is therefore reported in the same words.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.statistics import Ratio
from bench.textbook import ClaimId
from ridelake.text import ratio_text

INTERVAL = re.compile(r" \([\d.,]+–[\d.,]+×\)$")
TASK = re.compile(r"^[^:]+: ")

Figure = Mapping[str, Any]
"""As `bench.figure.Figure.report` returns it."""


@dataclass(frozen=True, slots=True)
class Headline:
    """`ratio`: what the sentence is about, if it compares two times."""

    sentence: str
    ratio: Ratio | None = None

    @property
    def short(self) -> str:
        """The sentence without the task and the interval: one number."""
        measured = TASK.sub("", INTERVAL.sub("", self.sentence))
        return measured[:1].upper() + measured[1:]


def headline_of(figure: Figure) -> Headline:
    """The sentence of the figure's claim; of its first ratio if the claim is unknown or has no sentence."""
    write = SENTENCES.get(figure["claim"]["number"], _first_ratio)
    try:
        return write(figure)
    except (LookupError, StopIteration, ValueError):
        return _first_ratio(figure)


def _first_ratio(figure: Figure) -> Headline:
    if not figure["ratios"]:
        return Headline("")
    return _compared(Ratio.from_record(figure["ratios"][0]))


def _compared(ratio: Ratio, task: str = "") -> Headline:
    sentence = f"{task}: {ratio.sentence()}" if task else ratio.sentence()
    return Headline(sentence[0].upper() + sentence[1:], ratio)


def _ratio(figure: Figure, of: str, over: str, label: str | None = None) -> Ratio:
    """The ratio of these variants, of that label if one is given. Raises StopIteration if there is none."""
    ratios = map(Ratio.from_record, figure["ratios"])
    return next(one for one in ratios if (one.of, one.over) == (of, over) and label in (None, one.label))


def _rows(figure: Figure, column: str) -> list[dict[str, Any]]:
    """The rows of the first table that has this column. Raises StopIteration if there is none."""
    return next(table["rows"] for table in figure["tables"] if table["rows"] and column in table["rows"][0])


def _row_and_column(figure: Figure) -> Headline:
    ratio = _ratio(figure, "CSV", "Parquet", "read 4 of 16 columns")
    return _compared(ratio, "read 4 of 16 columns")


def _four_of_thousand(figure: Figure) -> Headline:
    shares = {row["format"]: row["share_read"] for row in _rows(figure, "share_read")}
    sentence = f"Parquet reads {shares['Parquet']:.1%} of its file, CSV all of it"
    return Headline(sentence, _ratio(figure, "CSV", "Parquet"))


def _data_frames(figure: Figure) -> Headline:
    ratio = _ratio(figure, "pandas, a row", "pandas, a column")
    return _compared(replace(ratio, of="a row", over="a column"), "read from a pandas frame")


def _text_and_binary(figure: Figure) -> Headline:
    row = next(row for row in _rows(figure, "number") if row["number"] == 1_000_000)
    return Headline(f"1000000 takes {row['text']} bytes as text and {row['int32']} as an int32")


def _floats_as_text(figure: Figure) -> Headline:
    """The writer that changes most values, by its worst reader."""
    changed = {
        row["written by"]: max(count for name, count in row.items() if name != "written by")
        for row in _rows(figure, "written by")
    }
    worst = max(changed, key=changed.__getitem__)
    if not changed[worst]:
        return Headline(f"None of {figure['rows']:,} floats changes")
    return Headline(f"{changed[worst]:,} of {figure['rows']:,} floats change if written with {worst}")


def _unload(figure: Figure) -> Headline:
    sizes = {row["unload"]: row["bytes"] for row in _rows(figure, "unload")}
    factor = max(
        sizes[f"CSV from {engine}"] / sizes[f"Parquet from {engine}"] for engine in ("Postgres", "DuckDB")
    )
    return Headline(f"Parquet is {ratio_text(factor)} smaller than CSV")


def _single_insert(figure: Figure) -> Headline:
    return _compared(_ratio(figure, "DuckDB", "Postgres"))


def _average_price(figure: Figure) -> Headline:
    """At the largest size."""
    rows = f"{figure['rows']:,} rows"
    ratio = _ratio(figure, "Postgres", "DuckDB over Parquet", rows)
    return _compared(replace(ratio, over="DuckDB"), rows)


def _normalised(figure: Figure) -> Headline:
    return _compared(_ratio(figure, "the wide table", "the normalised model", "renaming"), "update")


def _documents(figure: Figure) -> Headline:
    ratio = _ratio(figure, "the document model", "the relational model", "fetch one whole")
    return _compared(ratio, "fetch one ride")


def _graph(figure: Figure) -> Headline:
    """Of the query that follows most relationships."""
    ratios = [Ratio.from_record(kept) for kept in figure["ratios"] if kept["of"] == "SQL in Postgres"]
    return _compared(ratios[-1], ratios[-1].label)


def _schema(figure: Figure) -> Headline:
    return _compared(_ratio(figure, "schema on read", "schema on write"), "query")


def _etl_and_elt(figure: Figure) -> Headline:
    return _compared(_ratio(figure, "ETL", "ELT", "first answer"), "first query")


def _without_acid(figure: Figure) -> Headline:
    naive, *_ = _rows(figure, "strategy")
    return Headline(f"{naive['drivers booked twice']:,} drivers are booked twice in {naive['rides']:,} rides")


def _outdated_terms(figure: Figure) -> Headline:
    """Of the single system that comes nearest to the best rates of both kinds of work."""
    areas = _rows(figure, "area under the frontier")
    shares = {
        row["set-up"]: {
            column.removesuffix(" at best"): rate / max(other[column] for other in areas)
            for column, rate in row.items()
            if column.endswith("/s at best")
        }
        for row in areas
        if row["set-up"].endswith("alone")
    }
    best = max(shares, key=lambda name: min(shares[name].values()))
    worse = min(shares[best], key=shares[best].__getitem__)
    return Headline(f"{best} reaches {shares[best][worse]:.0%} of the best {worse}")


def _decoupled(figure: Figure) -> Headline:
    engines = [row["engine"] for row in _rows(figure, "engine") if not row["engine"].endswith("own copy")]
    return Headline(f"{len(engines)} engines read the same files and return equal answers")


SENTENCES: dict[int, Callable[[Figure], Headline]] = {
    ClaimId.ROW_AND_COLUMN: _row_and_column,
    ClaimId.FOUR_OF_THOUSAND: _four_of_thousand,
    ClaimId.DATA_FRAMES: _data_frames,
    ClaimId.TEXT_AND_BINARY: _text_and_binary,
    ClaimId.FLOATS_AS_TEXT: _floats_as_text,
    ClaimId.PARQUET: _unload,
    ClaimId.SINGLE_INSERT: _single_insert,
    ClaimId.AVERAGE_PRICE: _average_price,
    ClaimId.NORMALISED: _normalised,
    ClaimId.DOCUMENT: _documents,
    ClaimId.GRAPH: _graph,
    ClaimId.SCHEMA: _schema,
    ClaimId.ETL_AND_ELT: _etl_and_elt,
    ClaimId.ATOMIC_ISOLATED: _without_acid,
    ClaimId.OUTDATED_TERMS: _outdated_terms,
    ClaimId.DECOUPLED: _decoupled,
}
