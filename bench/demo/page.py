"""The demo as one self-contained HTML file, without scripts."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from bench.demo.scenes import EngineTimes, Scene, SceneResult
from bench.machine import Machine
from ridelake.errors import UsageError


def write_page(path: Path, results: Sequence[tuple[Scene, SceneResult]], machine: Machine) -> None:
    """Write the page. Raises UsageError if the file cannot be written."""
    template = Template(files("bench.demo").joinpath("page.html").read_text("utf-8"))
    page = template.substitute(
        warnings="".join(f'<p class="note">⚠ {escape(warning)}</p>' for warning in machine.warnings),
        scenes="\n".join(_scene(number, scene, result) for number, (scene, result) in enumerate(results, 1)),
        machine=escape(
            f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:.0f} GiB, {machine.system}"
        ),
        versions=escape(", ".join(f"{name} {version}" for name, version in machine.versions.items())),
        measured_at=f"{machine.measured_at:%Y-%m-%d %H:%M} UTC",
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, "utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): choose another file with --report"
        ) from error


def _scene(number: int, scene: Scene, result: SceneResult) -> str:
    parts = [
        f"<h2>{number}. {escape(scene.title)}</h2>",
        f'<p class="doing">{escape(scene.doing)}</p>',
        f'<p class="verdict">{escape(result.verdict)}</p>',
        f'<div class="chart">{"".join(map(_bars, result.bars))}</div>' if result.bars else "",
        _table(result) if result.rows else "",
        *(f'<p class="note">{escape(note)}</p>' for note in result.notes),
    ]
    return f"<section>{''.join(parts)}</section>"


def _table(result: SceneResult) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in result.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in result.rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _bars(bars: EngineTimes) -> str:
    longest = max(bars.seconds.values())
    lines = "".join(
        f'<div class="bar {engine}"><span>{engine}</span>'
        f'<i style="width: {100 * seconds / longest:.1f}%"></i><span>{seconds * 1e3:,.1f} ms</span></div>'
        for engine, seconds in bars.seconds.items()
    )
    return f"<h3>{escape(bars.label)}</h3>{lines}"
