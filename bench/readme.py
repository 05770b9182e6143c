"""The figures of the README, generated from the record in docs/: `python -m bench.readme`.

    docs/record.json ──> README.md, between its two markers: a table of claims and verdicts
                     ──> docs/figures.svg: the verdicts and their ratios, light and dark

A test generates both and compares them with the files.
"""

from collections.abc import Callable
from html import escape
from math import log10
from pathlib import Path
from textwrap import wrap

from bench.claims.headlines import headline_of
from bench.record import Entry, Record, read_record
from bench.statistics import Ratio
from bench.textbook import sign_of
from ridelake.text import ratio_text

ROOT = Path(__file__).parents[1]
RECORD, README, PICTURE = ROOT / "docs/record.json", ROOT / "README.md", ROOT / "docs/figures.svg"
BEGIN, END = "<!-- figures: python -m bench.readme -->", "<!-- end of figures -->"

WIDTH, ROW, HEAD, FOOT = 860, 46, 14, 54  # pixels
TEXT_X, LEFT, RIGHT = 34, 470, 845
TEXT_COLUMNS = 60

STYLE = """
  text { font: 12.5px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1b1f24; }
  .faint { fill: #667080; font-size: 11.5px; } line.faint { stroke: #667080; }
  .grid { stroke: #e2e2dc; } .one { stroke: #667080; stroke-dasharray: 3 3; }
  .holds { fill: #2f7d4f; stroke: #2f7d4f; } .part { fill: #9a6a00; stroke: #9a6a00; }
  .not { fill: #b3353f; stroke: #b3353f; } text.sign { font-weight: 700; font-size: 15px; stroke: none; }
  line.interval { stroke-width: 5; stroke-opacity: .4; stroke-linecap: round; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8e6e1; } .faint { fill: #9aa3ad; } line.faint { stroke: #9aa3ad; }
    .grid { stroke: #2e3338; } .one { stroke: #9aa3ad; }
    .holds { fill: #6cc592; stroke: #6cc592; } .part { fill: #e3b341; stroke: #e3b341; }
    .not { fill: #ef798a; stroke: #ef798a; } }
"""


def table(record: Record) -> str:
    """A row for each claim, then the advice and the machine."""
    lines = ["| | claim | verdict | measured |", "|---:|---|---|---|"]
    for entry in record.claims:
        claim = entry.claim or {}
        verdict = f"{sign_of(claim['verdict'])[0]} {claim['verdict']}"
        cells = (claim["number"], claim["text"], verdict, headline_of(entry.figure).sentence)
        lines.append(f"| {' | '.join(_cell(str(cell)) for cell in cells)} |")
    machine = record.machine
    others = {name: version for name, version in machine.versions.items() if name != "ridelake"}
    versions = ", ".join(f"{name} {version}" for name, version in others.items())
    where = f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:.0f} GiB"
    run = f"Scale {record.scale}, seed {record.seed}, {record.started_at[:10]}; {where}; {versions}."
    advice = [line for entry in record.with_advice for line in _advice(entry)]
    return "\n".join([*lines, *advice, "", run, *(f"Warning: {warning}." for warning in record.warnings)])


def _advice(entry: Entry) -> list[str]:
    sentences = enumerate(entry.figure["advice"], 1)
    return ["", f"**{entry.group}**", "", *(f"{number}. {one}" for number, one in sentences)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def readme_with(text: str, record: Record) -> str:
    """The text of the README with a new table between the markers. Raises ValueError if a marker is
    missing."""
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n{table(record)}\n{END}{after}"


def picture(record: Record) -> str:
    """The verdict and the ratio of each claim, on a common logarithmic scale."""
    rows = [(entry, _ratio(entry)) for entry in record.claims]
    decades = max([1.0, *(log10(ratio.high) for _, ratio in rows if ratio)]) * 1.04

    def place(times: float) -> float:
        return LEFT + (RIGHT - LEFT) * log10(max(1.0, times)) / decades

    bottom = HEAD + ROW * len(rows)
    grid = [10**power for power in range(int(decades) + 1)]
    parts = [
        f'<line class="{"one" if times == 1 else "grid"}" x1="{x}" x2="{x}" y1="{HEAD}" y2="{bottom}"/>'
        f'<text class="faint" text-anchor="middle" x="{x}" y="{bottom + 16}">{times:,}×</text>'
        for times, x in ((times, f"{place(times):.1f}") for times in grid)
    ]
    parts += [_row(entry, ratio, HEAD + ROW * index, place) for index, (entry, ratio) in enumerate(rows)]
    parts.append(
        f'<text class="faint" text-anchor="end" x="{RIGHT}" y="{bottom + 36}">'
        "times faster, log scale; bar: 95 % interval; ✓ holds, ◐ holds in part, ✗ does not hold</text>"
    )
    height = bottom + FOOT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="Verdicts on textbook claims, with the measured ratios">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _ratio(entry: Entry) -> Ratio | None:
    ratio = headline_of(entry.figure).ratio
    return ratio.at_least_one() if ratio else None


def _row(entry: Entry, ratio: Ratio | None, top: float, place: Callable[[float], float]) -> str:
    claim = entry.claim or {}
    sign, kind = sign_of(claim["verdict"])
    lines = wrap(claim["text"], TEXT_COLUMNS)[:2]
    first = top + (26 if len(lines) == 1 else 18)
    parts = [f'<text class="sign {kind}" x="10" y="{top + 27}">{sign}</text>']
    parts += [
        f'<text x="{TEXT_X}" y="{first + 16 * index}">{escape(line)}</text>'
        for index, line in enumerate(lines)
    ]
    if ratio:
        label = f"{ratio.over} {ratio_text(ratio.median)} faster than {ratio.of}"
        label = label if ratio.distinguishable else "no measurable difference"
        middle = top + 32
        kind = kind if ratio.distinguishable else "faint"
        parts.append(
            f'<text class="faint" x="{LEFT + 8}" y="{top + 19}">{escape(label)}</text>'
            f'<line class="interval {kind}" x1="{place(ratio.low):.1f}" x2="{place(ratio.high):.1f}" '
            f'y1="{middle}" y2="{middle}"/>'
            f'<circle class="{kind}" cx="{place(ratio.median):.1f}" cy="{middle}" r="4"/>'
        )
    return "".join(parts)


def main() -> None:
    record = read_record(RECORD)
    README.write_text(readme_with(README.read_text("utf-8"), record), "utf-8")
    PICTURE.write_text(picture(record), "utf-8")


if __name__ == "__main__":
    main()
