"""Runs the cases of `isolation.spec` at every isolation level, and compares the results with the expected
ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from oltp.acid.sessions import Session, Stage
from oltp.acid.spec import END, LEVELS, Case
from oltp.store import Store

SET_UP = """
    DROP SCHEMA IF EXISTS ridelake_acid CASCADE;
    CREATE SCHEMA ridelake_acid;
    CREATE TABLE ridelake_acid.test (id integer PRIMARY KEY, value integer NOT NULL);"""
RESET = "TRUNCATE test; INSERT INTO test (id, value) VALUES (1, 10), (2, 20)"


@dataclass(frozen=True, slots=True)
class Played:
    """The result of one case at one level. `seen`: the result of each step, as text."""

    case: Case
    level: IsolationLevel
    seen: tuple[str, ...]

    @property
    def as_expected(self) -> bool:
        return not self.differences

    @property
    def differences(self) -> tuple[str, ...]:
        """One line for each step with an unexpected result."""
        at = LEVELS.index(self.level)
        return tuple(
            f"{self.case.name}, {level_name(self.level)}, {step.session}: {step.says}"
            f" → {seen}, expected {step.expected[at] or 'no wait and no error'}"
            for step, seen in zip(self.case.steps, self.seen, strict=True)
            if not step.fits(seen, self.level)
        )

    @property
    def verdict(self) -> str:
        return self.case.verdict_at(self.level) if self.as_expected else "differs"

    def as_dict(self) -> dict[str, Any]:
        at = LEVELS.index(self.level)
        return {
            "expected": self.case.verdict_at(self.level),
            "seen": self.verdict,
            "steps": [
                {
                    "session": step.session,
                    "says": step.says,
                    "expected": step.expected[at] or None,
                    "seen": seen,
                }
                for step, seen in zip(self.case.steps, self.seen, strict=True)
            ],
        }


class Theatre:
    """The table, and enough connections for every case."""

    def __init__(self, actors: list[Connection[TupleRow]], observer: Connection[TupleRow]) -> None:
        self._actors = actors
        self._observer = observer

    def play(self, case: Case, level: IsolationLevel) -> Played:
        self._observer.execute(RESET)
        stage = Stage(
            {
                name: Session(actor, level)
                for name, actor in zip(case.sessions, self._actors, strict=False)  # some cases need fewer
            },
            self._observer,
        )
        try:
            for step in case.steps:
                if step.session == END:
                    stage.look(step.says)
                else:
                    stage.play(step.session, step.says)
        finally:
            stage.close()
        return Played(case, level, tuple(stage.seen))


@contextmanager
def open_theatre(small: Store) -> Iterator[Theatre]:
    """Recreates the schema `ridelake_acid` in the scratch database."""
    with ExitStack() as opened:
        observer, *actors = (opened.enter_context(closing(small.connect())) for _ in range(4))
        observer.execute(SET_UP)
        yield Theatre(actors, observer)


def play_all(
    small: Store, cases: Sequence[Case], report: Callable[[int], None] = lambda plays: None
) -> tuple[Played, ...]:
    """Run every case at every level. `report` is called with the number of runs that are done."""
    played: list[Played] = []
    with open_theatre(small) as theatre:
        for case in cases:
            for level in LEVELS:
                played.append(theatre.play(case, level))
                report(len(played))
    return tuple(played)


def level_name(level: IsolationLevel) -> str:
    """The name in SQL, such as READ COMMITTED."""
    return level.name.replace("_", " ")
