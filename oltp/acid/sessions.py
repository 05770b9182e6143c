"""Sessions that execute one statement at a time, in a given interleaving.

Whether a statement waits for another session is not inferred from elapsed time: Postgres is asked
(pg_blocking_pids). A run takes no longer than its statements, and its result is deterministic.
"""

import queue
import threading
import time
from contextlib import suppress

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from oltp.store import transaction
from ridelake.errors import TimedOut

COMMIT, ROLLBACK = "COMMIT", "ROLLBACK"
POLL_SECONDS = 0.002  # between two checks of a statement that is not done
TIMEOUT_SECONDS = 30  # for a statement that neither completes nor waits for one of our sessions

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
            self._thread.start()  # not earlier: from now on the caller also calls `leave`
        self._statements.put(statement)
        self.over = statement in (COMMIT, ROLLBACK)

    def answer(self, seconds: float) -> str | None:
        """The server's answer; None if there is none after `seconds`."""
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
