"""Samples, ratios, tables and facts of a figure as HTML. All text is escaped here."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from math import log
from typing import Any

from bench.report.quantities import digits, number, percentile, seconds_text
from bench.sampling import Ratio

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
