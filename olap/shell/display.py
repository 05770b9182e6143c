"""Shell commands that change how an answer is shown. Each returns the new `Telling` and a message."""

from collections.abc import Callable
from dataclasses import replace

from olap.output import settled_format
from olap.telling import Telling
from ridelake.errors import UsageError

Changed = tuple[Telling, str]


def _expanded(telling: Telling, rest: str) -> Changed:
    if rest not in ("", "auto", "on", "off"):
        raise UsageError(rf"\x takes auto, on or off, not {rest}")
    state = rest or ("on" if telling.expanded != "on" else "auto")
    return replace(telling, expanded=state), f"expanded display is {state}"  # type: ignore[arg-type]


def _output(telling: Telling, rest: str) -> Changed:
    if not rest:
        return replace(telling, file=None), "answers are written to the terminal"
    settled_format(telling.format_, rest)  # raises if the file cannot be written
    return replace(telling, file=rest), f"the next answer is written to {rest}"


def _limit(telling: Telling, rest: str) -> Changed:
    if rest and not rest.isdecimal():
        raise UsageError(rf"\limit takes a number of rows, 0 for all, not {rest}")
    limit = int(rest) if rest else None
    shown = {None: "100 on a terminal", 0: "all"}.get(limit, f"{limit:,}" if limit else "")
    return replace(telling, limit=limit), f"rows shown: {shown}"


def _timing(telling: Telling, _: str) -> Changed:
    return replace(telling, timing=not telling.timing), f"timing is {_on(not telling.timing)}"


def _why(telling: Telling, _: str) -> Changed:
    return replace(telling, why=not telling.why), f"why is {_on(not telling.why)}"


def _pager(telling: Telling, _: str) -> Changed:
    return replace(telling, pager=not telling.pager), f"the pager is {_on(not telling.pager)}"


def _on(state: bool) -> str:
    return "on" if state else "off"


DISPLAY: dict[str, Callable[[Telling, str], Changed]] = {
    r"\x": _expanded,
    r"\o": _output,
    r"\limit": _limit,
    r"\timing": _timing,
    r"\why": _why,
    r"\pager": _pager,
}
