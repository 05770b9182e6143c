"""Run the cases of `isolation.spec` at every isolation level, and compare with the expected results.

The sessions of a case execute one statement at a time, in its interleaving. Whether a statement waits for
another session is not inferred from elapsed time: Postgres is asked (pg_blocking_pids). A run takes no longer
than its statements, and its result is deterministic.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from oltp.store import Store, transaction
from ridelake.errors import TimedOut

COMMIT, ROLLBACK = "COMMIT", "ROLLBACK"
POLL_SECONDS = 0.002  # between two checks of a statement that is not done
TIMEOUT_SECONDS = 30  # until a statement completes or waits for one of our sessions

IS_BLOCKED = "SELECT pg_blocking_pids(%s) && %s::int[]"


class IsolatedSession:
    """One transaction, in its own thread because a statement may wait. An error ends it."""

    def __init__(self, connection: Connection[TupleRow], isolation: IsolationLevel) -> None:
        self.pid = connection.info.backend_pid
        self.over = False
        self._connection = connection
        self._isolation = isolation
        self._statements: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)

    def say(self, statement: str) -> None:
        if self._thread.ident is None:
            self._thread.start()  # not before the first statement: after it the caller also calls `leave`
        self._statements.put(statement)
        self.over = statement in (COMMIT, ROLLBACK)

    def answer(self, seconds: float) -> str | None:
        """The server's response; None if it does not arrive within `seconds`."""
        with suppress(queue.Empty):
            answer = self._answers.get(timeout=seconds)
            if isinstance(answer, BaseException):
                self.over = True
                sqlstate = getattr(answer, "sqlstate", None)
                if sqlstate is None:
                    raise answer
                return str(sqlstate)
            return answer
        return None

    def leave(self) -> None:
        """Roll back what is not committed. Does not wait; `join` does."""
        self._statements.put(ROLLBACK)

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with transaction(self._connection, self._isolation):
                while (statement := self._statements.get()) not in (COMMIT, ROLLBACK):
                    self._answers.put(run_statement(self._connection, statement))
                if statement == ROLLBACK:
                    raise psycopg.Rollback
            self._answers.put(statement)
        except BaseException as error:
            self._answers.put(error)


class Interleaving:
    """The sessions of one run, and an observer connection that detects waits."""

    def __init__(self, sessions: dict[str, IsolatedSession], observer: Connection[TupleRow]) -> None:
        self._sessions = sessions
        self._observer = observer
        self._waiting: dict[str, int] = {}  # session → number of the step that waits
        self.seen: list[str] = []

    def play(self, session: str, statement: str) -> None:
        """Execute a statement; return when every session is idle or waits for another."""
        actor = self._sessions[session]
        number = len(self.seen)
        if session in self._waiting:
            raise ValueError(f"{session} still waits in step {self._waiting[session] + 1}: {statement}")
        if actor.over:
            self.seen.append("-")
            return
        self.seen.append("")
        actor.say(statement)
        self._settle(session, number)
        for name, step in list(self._waiting.items()):  # sessions that this step may have unblocked
            if step != number:
                self._settle(name, step)

    def look(self, statement: str) -> None:
        """Execute a statement on the observer connection."""
        self.seen.append(run_statement(self._observer, statement))

    def close(self) -> None:
        for session in self._sessions.values():
            session.leave()
        for session in self._sessions.values():
            session.join()

    def _settle(self, name: str, step: int) -> None:
        session = self._sessions[name]
        ours = [other.pid for other in self._sessions.values()]
        until = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < until:
            answer = session.answer(POLL_SECONDS)
            if answer is not None:
                self.seen[step] = f"waits, {answer}" if self._waiting.pop(name, None) is not None else answer
                return
            if self._observer.execute(IS_BLOCKED, (session.pid, ours)).fetchone() == (True,):
                self._waiting[name] = step
                self.seen[step] = "waits"
                return
        raise TimedOut(f"{name} got no answer in {TIMEOUT_SECONDS} s and does not wait for another session")


def run_statement(connection: Connection[TupleRow], statement: str) -> str:
    """Execute a statement; return rows as "1=>10 2=>20" or "nothing", otherwise the command tag."""
    cursor = connection.execute(statement.encode())
    if cursor.description is None:
        return str(cursor.statusmessage)
    rows = cursor.fetchall()
    return " ".join("=>".join(str(value) for value in row) for row in rows) or "nothing"


LEVELS = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)
END = "end"


@dataclass(frozen=True, slots=True)
class IsolationStep:
    """A statement of a session, and its expected result at each level; "" means no wait and no error."""

    session: str
    says: str
    expected: tuple[str, ...]

    def fits(self, seen: str, level: IsolationLevel) -> bool:
        expected = self.expected[LEVELS.index(level)]
        if expected:
            return seen == expected
        return not seen.startswith(("waits", "-")) and not _is_sqlstate(seen)


@dataclass(frozen=True, slots=True)
class IsolationCase:
    """One interleaving. `description`: the anomaly in words. `verdict`: the behavior of each level."""

    name: str
    title: str
    description: str
    steps: tuple[IsolationStep, ...]
    verdict: tuple[str, ...]

    @property
    def sessions(self) -> tuple[str, ...]:
        return tuple(sorted({step.session for step in self.steps} - {END}))

    def verdict_at(self, level: IsolationLevel) -> str:
        return self.verdict[LEVELS.index(level)]


def hermitage_cases() -> tuple[IsolationCase, ...]:
    return read_cases(files("oltp").joinpath("acid", "isolation.spec").read_text())


def read_cases(text: str) -> tuple[IsolationCase, ...]:
    """The cases of a text in the notation of `isolation.spec`."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if line.startswith("case ")]
    return tuple(
        _case(lines[start:stop]) for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True)
    )


def _case(lines: list[str]) -> IsolationCase:
    name, title = lines[0].removeprefix("case ").split(": ", 1)
    description = [line for line in lines[1:] if not _is_step(line)]
    stepped = list(_steps(lines[1:]))
    verdict = next(step.expected for step in stepped if step.session == "verdict")
    steps = tuple(step for step in stepped if step.session != "verdict")
    return IsolationCase(name, title, " ".join(description), steps, verdict)


def _steps(lines: list[str]) -> Iterator[IsolationStep]:
    for line in filter(_is_step, lines):
        step, *expected = (part.strip() for part in line.split("|"))
        if len(expected) not in (0, 1, len(LEVELS)):
            raise ValueError(f"one expectation for all levels or one for each: {line}")
        for_each = expected if len(expected) == len(LEVELS) else (expected or [""]) * len(LEVELS)
        session, _, says = step.partition(": ")
        yield IsolationStep(session, says, tuple(for_each))


def _is_step(line: str) -> bool:
    return line.split("|")[0].split(":")[0].strip() in ("T1", "T2", "T3", END, "verdict")


def _is_sqlstate(seen: str) -> bool:
    return len(seen) == 5 and seen.isalnum() and any(letter.isdigit() for letter in seen)


SET_UP = """
    DROP SCHEMA IF EXISTS ridelake_acid CASCADE;
    CREATE SCHEMA ridelake_acid;
    CREATE TABLE ridelake_acid.test (id integer PRIMARY KEY, value integer NOT NULL);"""
RESET = "TRUNCATE test; INSERT INTO test (id, value) VALUES (1, 10), (2, 20)"


@dataclass(frozen=True, slots=True)
class IsolationResult:
    """The result of one case at one level. `seen`: the result of each step, as text."""

    case: IsolationCase
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


class IsolationRunner:
    """The table, and enough connections for every case."""

    def __init__(self, actors: list[Connection[TupleRow]], observer: Connection[TupleRow]) -> None:
        self._actors = actors
        self._observer = observer

    def play(self, case: IsolationCase, level: IsolationLevel) -> IsolationResult:
        self._observer.execute(RESET)
        stage = Interleaving(
            {
                name: IsolatedSession(actor, level)
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
        return IsolationResult(case, level, tuple(stage.seen))


@contextmanager
def open_isolation_runner(small: Store) -> Iterator[IsolationRunner]:
    """Recreates the schema `ridelake_acid` in the scratch database."""
    with ExitStack() as opened:
        observer, *actors = (opened.enter_context(closing(small.connect())) for _ in range(4))
        observer.execute(SET_UP)
        yield IsolationRunner(actors, observer)


def run_all(
    small: Store, cases: Sequence[IsolationCase], report: Callable[[int], None] = lambda plays: None
) -> tuple[IsolationResult, ...]:
    """Run every case at every level. `report` is called with the number of runs that are done."""
    played: list[IsolationResult] = []
    with open_isolation_runner(small) as theatre:
        for case in cases:
            for level in LEVELS:
                played.append(theatre.play(case, level))
                report(len(played))
    return tuple(played)


def level_name(level: IsolationLevel) -> str:
    """The name in SQL, such as READ COMMITTED."""
    return level.name.replace("_", " ")
