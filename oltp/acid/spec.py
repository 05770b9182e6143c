"""Parses `isolation.spec`. The notation is described at the top of that file."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from psycopg import IsolationLevel

LEVELS = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)
END = "end"


@dataclass(frozen=True, slots=True)
class Step:
    """A statement of a session, and its expected result at each level; "" stands for no wait and no error."""

    session: str
    says: str
    expected: tuple[str, ...]

    def fits(self, seen: str, level: IsolationLevel) -> bool:
        expected = self.expected[LEVELS.index(level)]
        if expected:
            return seen == expected
        return not seen.startswith(("waits", "-")) and not _is_sqlstate(seen)


@dataclass(frozen=True, slots=True)
class Case:
    """One interleaving. `story` describes the anomaly; `verdict`: the behavior of each level."""

    name: str
    title: str
    story: str
    steps: tuple[Step, ...]
    verdict: tuple[str, ...]

    @property
    def sessions(self) -> tuple[str, ...]:
        return tuple(sorted({step.session for step in self.steps} - {END}))

    def verdict_at(self, level: IsolationLevel) -> str:
        return self.verdict[LEVELS.index(level)]


def hermitage_cases() -> tuple[Case, ...]:
    return read_cases(files("oltp").joinpath("acid", "isolation.spec").read_text())


def read_cases(text: str) -> tuple[Case, ...]:
    """The cases of a text in the notation of `isolation.spec`."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if line.startswith("case ")]
    return tuple(
        _case(lines[start:stop]) for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True)
    )


def _case(lines: list[str]) -> Case:
    name, title = lines[0].removeprefix("case ").split(": ", 1)
    story = [line for line in lines[1:] if not _is_step(line)]
    stepped = list(_steps(lines[1:]))
    verdict = next(step.expected for step in stepped if step.session == "verdict")
    steps = tuple(step for step in stepped if step.session != "verdict")
    return Case(name, title, " ".join(story), steps, verdict)


def _steps(lines: list[str]) -> Iterator[Step]:
    for line in filter(_is_step, lines):
        step, *expected = (part.strip() for part in line.split("|"))
        if len(expected) not in (0, 1, len(LEVELS)):
            raise ValueError(f"one expectation for all levels or one for each: {line}")
        for_each = expected if len(expected) == len(LEVELS) else (expected or [""]) * len(LEVELS)
        session, _, says = step.partition(": ")
        yield Step(session, says, tuple(for_each))


def _is_step(line: str) -> bool:
    return line.split("|")[0].split(":")[0].strip() in ("T1", "T2", "T3", END, "verdict")


def _is_sqlstate(seen: str) -> bool:
    return len(seen) == 5 and seen.isalnum() and any(letter.isdigit() for letter in seen)
