"""Plays the cases of `isolation.spec` at every isolation level; compares what is seen with what is said."""

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
BEGIN_ANEW = "TRUNCATE test; INSERT INTO test (id, value) VALUES (1, 10), (2, 20)"


@dataclass(frozen=True, slots=True)
class Played:
    """One case at one level. `seen` has a text for each step."""

    case: Case
    level: IsolationLevel
    seen: tuple[str, ...]

    @property
    def as_expected(self) -> bool:
        return not self.differences

    @property
    def differences(self) -> tuple[str, ...]:
        """A line for each step that went another way."""
        at = LEVELS.index(self.level)
        return tuple(
            f"{self.case.name}, {level_name(self.level)}, {step.session}: {step.says}"
            f" → {seen}, expected {step.expected[at] or 'to be done at once'}"
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
    """The table, and connections enough for every case."""

    def __init__(self, actors: list[Connection[TupleRow]], onlooker: Connection[TupleRow]) -> None:
        self._actors = actors
        self._onlooker = onlooker

    def play(self, case: Case, level: IsolationLevel) -> Played:
        self._onlooker.execute(BEGIN_ANEW)
        stage = Stage(
            {
                name: Session(actor, level)
                for name, actor in zip(case.sessions, self._actors, strict=False)  # some need fewer
            },
            self._onlooker,
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
    """Makes the schema `ridelake_acid` anew in a database of ours."""
    with ExitStack() as opened:
        onlooker, *actors = (opened.enter_context(closing(small.connect())) for _ in range(4))
        onlooker.execute(SET_UP)
        yield Theatre(actors, onlooker)


def play_all(
    small: Store, cases: Sequence[Case], report: Callable[[int], None] = lambda plays: None
) -> tuple[Played, ...]:
    """Every case at every level. `report` is called with the number of plays that are over."""
    played: list[Played] = []
    with open_theatre(small) as theatre:
        for case in cases:
            for level in LEVELS:
                played.append(theatre.play(case, level))
                report(len(played))
    return tuple(played)


def level_name(level: IsolationLevel) -> str:
    """READ COMMITTED, as SQL has it."""
    return level.name.replace("_", " ")
