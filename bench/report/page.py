"""The report of a record: verdicts, figures, and what was not measured, on one page."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from math import log
from pathlib import Path

from plotly.offline import get_plotlyjs

from bench.claims.headlines import headline_of
from bench.record import Entry, Record
from bench.report import html
from bench.report.charts import RAMP, Json, axis_title, colour_range, drawing, has_values, legend
from bench.statistics import Ratio, percentile
from bench.textbook import VERDICTS, sign_of
from ridelake.errors import BadInput
from ridelake.text import counted, digits, duration

LEAD = "The same rides as rows in Postgres and as columns in Parquet, read by several engines."
NOTES = """<p>A figure is recorded only if its answers were checked. Variants are timed interleaved. A ratio
is the median of the ratios of all rounds; 95 of 100 further runs are expected within its interval. If the
interval contains 1, there is no measurable difference. The p99 of fewer than 100 samples is close to the
maximum. Cold is the first run, which opens files and fills caches. The figures describe this machine and this
data; they are not a ranking of products.</p>"""
NO_SCRIPTS = '<noscript><p class="warning">The charts need JavaScript; the tables do not.</p></noscript>'


def write_page(path: Path, record: Record) -> None:
    """Write the page. Raises UsageError if the file cannot be written, BadInput for a damaged record."""
    html.write_file(path, page_of(record), "-o")


def page_of(record: Record) -> str:
    try:
        anchor = anchors(record.figures)
        others = [entry for entry in record.figures if entry.figure and not entry.claim]
        entries = [*record.claims, *others]
        figures = "\n".join(figure(entry, anchor[entry.name]) for entry in entries)
        main = [
            *(advice(entry, anchor[entry.name]) for entry in record.with_advice),
            f'<section id="verdicts"><h2>Textbook claims, measured</h2>{verdicts(record, anchor)}</section>',
            f'<section id="figures"><h2>Figures</h2>{NO_SCRIPTS}',
            figures or '<p class="note">The record has no figures.</p>',
            "</section>",
            not_measured(record),
        ]
        return html.page_of(
            "Benchmark report",
            f"{LEAD} {summary(record)}",
            _warnings(record),
            "\n".join(main),
            f"<h2>The run</h2>{html.facts(_run(record))}{NOTES}",
            nav=contents(entries, anchor),
            scripts=f"<script>{get_plotlyjs()}</script>\n<script>\n{html.asset('page.js')}</script>",
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"the record is damaged ({type(error).__name__}: {error}): run `ridelake bench` again"
        ) from error


def summary(record: Record) -> str:
    """`11 claims: 7 hold, 3 hold in part, 1 does not hold. 18 of 20 benchmarks succeeded.`"""
    found = [entry.claim["verdict"] for entry in record.claims if entry.claim]
    counts = {verdict: found.count(verdict) for verdict in VERDICTS}
    texts = [f"{count} {_plural(verdict, count)}" for verdict, count in counts.items() if count]
    claims = f"{counted(len(found), 'claim')}: {', '.join(texts)}. " if found else ""
    measured = len(record.with_status("measured"))
    return f"{claims}{measured} of {len(record.figures)} benchmarks succeeded."


def _plural(verdict: str, count: int) -> str:
    return verdict if count == 1 else verdict.replace("holds", "hold").replace("does", "do")


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


def advice(entry: Entry, anchor: str) -> str:
    """The results of a figure that has advice, and its first chart."""
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in entry.figure["advice"])
    pictures = [picture(chart) for chart in entry.figure["charts"] if has_values(chart)][:1]
    return (
        f'<section class="advice"><h2>{escape(entry.title)}</h2><ol>{sentences}</ol>{"".join(pictures)}'
        f'<p class="note">Details: <a href="#{anchor}">figure</a></p></section>'
    )


def verdicts(record: Record, anchor: Mapping[str, str]) -> str:
    """Claim, verdict and measured result, with a link to the figure."""
    lines = [
        f'<li><span class="nr">{escape(str(claim["number"]))}</span>'
        f'<div><p class="claim">{escape(claim["text"])}</p><p class="measured">{_verdict(entry)} '
        f'<a href="#{anchor[entry.name]}">figure</a></p></div></li>'
        for entry in record.claims
        if (claim := entry.claim)
    ]
    nothing = '<p class="note">No claim was measured in this run.</p>'
    return f'<ol class="verdicts">{"".join(lines)}</ol>' if lines else nothing


def _verdict(entry: Entry) -> str:
    claim = entry.claim or {}
    sign, kind = sign_of(claim["verdict"])
    badge = f'<b class="badge {kind}">{sign} {escape(claim["verdict"])}</b>'
    return f"{badge} {escape(headline_of(entry.figure).sentence)}"


def contents(entries: Sequence[Entry], anchor: Mapping[str, str]) -> str:
    lines = []
    for entry in entries:
        sign, kind = sign_of(entry.claim["verdict"]) if entry.claim else ("", "")
        mark = f'<i class="{kind}">{sign}</i>' if sign else ""
        lines.append(f'<li><a href="#{anchor[entry.name]}">{mark}{escape(entry.title)}</a></li>')
    return (
        '<nav aria-label="Figures"><p><a href="#verdicts">Verdicts</a></p>'
        f'<ul class="contents">{"".join(lines)}</ul></nav>'
    )


def figure(entry: Entry, anchor: str) -> str:
    """A measured benchmark: question, verdict, warnings, charts, times, tables, record."""
    found = entry.figure
    samples = found["samples"]
    charts = [chart for chart in found["charts"] if has_values(chart)] or _charts_of_times(samples)
    parts = [
        f'<h3><a href="#{anchor}">{escape(entry.title)}</a></h3>',
        f'<p class="verdict">{_verdict(entry)}</p>' if entry.claim else "",
        html.paragraphs("checked", [f"Checked: {found['checked']}."] if found["checked"] else []),
        html.paragraphs("warning", (f"⚠ {warning}" for warning in found["warnings"])),
        *map(picture, charts),
        ratios_list(found["ratios"]),
        html.table([sample_row(name, one) for name, one in samples.items()], "Times") if samples else "",
        *(html.table(one["rows"], one["title"]) for one in found["tables"] if one["rows"]),
        html.facts(found["facts"]),
        _provenance(entry, anchor),
    ]
    return f'<section class="figure" id="{anchor}">{"".join(parts)}</section>'


def picture(chart: Json) -> str:
    """The element of a chart and its data; page.js draws the chart."""
    drawn = drawing(chart)
    axis = chart["x"] if chart["kind"] == "bars" else chart["y"]
    lines = [
        f'<li><i style="color:{colour}">{sign}</i> {escape(words)}</li>'
        for sign, colour, words in legend(chart)
    ]
    if ends := colour_range(chart):
        ramp = f'<i class="ramp" style="background:linear-gradient(90deg,{",".join(RAMP)})"></i>'
        lines.append(f"<li>{digits(ends[0])} {ramp} {digits(ends[1])} {escape(chart['colour'])}</li>")
    title = escape(chart["title"])
    key = f'<ul class="legend">{"".join(lines)}</ul>' if lines else ""
    return (
        f'<figure class="picture"><figcaption>{title}</figcaption>{key}'
        f'<p class="axis">{escape(axis_title(axis))}</p>'
        f'<div class="plot" role="img" aria-label="{title}" style="height:{drawn.pop("height"):.0f}px"></div>'
        f'<script type="application/json">{html.as_script(drawn)}</script></figure>'
    )


def _charts_of_times(samples: Mapping[str, Json]) -> list[Json]:
    """A chart of medians and quartiles, for a figure without charts."""
    timed = {name: one["seconds"] for name, one in samples.items() if one["seconds"]}
    if len(timed) < 2:
        return []
    low, middle, high = (
        [percentile(seconds, percent) for seconds in timed.values()] for percent in (25, 50, 75)
    )
    series = {"name": "median", "x": list(timed), "y": middle, "low": low, "high": high}
    far = max(middle) > 30 * min(middle)
    return [
        {
            "kind": "bars",
            "title": "Median and quartiles of the times",
            "x": {"title": "variant"},
            "y": {"title": "seconds", "log": far},
            "series": [series],
        }
    ]


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


def ratios_list(ratios: Sequence[Json]) -> str:
    """Each ratio as a sentence, above its interval on a common logarithmic scale with a line at 1."""
    if not ratios:
        return ""
    ends = [end for ratio in ratios for end in (ratio["low"], ratio["high"]) if end > 0]
    low, high = min([1.0, *ends]), max([1.0, *ends])

    def place(times: float) -> float:
        return 4 + 92 * log(max(times, low) / low) / log(high / low) if high > low else 50.0

    return f'<ul class="ratios">{"".join(_ratio(Ratio.from_record(ratio), place) for ratio in ratios)}</ul>'


def _ratio(ratio: Ratio, place: Callable[[float], float]) -> str:
    kind = "clear" if ratio.distinguishable else "unclear"
    left, right = place(ratio.low), place(ratio.high)
    return (
        f'<li class="{kind}">{escape(ratio.labelled_sentence())}'
        f'<span class="strip" aria-hidden="true"><i class="one" style="left:{place(1):.2f}%"></i>'
        f'<i class="interval" style="left:{left:.2f}%;width:{right - left:.2f}%"></i>'
        f'<i class="median" style="left:{place(ratio.median):.2f}%"></i></span></li>'
    )


def _provenance(entry: Entry, anchor: str) -> str:
    """The figure as it is in the record."""
    rows = f", {entry.figure['rows']:,} rows" if entry.figure["rows"] else ""
    whole = {"name": entry.name, "group": entry.group, "seconds": entry.seconds, "figure": entry.figure}
    return (
        f'<details id="{anchor}-record"><summary>Record: {escape(entry.name)}, {entry.seconds:.1f} s{rows}'
        f"</summary><pre>{escape(json.dumps(whole, ensure_ascii=False, indent=1))}</pre></details>"
    )


def not_measured(record: Record) -> str:
    """Failed and skipped benchmarks, with the reason."""
    lines = "".join(
        f'<li class="{entry.status}"><b>{"✗ failed" if entry.status == "failed" else "– skipped"}</b> '
        f"{escape(entry.title)}<br><code>{escape(entry.name)}</code>: "
        f"{escape(entry.why or 'no reason given')}</li>"
        for entry in record.figures
        if entry.status != "measured"
    )
    head = '<section id="left-out"><h2>Failed or skipped</h2>'
    return f'{head}<ul class="left-out">{lines}</ul></section>' if lines else ""
