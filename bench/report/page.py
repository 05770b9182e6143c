"""A record as one self-contained HTML file. Its content security policy forbids network access."""

from datetime import datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from bench.advice import entries_with_advice
from bench.record import Record
from bench.report.sections import VERDICTS, advice, anchors, claim_of, contents, figure, left_out, verdicts
from ridelake.errors import BadInput, UsageError


def write_page(path: Path, record: Record) -> None:
    """Write the page. Raises UsageError if the file cannot be written, BadInput for a damaged record."""
    page = page_of(record)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror}): choose another file with -o") from error


def page_of(record: Record) -> str:
    try:
        parts = _parts(record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"the record is damaged ({type(error).__name__}: {error}): run `ridelake bench` again"
        ) from error
    return Template(_file("page.html")).substitute(
        parts, css=_file("page.css"), js=_file("page.js"), plotly=get_plotlyjs()
    )


def _parts(record: Record) -> dict[str, str]:
    claims = record.claims
    measured = [entry for entry in record.figures if entry.status == "measured" and entry.figure]
    ordered = [*claims, *(entry for entry in measured if entry not in claims)]
    others = [entry for entry in record.figures if entry not in measured]
    anchor = anchors(record.figures)
    figures = "\n".join(figure(entry, anchor[entry.name]) for entry in ordered)
    return {
        "summary": escape(_summary(record)),
        "warnings": "".join(f'<p class="warning">⚠ {escape(warning)}</p>' for warning in _warnings(record)),
        "advice": "".join(advice(entry, anchor[entry.name]) for entry in entries_with_advice(record)),
        "verdicts": verdicts(claims, anchor),
        "contents": contents(ordered, anchor),
        "figures": figures or '<p class="note">The record has no figures.</p>',
        "left_out": left_out(others),
        "run": _run(record),
    }


def _summary(record: Record) -> str:
    """`11 claims: 7 hold, 3 hold in part, 1 does not hold.`"""
    found = [claim_of(entry)["verdict"] for entry in record.claims]
    counts = {verdict: found.count(verdict) for verdict in VERDICTS}
    texts = [f"{count} {_plural(verdict, count)}" for verdict, count in counts.items() if count]
    claims = f"{len(found)} claim{'' if len(found) == 1 else 's'}: {', '.join(texts)}. " if found else ""
    measured = sum(entry.status == "measured" for entry in record.figures)
    return f"{claims}{measured} of {len(record.figures)} benchmarks succeeded."


def _plural(verdict: str, count: int) -> str:
    if count == 1:
        return verdict
    return verdict.replace("holds", "hold").replace("does", "do")


def _warnings(record: Record) -> list[str]:
    unfinished = "the run was interrupted or is still in progress; the report is incomplete"
    failed = [f"{len(record.failed)} benchmarks failed"] if record.failed else []
    return [*([] if record.finished_at else [unfinished]), *failed, *record.warnings]


def _run(record: Record) -> str:
    """The machine, versions and times of the run."""
    machine = record.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items())
    lines: dict[str, Any] = {
        "machine": _machine(machine),
        "load before": f"{machine['load_per_core']:.2f} per core" if "load_per_core" in machine else None,
        "versions": versions,
        "scale": record.scale,
        "seed": record.seed,
        "started": _time_text(record.started_at),
        "finished": _time_text(record.finished_at) if record.finished_at else "no",
    }
    return "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in lines.items() if value
    )


def _machine(machine: dict[str, Any]) -> str:
    parts = [
        machine.get("processor"),
        f"{machine['cores']} cores" if "cores" in machine else None,
        f"{machine['memory_gib']:.0f} GiB" if "memory_gib" in machine else None,
        machine.get("system"),
    ]
    return ", ".join(part for part in parts if part)


def _time_text(iso: str) -> str:
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M} UTC"


def _file(name: str) -> str:
    return files("bench.report").joinpath(name).read_text("utf-8")
