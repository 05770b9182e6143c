"""The figures of the README, generated from the record in docs/: `python -m bench.readme`.

    docs/record.json ──> README.md, between its two markers: a line for each claim, with verdict and number
                     ──> docs/results.md: claims, intervals, checks, tables, the machine
                     ──> docs/figures.svg: the ratio of each claim that has one, light and dark
    docs/movers.json ──> docs/movers.md, between its two markers: the tables of the movers
                     ──> README.md: three lines of them

A test generates all of them and compares them with the files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.claims.headlines import headline_of
from bench.pages import render
from bench.pages.plots import AxisScale
from bench.record import Entry, Record, read_record
from bench.statistics import Ratio
from bench.textbook import VERDICTS, sign_of, title_of
from ridelake.text import digits, ratio_text

ROOT = Path(__file__).parents[1]
RECORD, README = ROOT / "docs/record.json", ROOT / "README.md"
RESULTS, PICTURE = ROOT / "docs/results.md", ROOT / "docs/figures.svg"
MOVERS_RECORD, MOVERS_PAGE = ROOT / "docs/movers.json", ROOT / "docs/movers.md"
FIGURES = ("<!-- figures: python -m bench.readme -->", "<!-- end of figures -->")
MOVERS = ("<!-- movers: python -m bench.readme -->", "<!-- end of movers -->")
README_MOVERS = ("ridelake", "DuckDB", "dlt")  # DuckDB has the fastest copy; dlt is common in pipelines
NOT_INCREMENTAL = ("DuckDB",)  # it has no incremental mode; the measured rule is part of this project

ROWS_MAX = 12  # rows of a table in the results; the record has all
MOVERS_ROWS_MAX = 40

LEFT, RIGHT = 250, 540  # pixels of the scale in the picture
TICKS = (1, 2, 5, 10, 20, 50, 100, 1000)


def short_table(record: Record) -> str:
    """A row for each claim with one measured number, for the README."""
    lines = ["| textbook claim | | measured here |", "|---|:-:|---|"]
    for entry in record.claims:
        claim = entry.claim or {}
        cells = (title_of(claim), sign_of(claim["verdict"])[0], headline_of(entry.figure).short)
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace('<', '&lt;') for cell in cells)} |"


def short_movers(record: Record) -> str:
    """A row for each of three movers, with medians, for the README."""
    copied, followed = (entry.figure["tables"][0]["rows"] for entry in record.figures[:2])
    lost = {row["mover"]: f"{row['missing'] + row['stale']:,}" for row in followed}
    lost |= dict.fromkeys(NOT_INCREMENTAL, "–")
    lines = [
        "| copy tool | torn rows | lost or stale rows | thousand rows/s |",
        "|---|---:|---:|---:|",
    ]
    for row in copied:
        if (name := row["mover"]) in README_MOVERS:
            torn, speed = (row[column].split()[0] for column in ("torn rows a copy", "thousand rows/s"))
            lines.append(_line((name, torn, lost[name], speed)))
    return "\n".join(lines)


def readme_with(text: str, record: Record, movers: Record) -> str:
    """The text of the README with new tables between the markers. Raises ValueError if a marker is
    missing."""
    text = _between_markers(text, short_table(record), FIGURES)
    return _between_markers(text, short_movers(movers), MOVERS)


def movers_with(text: str, record: Record) -> str:
    """The text of the page of the movers with their figures between the markers. Raises ValueError if a
    marker is missing."""
    lines = [_machine(record), *(f"Warning: {warning}." for warning in record.warnings)]
    for entry in record.figures:
        lines += _figure(entry, rows_max=MOVERS_ROWS_MAX)
        lines += [f"- {_text(warning)}" for warning in entry.figure.get("warnings", [])]
    return _between_markers(text, "\n".join(lines), FIGURES)


def _between_markers(text: str, new: str, markers: tuple[str, str]) -> str:
    begin, end = markers
    before, rest = text.split(begin, 1)
    _, after = rest.split(end, 1)
    return f"{before}{begin}\n{new}\n{end}{after}"


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
        "`ridelake report` draws them. [Movers](movers.md) compares tools that copy Postgres to Parquet.",
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


def _figure(entry: Entry, rows_max: int = ROWS_MAX) -> list[str]:
    lines = ["", f"### {entry.title}", "", f"`{entry.name}`"]
    if entry.status != "measured":
        return [*lines, "", f"{entry.status.capitalize()}: {entry.why}"]
    if checked := entry.figure.get("checked"):
        lines += ["", f"Checked: {_text(checked)}."]
    sentences = [Ratio.from_record(kept).labelled_sentence() for kept in entry.figure.get("ratios", [])]
    lines += ["", *(f"- {_text(sentence)}" for sentence in sentences)] if sentences else []
    for table in entry.figure.get("tables", []):
        lines += _table(table["title"], table["rows"], rows_max)
    return lines


def _text(text: str) -> str:
    return text.replace("<", "&lt;")


def _table(title: str, rows: Sequence[Mapping[str, Any]], rows_max: int) -> list[str]:
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name for name in columns if all(isinstance(row.get(name), int | float | None) for row in rows)}
    ruler = "|".join("---:" if name in numeric else "---" for name in columns)
    lines = ["", f"{_text(title)}:", "", _line(columns), f"|{ruler}|"]
    lines += [_line([_value(row.get(name)) for name in columns]) for row in rows[:rows_max]]
    if len(rows) > rows_max:
        lines += ["", f"{len(rows) - rows_max} more rows are in the record."]
    return lines


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else digits(value)


def picture(record: Record) -> str:
    """A bar for the ratio of each claim, on a logarithmic scale that begins at 1."""
    found = [(entry.claim or {}, headline_of(entry.figure).ratio) for entry in record.claims]
    ratios = [(claim, ratio.at_least_one()) for claim, ratio in found if ratio]
    scale = AxisScale("times faster", 1, max([10.0, *(ratio.high for _, ratio in ratios)]), log=True)

    def place(times: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * scale.place(times) / 100, 1)

    rows = [
        {
            "sign": sign_of(claim["verdict"])[0],
            "kind": sign_of(claim["verdict"])[1],
            "title": title_of(claim),
            "ends": [place(times) for times in (ratio.low, ratio.median, ratio.high)],
            "winner": f"{ratio.over[:1].upper()}{ratio.over[1:]} {ratio_text(ratio.median)} faster"
            if ratio.distinguishable
            else "",
            "loser": ratio.of,
        }
        for claim, ratio in ratios
    ]
    kinds = {kind: f"the claim {verdict}" for verdict, (_, kind) in reversed(VERDICTS.items())}
    verdicts = [(kind, kinds[kind]) for kind in kinds if kind in {row["kind"] for row in rows}]
    ticks = [(place(times), f"{times}×") for times in TICKS if times <= scale.high]
    return (
        render("figures.svg", rows=rows, verdicts=verdicts[::-1], ticks=ticks, left=LEFT, right=RIGHT) + "\n"
    )


def main() -> None:
    record, movers = read_record(RECORD), read_record(MOVERS_RECORD)
    README.write_text(readme_with(README.read_text("utf-8"), record, movers), "utf-8")
    RESULTS.write_text(results(record), "utf-8")
    PICTURE.write_text(picture(record), "utf-8")
    MOVERS_PAGE.write_text(movers_with(MOVERS_PAGE.read_text("utf-8"), movers), "utf-8")


if __name__ == "__main__":
    main()
