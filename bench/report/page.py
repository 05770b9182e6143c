"""The report of a record: the answer, the verdicts, all questions, and what was not measured, on one page."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.advice import QuestionSizes, answer_sentence, questions_by_size
from bench.claims.headlines import headline_of
from bench.pages import render, write_page
from bench.pages.cells import table_of
from bench.pages.plots import PlanePlot, RowPlot
from bench.record import Entry, Record
from bench.report.charts import (
    SAMPLES_MAX,
    Json,
    crossover_plot,
    drawn,
    questions_plot,
    ratios_plot,
    times_plot,
)
from bench.statistics import Ratio, percentile
from bench.textbook import VERDICTS, sign_of, title_of
from ridelake.errors import BadInput
from ridelake.text import counted, duration

LEAD = "The same rides as rows in Postgres and as columns in Parquet, read by several engines."


def write_report(path: Path, record: Record) -> None:
    """Write the page. Raises UsageError if the file cannot be written, BadInput for a damaged record."""
    write_page(path, page_of(record), "-o")


def page_of(record: Record) -> str:
    try:
        anchor = anchors(record.figures)
        others = [entry for entry in record.figures if entry.figure and not entry.claim]
        sized = _sized(record)
        return render(
            "report.html",
            title="Benchmark report",
            answer=answer_of(record, sized),
            lead=f"{LEAD} {summary(record)}",
            warnings=_warnings(record),
            crossovers=crossover_plot(sized) if sized else None,
            picture=_picture(record),
            advice=[sentence for entry in record.with_advice for sentence in entry.figure["advice"]],
            claims=[figure(entry, anchor[entry.name]) for entry in record.claims],
            dots=questions_plot(sized) if sized else None,
            others=[figure(entry, anchor[entry.name]) for entry in others],
            left_out=[entry for entry in record.figures if entry.status != "measured"],
            run=_run(record),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"the record is damaged ({type(error).__name__}: {error}): run `ridelake bench` again"
        ) from error


def _sized(record: Record) -> list[QuestionSizes]:
    """The questions of the first figure with advice."""
    return next((found for entry in record.with_advice if (found := questions_by_size(entry.figure))), [])


def answer_of(record: Record, sized: Sequence[QuestionSizes]) -> str:
    """Whether to stay with Postgres; else the first advice, or the verdicts."""
    if sized:
        return answer_sentence(sized)
    return next((entry.figure["advice"][0] for entry in record.with_advice), "") or _counts(record)


def summary(record: Record) -> str:
    """`11 claims: 7 hold, 3 hold in part, 1 does not hold. 18 of 20 benchmarks succeeded.`"""
    measured = len(record.with_status("measured"))
    claims = f"{_counts(record)} " if record.claims else ""
    return f"{claims}{measured} of {len(record.figures)} benchmarks succeeded."


def _counts(record: Record) -> str:
    found = [entry.claim["verdict"] for entry in record.claims if entry.claim]
    counts = {verdict: found.count(verdict) for verdict in VERDICTS}
    texts = [f"{count} {_plural(verdict, count)}" for verdict, count in counts.items() if count]
    return f"{counted(len(found), 'claim')}: {', '.join(texts)}." if found else "No claim was measured."


def _plural(verdict: str, count: int) -> str:
    return verdict if count == 1 else verdict.replace("holds", "hold").replace("does", "do")


def _picture(record: Record) -> RowPlot | PlanePlot | None:
    """The picture of a record that has no questions at several sizes: the ratios of its claims."""
    headlines = [(title_of(entry.claim or {}), headline_of(entry.figure)) for entry in record.claims]
    ratios = [(title, one.ratio.at_least_one()) for title, one in headlines if one.ratio]
    return ratios_plot("How many times faster is the winner?", ratios)


def _warnings(record: Record) -> list[str]:
    unfinished = "the run was interrupted or is still in progress; the report is incomplete"
    failed = record.with_status("failed")
    return [
        *([] if record.finished_at else [unfinished]),
        *([f"{counted(len(failed), 'benchmark')} failed"] if failed else []),
        *record.warnings,
    ]


def _run(record: Record) -> Json:
    """The machine, versions and times of the run."""
    return {
        "machine": record.machine.description,
        "load before": f"{record.machine.load_per_core:.2f} per core",
        "versions": record.machine.versions_text,
        "scale": record.scale,
        "seed": str(record.seed),
        "started": _time_text(record.started_at),
        "finished": _time_text(record.finished_at) if record.finished_at else "no",
    }


def _time_text(iso: str) -> str:
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M} UTC"


def anchors(entries: Sequence[Entry]) -> dict[str, str]:
    """The anchor of each entry on the page, by its name. Anchors do not change between runs."""
    found: dict[str, str] = {}
    for entry in entries:
        stem = entry.name.rsplit("::", 1)[-1].removeprefix("bench_")
        anchor = re.sub(r"\W+", "-", stem).strip("-").lower() or "figure"
        found[entry.name] = anchor if anchor not in found.values() else f"{anchor}-{len(found)}"
    return found


def figure(entry: Entry, anchor: str) -> dict[str, Any]:
    """A measured benchmark as the template shows it: a line, and what opens below it."""
    found = entry.figure
    plots = [plot for chart in found["charts"] if (plot := drawn(chart))]
    if not plots and (times := times_plot(found["samples"])):
        plots = [times]
    ratios = map(Ratio.from_record, found["ratios"])
    rows = [sample_row(name, one) for name, one in found["samples"].items()]
    counted_rows = f", {found['rows']:,} rows" if found["rows"] else ""
    return {
        **(_claim(entry) if entry.claim else {"verdict": None}),
        "anchor": anchor,
        "question": entry.title,
        "checked": found["checked"],
        "warnings": found["warnings"],
        "plots": plots,
        "ratios": ratios_plot("Compared", [(one.labelled_sentence(), one) for one in ratios]),
        "tables": [
            *(table_of(one["rows"], one["title"]) for one in found["tables"] if one["rows"]),
            *([table_of(rows, "Times", SAMPLES_MAX)] if rows else []),
        ],
        "facts": found["facts"],
        "source": f"{entry.name}: {entry.seconds:.1f} s{counted_rows}. The record has all samples.",
    }


def _claim(entry: Entry) -> dict[str, str]:
    claim, headline = entry.claim or {}, headline_of(entry.figure)
    sign, kind = sign_of(claim["verdict"])
    return {
        "verdict": claim["verdict"],
        "sign": sign,
        "kind": kind,
        "title": title_of(claim),
        "claim": f"{claim['number']}. {claim['text']}",
        "measured": headline.short,
        "sentence": headline.sentence,
    }


def sample_row(name: str, one: Json) -> Json:
    """The times of a variant. A sample of a short variant consists of several runs."""
    seconds = one["seconds"]
    return {
        "variant": name,
        **{
            column: duration(percentile(seconds, percent)) if seconds else "–"
            for column, percent in (("median (p50)", 50), ("p90", 90), ("p99", 99))
        },
        "cold": duration(one["cold_seconds"]),
        "samples": f"{len(seconds)}" + (f" × {one['repeats']:,} runs" if one["repeats"] > 1 else ""),
    }
