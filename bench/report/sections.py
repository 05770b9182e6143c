"""The sections of the HTML report: verdicts, figures, and what was left out."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from math import log
from typing import Any

from bench.claims.headlines import headline_of
from bench.record import Entry
from bench.report.charts import RAMP, axis_title, colour_range, drawing, has_marks, legend
from bench.report.quantities import digits, number, percentile, seconds_text
from bench.statistics import Ratio
from bench.textbook import ClaimId

Json = dict[str, Any]

QUANTITY = re.compile(r"\d[\d,.]*( \S{1,3})?|–")  # 12,345; 1.23 ms


def table(rows: Sequence[Mapping[str, Any]], title: str = "") -> str:
    """A table with a column for each name in any row. Columns of numbers are right-aligned."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name: all(_is_number(row.get(name)) for row in rows) for name in columns}
    sides = {name: ' class="number"' if numeric[name] else "" for name in columns}
    head = "".join(f"<th{sides[name]}>{escape(str(name))}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td{sides[name]}>{escape(cell_text(row.get(name)))}</td>' for name in columns)}</tr>"
        for row in rows
    )
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    return (
        f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def samples_table(samples: Mapping[str, Json]) -> str:
    """The times of each variant. A sample of a short variant consists of several runs."""
    if not samples:
        return ""
    return table([_sample(name, one) for name, one in samples.items()], "Times")


def _sample(name: str, one: Json) -> Json:
    seconds = one["seconds"]
    usual = {
        f"p{percent}": seconds_text(percentile(seconds, percent)) if seconds else "–"
        for percent in (50, 90, 99)
    }
    return {
        "variant": name,
        "median (p50)": usual["p50"],
        "p90": usual["p90"],
        "p99": usual["p99"],
        "cold": seconds_text(one["cold_seconds"]),
        "samples": f"{len(seconds)}" + (f" × {one['repeats']:,} runs" if one["repeats"] > 1 else ""),
    }


def ratios_list(ratios: Sequence[Json]) -> str:
    """Each ratio as a sentence, above its interval on a common logarithmic scale with a line at 1."""
    if not ratios:
        return ""
    ends = [ends for ratio in ratios for ends in (ratio["low"], ratio["high"]) if ends > 0]
    low, high = min([1.0, *ends]), max([1.0, *ends])

    def place(times: float) -> float:
        return 4 + 92 * log(max(times, low) / low) / log(high / low) if high > low else 50.0

    return f'<ul class="ratios">{"".join(_ratio(ratio, place) for ratio in ratios)}</ul>'


def _ratio(ratio: Json, place: Any) -> str:
    found = Ratio.from_record(ratio)
    kind = "clear" if found.distinguishable else "unclear"
    text = f"{found.label}: {found.sentence()}" if found.label else found.sentence()
    left, right = place(found.low), place(found.high)
    return (
        f'<li class="{kind}">{escape(text)}'
        f'<span class="strip" aria-hidden="true"><i class="one" style="left:{place(1):.2f}%"></i>'
        f'<i class="interval" style="left:{left:.2f}%;width:{right - left:.2f}%"></i>'
        f'<i class="median" style="left:{place(found.median):.2f}%"></i></span></li>'
    )


def facts_list(facts: Mapping[str, Any]) -> str:
    """Facts as a list of terms; a fact that is a list of rows becomes a table."""
    rows = {name: value for name, value in facts.items() if _is_rows(value)}
    single = {name: value for name, value in facts.items() if name not in rows}
    terms = "".join(
        f"<div><dt>{escape(str(name))}</dt><dd>{escape(cell_text(value))}</dd></div>"
        for name, value in single.items()
    )
    tables = "".join(table(value, str(name)) for name, value in rows.items())
    return (f"<dl>{terms}</dl>" if terms else "") + tables


def cell_text(value: Any) -> str:
    """The text of a cell or a fact."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return digits(value) if number(value) is not None else "–"
    if isinstance(value, list):
        return ", ".join(map(cell_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell_text(one)}" for name, one in value.items())
    return str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return QUANTITY.fullmatch(value) is not None
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


# A symbol and a CSS class for each verdict.
VERDICTS = {
    "holds": ("✓", "holds"),
    "holds in part": ("◐", "part"),
    "does not hold": ("✗", "not"),
    "too few rows": ("?", "part"),
}

# As in records of older versions.
OLD_VERDICTS = {"too few rows to tell": "too few rows"}


def anchors(entries: Sequence[Entry]) -> dict[str, str]:
    """The anchor of each entry on the page, by its name. Anchors do not change between runs."""
    found: dict[str, str] = {}
    for entry in entries:
        stem = entry.name.rsplit("::", 1)[-1].removeprefix("bench_")
        anchor = re.sub(r"\W+", "-", stem).strip("-").lower() or "figure"
        taken = list(found.values()).count(anchor)
        found[entry.name] = anchor if anchor not in found.values() else f"{anchor}-{taken + len(found)}"
    return found


def advice(entry: Entry, anchor: str) -> str:
    """The results of a figure that has advice, and its first chart."""
    found = entry.figure or {}
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in found["advice"])
    pictures = [picture(chart) for chart in found["charts"] if has_marks(chart)][:1]
    return (
        f'<section class="advice"><h2>{escape(title_of(entry))}</h2><ol>{sentences}</ol>{"".join(pictures)}'
        f'<p class="note">Details: <a href="#{anchor}">figure</a></p></section>'
    )


def verdicts(claims: Sequence[Entry], anchor: dict[str, str]) -> str:
    """Claim, verdict and measured result, with a link to the figure."""
    if not claims:
        return '<p class="note">No claim was measured in this run.</p>'
    return f'<ol class="verdicts">{"".join(_verdict(entry, anchor[entry.name]) for entry in claims)}</ol>'


def _verdict(entry: Entry, anchor: str) -> str:
    claim = claim_of(entry)
    return (
        f'<li class="{kind_of(claim)}"><span class="nr">{escape(str(claim["number"]))}</span>'
        f'<div><p class="claim">{escape(claim["text"])}</p>'
        f'<p class="measured">{badge(claim)} {escape(claim["measured"])} '
        f'<a href="#{anchor}">figure</a></p></div></li>'
    )


def badge(claim: Json) -> str:
    sign, kind = VERDICTS.get(claim["verdict"], ("?", "part"))
    return f'<b class="badge {kind}">{sign} {escape(claim["verdict"])}</b>'


def kind_of(claim: Json) -> str:
    return VERDICTS.get(claim["verdict"], ("?", "part"))[1]


def claim_of(entry: Entry) -> Json:
    """Number, text, verdict and measured sentence of an entry with a claim.

    A record of an older version has other texts: claims are identified by their number."""
    figure = entry.figure or {}
    claim = figure["claim"]
    known = {int(one): one.text for one in ClaimId}
    return {
        "number": claim["number"],
        "text": claim.get("text") or known.get(claim["number"]) or claim["says"],
        "verdict": OLD_VERDICTS.get(claim["verdict"], claim["verdict"]),
        "measured": headline_of(figure).sentence,
    }


def title_of(entry: Entry) -> str:
    """The question of an entry; without one its group and parameter."""
    which = re.search(r"\[(.+)\]$", entry.name)
    group = f"{entry.group}: {which[1]}" if which else entry.group
    return str((entry.figure or {}).get("title") or group)


def contents(entries: Sequence[Entry], anchor: dict[str, str]) -> str:
    lines = []
    for entry in entries:
        claim = entry.figure and entry.figure["claim"]
        sign = f'<i class="{kind_of(claim)}">{VERDICTS.get(claim["verdict"], "?")[0]}</i>' if claim else ""
        lines.append(f'<li><a href="#{anchor[entry.name]}">{sign}{escape(title_of(entry))}</a></li>')
    return f'<ul class="contents">{"".join(lines)}</ul>'


def figure(entry: Entry, anchor: str) -> str:
    """A measured benchmark: question, verdict, warnings, charts, times, tables, record."""
    found = entry.figure or {}
    claim = claim_of(entry) if found.get("claim") else None
    charts = [chart for chart in found.get("charts", []) if has_marks(chart)]
    parts = [
        f'<h3><a href="#{anchor}">{escape(title_of(entry))}</a></h3>',
        f'<p class="verdict">{badge(claim)} {escape(claim["measured"])}</p>' if claim else "",
        f'<p class="checked">Checked: {escape(found["checked"])}.</p>' if found.get("checked") else "",
        *(f'<p class="warning">⚠ {escape(warning)}</p>' for warning in found.get("warnings", [])),
        *map(picture, charts or _pictures_of_times(found.get("samples", {}))),
        ratios_list(found.get("ratios", [])),
        samples_table(found.get("samples", {})),
        *(table(one["rows"], one["title"]) for one in found.get("tables", []) if one["rows"]),
        facts_list(found.get("facts", {})),
        _provenance(entry, anchor),
    ]
    return f'<section class="figure" id="{anchor}">{"".join(parts)}</section>'


def picture(chart: Json) -> str:
    """The place of a chart, with its data; page.js draws it."""
    drawn = drawing(chart)
    axis = chart["x"] if chart["kind"] == "bars" else chart["y"]
    return (
        f'<figure class="picture"><figcaption>{escape(chart["title"])}</figcaption>{_legend(chart)}'
        f'<p class="axis">{escape(axis_title(axis))}</p>'
        f'<div class="plot" role="img" aria-label="{escape(chart["title"])}" '
        f'style="height:{drawn.pop("height"):.0f}px"></div>'
        f'<script type="application/json">{as_script(drawn)}</script></figure>'
    )


def _legend(chart: Json) -> str:
    lines = [
        f'<li><i style="color:{colour}">{sign}</i> {escape(words)}</li>'
        for sign, colour, words in legend(chart)
    ]
    ends = colour_range(chart)
    if ends:
        ramp = f'<i class="ramp" style="background:linear-gradient(90deg,{",".join(RAMP)})"></i>'
        lines.append(f"<li>{digits(ends[0])} {ramp} {digits(ends[1])} {escape(chart['colour'])}</li>")
    return f'<ul class="legend">{"".join(lines)}</ul>' if lines else ""


def _pictures_of_times(samples: Json) -> list[Json]:
    """A chart of medians and quartiles, for a figure without charts."""
    timed = {name: one["seconds"] for name, one in samples.items() if one["seconds"]}
    if len(timed) < 2:
        return []
    medians = {name: percentile(seconds, 50) for name, seconds in timed.items()}
    series = {
        "name": "median",
        "x": list(timed),
        "y": list(medians.values()),
        "low": [percentile(seconds, 25) for seconds in timed.values()],
        "high": [percentile(seconds, 75) for seconds in timed.values()],
    }
    far = max(medians.values()) > 30 * min(medians.values())
    picture = {"kind": "bars", "title": "Median and quartiles of the times"}
    return [picture | {"x": {"title": "variant"}, "y": {"title": "seconds", "log": far}, "series": [series]}]


def _provenance(entry: Entry, anchor: str) -> str:
    """The figure as it is in the record."""
    rows = (entry.figure or {}).get("rows")
    of_rows = f", {rows:,} rows" if rows else ""
    whole = json.dumps(_entry_json(entry), ensure_ascii=False, indent=1)
    return (
        f'<details id="{anchor}-record"><summary>Record: {escape(entry.name)}, '
        f"{entry.seconds:.1f} s{of_rows}</summary><pre>{escape(whole)}</pre></details>"
    )


def _entry_json(entry: Entry) -> Json:
    return {"name": entry.name, "group": entry.group, "seconds": entry.seconds, "figure": entry.figure}


def left_out(entries: Sequence[Entry]) -> str:
    """Failed and skipped benchmarks, with the reason."""
    if not entries:
        return ""
    lines = "".join(
        f'<li class="{entry.status}"><b>{"✗ failed" if entry.status == "failed" else "– skipped"}</b> '
        f"{escape(title_of(entry))}<br><code>{escape(entry.name)}</code>: "
        f"{escape(entry.why or 'no reason given')}</li>"
        for entry in entries
    )
    return f'<section id="left-out"><h2>Failed or skipped</h2><ul class="left-out">{lines}</ul></section>'


def as_script(data: Json) -> str:
    """JSON that cannot end the script element that contains it. NaN is already null."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
