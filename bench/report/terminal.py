"""Verdicts and ratios as text and bars, for a terminal."""

from collections.abc import Iterator
from math import log

from rich.text import Text

from bench.claims.headlines import headline_of
from bench.record import Entry, Record
from bench.statistics import Ratio
from bench.textbook import sign_of
from ridelake.text import padded, ratio_text

STYLES = {"holds": "green", "part": "yellow", "not": "red"}
TO_LOW, TO_HIGH = "▓", "▒"
BAR_COLUMNS_MIN = 12


def report_lines(record: Record, columns: int) -> Iterator[Text]:
    """The lines of the report; bars fit into `columns`."""
    for entry in record.with_advice:
        yield Text(entry.group, "bold")
        yield from (Text(f"    {sentence}") for sentence in entry.figure["advice"])
    for entry in record.claims:
        yield from _verdict(entry)
    ratios = [
        (entry, Ratio.from_record(ratio).at_least_one())
        for entry in record.figures
        for ratio in entry.figure.get("ratios", [])
    ]
    if ratios:
        yield Text()
        yield from _bars(ratios, columns)
    for entry in record.figures:
        if entry.status != "measured":
            yield Text(f"{'✗' if entry.status == 'failed' else '–'} {entry.group}: {entry.why}", "dim")
    for warning in record.warnings:
        yield Text(f"warning: {warning}", "yellow")
    if not record.figures:
        yield Text("The record has no figures.")


def _verdict(entry: Entry) -> Iterator[Text]:
    claim = entry.claim or {}
    sign, kind = sign_of(claim["verdict"])
    yield Text(f"{claim['number']:>2}. {claim['text']}")
    verdict = (f"{sign} {claim['verdict'].upper()}: ", STYLES[kind])
    yield Text.assemble("    ", verdict, headline_of(entry.figure).sentence)


def _bars(ratios: list[tuple[Entry, Ratio]], columns: int) -> Iterator[Text]:
    """Bars from 1 to the right on a common logarithmic scale: solid to the lower end of the interval."""
    names = min(columns // 2, max(len(_name(ratio)) for _, ratio in ratios))
    numbers = max(len(_number(ratio)) for _, ratio in ratios)
    width = max(BAR_COLUMNS_MIN, columns - names - numbers - 2)
    most = max(2.0, *(ratio.high for _, ratio in ratios))

    def cells(times: float) -> int:
        return round(width * log(max(1.0, times)) / log(most))

    question: str | None = None
    for entry, ratio in ratios:
        if entry.title != question:
            question = entry.title
            yield Text(question, "bold")
        line = Text(f"{padded(_name(ratio), names)} ")
        if ratio.distinguishable:
            low_cells = max(1, cells(ratio.low))
            line.append(TO_LOW * low_cells, "cyan").append(
                TO_HIGH * max(0, cells(ratio.high) - low_cells), "cyan"
            )
        else:
            line.append("▏", "dim")
        line.append(" " * (names + 1 + width - len(line)))
        yield line.append(f" {_number(ratio):>{numbers}}")
    ends = f"{TO_LOW} lower end  {TO_HIGH} upper end of the 95 % interval; log scale from 1×"
    yield Text(ends, "cyan")


def _name(ratio: Ratio) -> str:
    named = f"{ratio.over} vs. {ratio.of}"
    return f"{ratio.label}: {named}" if ratio.label else named


def _number(ratio: Ratio) -> str:
    return f"{ratio_text(ratio.median)} faster" if ratio.distinguishable else "no measurable difference"
