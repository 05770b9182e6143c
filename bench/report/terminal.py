"""The verdicts, and the ratios as bars, on a terminal."""

from collections.abc import Iterator
from itertools import chain
from math import log

from rich.text import Text

from bench.leaving.advice import advising
from bench.record import Entry, Record
from bench.report.ratios import ratio_from, slower_over_faster
from bench.report.sections import VERDICTS, claim_of, kind_of, title_of
from bench.sampling import Ratio

STYLES = {"holds": "green", "part": "yellow", "not": "red"}
SURE, PERHAPS = "▓", "▒"
BAR_COLUMNS_MIN = 12


def told(record: Record, columns: int) -> Iterator[Text]:
    """Lines no wider than that, but for names that are."""
    for entry in advising(record):
        yield Text(entry.group, "bold")
        yield from (Text(f"    {sentence}") for sentence in (entry.figure or {})["advice"])
    for entry in record.claims:
        yield from _verdict(entry)
    ratios = [
        (entry, slower_over_faster(ratio_from(ratio)))
        for entry in record.figures
        for ratio in (entry.figure or {}).get("ratios", [])
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
        yield Text("Nothing has been measured.")


def _verdict(entry: Entry) -> Iterator[Text]:
    claim = claim_of(entry)
    sign = VERDICTS.get(claim["verdict"], ("?", ""))[0]
    style = STYLES[kind_of(claim)]
    yield Text.assemble(f"{claim['number']:>2}. ", claim["says"])
    yield Text.assemble("    ", (f"{sign} {claim['verdict'].upper()}: ", style), claim["because"])


def _bars(ratios: list[tuple[Entry, Ratio]], columns: int) -> Iterator[Text]:
    """From 1 to the right on one logarithmic scale: solid as far as it is sure."""
    names = min(columns // 2, max(len(_name(ratio)) for _, ratio in ratios))
    numbers = max(len(_number(ratio)) for _, ratio in ratios)
    width = max(BAR_COLUMNS_MIN, columns - names - numbers - 2)
    most = max(chain((ratio.high for _, ratio in ratios), [2.0]))

    def cells(times: float) -> int:
        return round(width * log(max(1.0, times)) / log(most))

    question: str | None = None
    for entry, ratio in ratios:
        if title_of(entry) != question:
            question = title_of(entry)
            yield Text(question, "bold")
        name = _name(ratio)
        if len(name) > names:
            name = name[: names - 1] + "…"
        line = Text(f"{name:<{names}} ")
        if ratio.distinguishable:
            sure = max(1, cells(ratio.low))
            line.append(SURE * sure, "cyan").append(PERHAPS * max(0, cells(ratio.high) - sure), "cyan")
        else:
            line.append("▏", "dim")
        line.append(" " * (names + 1 + width - len(line)))
        yield line.append(f" {_number(ratio):>{numbers}}")
    yield Text.assemble(
        (SURE, "cyan"), " at least  ", (PERHAPS, "cyan"), " at most (95 %), from 1, log scale"
    )


def _name(ratio: Ratio) -> str:
    named = f"{ratio.of} ÷ {ratio.over}"
    return f"{ratio.label}: {named}" if ratio.label else named


def _number(ratio: Ratio) -> str:
    return f"{ratio.median:,.2f} ×" if ratio.distinguishable else "not distinguishable"
