"""The figures of the README, generated from the record in docs/: `python -m bench.readme`.

    docs/record.json ──> README.md, between its two markers: a line for each claim, with verdict and number
                     ──> docs/results.md: claims, intervals, checks, tables, the machine
                     ──> docs/figures.svg: the ratio of each claim that has one, light and dark

A test generates all three and compares them with the files.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Any

from bench.claims.headlines import headline_of
from bench.record import Entry, Record, read_record
from bench.statistics import Ratio
from bench.textbook import VERDICTS, ClaimId, sign_of
from ridelake.text import digits, ratio_text

ROOT = Path(__file__).parents[1]
RECORD, README = ROOT / "docs/record.json", ROOT / "README.md"
RESULTS, PICTURE = ROOT / "docs/results.md", ROOT / "docs/figures.svg"
BEGIN, END = "<!-- figures: python -m bench.readme -->", "<!-- end of figures -->"

INTERVAL = re.compile(r" \([\d.,]+–[\d.,]+×\)$")
TASK = re.compile(r"^[^:]+: ")
ROWS_MAX = 12  # rows of a table in the results; the record has all

WIDTH, ROW, HEAD, FOOT = 860, 30, 74, 12  # pixels
TITLE_X, LEFT, RIGHT = 28, 250, 540
CHARACTER = 7.0  # pixels, of the labels

STYLE = """
  text { font: 12.5px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1b1f24; }
  .name { font-weight: 600; font-size: 15px; } .number { font-weight: 600; }
  .faint { fill: #5d6673; } line.faint { stroke: #5d6673; }
  .grid { stroke: #dcdfe4; } .one { stroke: #5d6673; }
  .holds { fill: #2f7d4f; } .part { fill: #b27a00; } .not { fill: #b3353f; }
  .interval { stroke: #1b1f24; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8e6e1; } .faint { fill: #9aa3ad; } line.faint { stroke: #9aa3ad; }
    .grid { stroke: #33393f; } .one { stroke: #9aa3ad; }
    .holds { fill: #4fa876; } .part { fill: #d09a2c; } .not { fill: #e06577; }
    .interval { stroke: #e8e6e1; } }
"""


def short_table(record: Record) -> str:
    """A row for each claim with one measured number, for the README."""
    lines = ["| textbook claim | | measured here |", "|---|:-:|---|"]
    for entry in record.claims:
        claim = entry.claim or {}
        measured = TASK.sub("", INTERVAL.sub("", headline_of(entry.figure).sentence))
        cells = (_title(claim), sign_of(claim["verdict"])[0], measured[:1].upper() + measured[1:])
        lines.append(_line(cells))
    return "\n".join(lines)


def _title(claim: Mapping[str, Any]) -> str:
    known = {int(one): one.title for one in ClaimId}
    return known.get(claim["number"]) or str(claim["text"])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace('<', '&lt;') for cell in cells)} |"


def readme_with(text: str, record: Record) -> str:
    """The text of the README with a new table between the markers. Raises ValueError if a marker is
    missing."""
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n{short_table(record)}\n{END}{after}"


def results(record: Record) -> str:
    """The page of all figures: claims, advice, then each figure with its check, ratios and tables."""
    lines = [
        "# Results",
        "",
        "<!-- Written by `python -m bench.readme` from record.json; do not edit. -->",
        "",
        "The claims are from a university lecture on data systems. [Methodology](methodology.md)",
        "explains how they are measured. An interval is the range in which the ratio of another run on",
        "the same machine is expected (95 %). `ridelake bench` measures the claims on your machine, and",
        "`ridelake report` draws them.",
        "",
        _machine(record),
        *(f"Warning: {warning}." for warning in record.warnings),
        "",
        "## Claims",
        "",
        "| | claim | verdict | measured |",
        "|---:|---|---|---|",
    ]
    for entry in record.claims:
        claim = entry.claim or {}
        verdict = f"{sign_of(claim['verdict'])[0]} {claim['verdict']}"
        measured = headline_of(entry.figure).sentence
        lines.append(_line((str(claim["number"]), str(claim["text"]), verdict, measured)))
    for entry in record.with_advice:
        sentences = enumerate(entry.figure["advice"], 1)
        lines += ["", f"## {entry.group}", "", *(f"{number}. {one}" for number, one in sentences)]
    lines += ["", "## Figures"]
    for entry in record.figures:
        lines += _figure(entry)
    return "\n".join(lines) + "\n"


def _machine(record: Record) -> str:
    machine = record.machine
    others = {name: version for name, version in machine.versions.items() if name != "ridelake"}
    versions = ", ".join(f"{name} {version}" for name, version in others.items())
    where = f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:.0f} GiB"
    run = f"Measured on {record.started_at[:10]}, scale {record.scale}, seed {record.seed}"
    return f"{run}: {where}; {versions}."


def _figure(entry: Entry) -> list[str]:
    lines = ["", f"### {entry.title}", "", f"`{entry.name}`"]
    if entry.status != "measured":
        return [*lines, "", f"{entry.status.capitalize()}: {entry.why}"]
    if checked := entry.figure.get("checked"):
        lines += ["", f"Checked: {_text(checked)}."]
    sentences = [Ratio.from_record(kept).labelled_sentence() for kept in entry.figure.get("ratios", [])]
    lines += ["", *(f"- {_text(sentence)}" for sentence in sentences)] if sentences else []
    for table in entry.figure.get("tables", []):
        lines += _table(table["title"], table["rows"])
    return lines


def _text(text: str) -> str:
    return text.replace("<", "&lt;")


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name for name in columns if all(isinstance(row.get(name), int | float | None) for row in rows)}
    ruler = "|".join("---:" if name in numeric else "---" for name in columns)
    lines = ["", f"{_text(title)}:", "", _line(columns), f"|{ruler}|"]
    lines += [_line([_value(row.get(name)) for name in columns]) for row in rows[:ROWS_MAX]]
    if len(rows) > ROWS_MAX:
        lines += ["", f"{len(rows) - ROWS_MAX} more rows are in the record."]
    return lines


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else digits(value)


def picture(record: Record) -> str:
    """A bar for the ratio of each claim, on a logarithmic scale that begins at 1."""
    rows = [(entry.claim or {}, ratio) for entry in record.claims if (ratio := _ratio(entry))]
    decades = log10(max([10.0, *(ratio.high for _, ratio in rows)]))

    def place(times: float) -> float:
        return LEFT + (RIGHT - LEFT) * log10(max(1.0, times)) / decades

    height = HEAD + ROW * len(rows) + FOOT
    label = "Textbook claims: how many times faster the winner is"
    parts = [
        f'<text class="name" x="10" y="18">{label}</text>',
        *_legend({sign_of(one["verdict"])[1] for one, _ in rows}),
    ]
    for times in (1, 2, 5, 10, 20, 50, 100, 1000):
        if log10(times) <= decades:
            x = f"{place(times):.1f}"
            parts.append(
                f'<line class="{"one" if times == 1 else "grid"}" x1="{x}" x2="{x}" y1="{HEAD}" '
                f'y2="{height - FOOT}"/>'
                f'<text class="faint" text-anchor="middle" x="{x}" y="{HEAD - 6}">{times}×</text>'
            )
    parts += [_row(claim, ratio, HEAD + ROW * index, place) for index, (claim, ratio) in enumerate(rows)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{label}">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _legend(kinds: set[str]) -> list[str]:
    """The verdicts that occur, the interval, and the title of the axis."""
    verdicts: dict[str, str] = {}
    for verdict, (_, kind) in VERDICTS.items():
        verdicts.setdefault(kind, f"the claim {verdict}")
    x, parts = 10.0, []
    for kind, text in verdicts.items():
        if kind in kinds:
            parts.append(f'<rect class="{kind}" x="{x:.0f}" y="30" width="12" height="12"/>')
            parts.append(f'<text class="faint" x="{x + 17:.0f}" y="41">{text}</text>')
            x += 40 + CHARACTER * len(text)
    parts.append(f'<path class="interval" fill="none" d="M{x:.0f} 31v10m0 -5h14m0 -5v10"/>')
    parts.append(f'<text class="faint" x="{x + 20:.0f}" y="41">95 % interval</text>')
    parts.append(
        f'<text class="faint" x="{RIGHT + 16}" y="{HEAD - 6}">times faster, logarithmic scale</text>'
    )
    return parts


def _ratio(entry: Entry) -> Ratio | None:
    ratio = headline_of(entry.figure).ratio
    return ratio.at_least_one() if ratio else None


def _row(claim: Mapping[str, Any], ratio: Ratio, top: float, place: Callable[[float], float]) -> str:
    base = top + 19
    sign, kind = sign_of(claim["verdict"])
    parts = [
        f'<text class="sign {kind}" x="10" y="{base}">{sign}</text>'
        f'<text x="{TITLE_X}" y="{base}">{escape(_title(claim))}</text>'
    ]
    low, middle, high = (place(times) for times in (ratio.low, ratio.median, ratio.high))
    if not ratio.distinguishable:
        label = '<tspan class="faint">no measurable difference</tspan>'
    else:
        winner = f"{ratio.over[:1].upper()}{ratio.over[1:]} {ratio_text(ratio.median)} faster"
        loser = f" than {ratio.of}"
        if high + 10 + CHARACTER * len(winner + loser) > WIDTH:
            loser = ""
        label = f'<tspan class="number">{escape(winner)}</tspan><tspan class="faint">{escape(loser)}</tspan>'
        parts.append(
            f'<rect class="bar {kind}" x="{LEFT}" y="{top + 7}" width="{middle - LEFT:.1f}" height="16"/>'
        )
    parts.append(
        f'<path class="interval" fill="none" d="M{low:.1f} {top + 10}v10m0 -5H{high:.1f}m0 -5v10"/>'
        f'<text x="{high + 8:.1f}" y="{base}">{label}</text>'
    )
    return "".join(parts)


def main() -> None:
    record = read_record(RECORD)
    README.write_text(readme_with(README.read_text("utf-8"), record), "utf-8")
    RESULTS.write_text(results(record), "utf-8")
    PICTURE.write_text(picture(record), "utf-8")


if __name__ == "__main__":
    main()
