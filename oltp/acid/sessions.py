"""Sessions that take one statement at a time, and a stage that knows who waits.

Whether a statement waits for another session is not guessed from the time that has gone by: Postgres is
asked (pg_blocking_pids). So a play takes no longer than its statements, and comes out the same each time.
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
LOOK_SECONDS = 0.002  # between two looks at a statement that is not done
PATIENCE_SECONDS = 30  # neither done nor waiting for one of ours for so long: give up

IS_BLOCKED = "SELECT pg_blocking_pids(%s) && %s::int[]"


class Session:
    """One transaction, in a thread of its own, because a statement may wait. An error ends it."""

    def __init__(self, connection: Connection[TupleRow], isolation: IsolationLevel) -> None:
        self.pid = connection.info.backend_pid
        self.over = False
        self._connection = connection
        self._isolation = isolation
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live)

    def say(self, statement: str) -> None:
        if self._thread.ident is None:
            self._thread.start()  # not before: whoever holds this session will also tell it to leave
        self._orders.put(statement)
        self.over = statement in (COMMIT, ROLLBACK)

    def answer(self, seconds: float) -> str | None:
        """What the server answered; None if it has not yet."""
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
        """Roll back what is not committed. Waits for nobody; `join` does."""
        self._orders.put(ROLLBACK)

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def _live(self) -> None:
        try:
            with transaction(self._connection, self._isolation):
                while (statement := self._orders.get()) not in (COMMIT, ROLLBACK):
                    self._answers.put(shown(self._connection, statement))
                if statement == ROLLBACK:
                    raise psycopg.Rollback
            self._answers.put(statement)
        except BaseException as error:
            self._answers.put(error)


class Stage:
    """The sessions of one play, and an onlooker who asks who waits for whom."""

    def __init__(self, sessions: dict[str, Session], onlooker: Connection[TupleRow]) -> None:
        self._sessions = sessions
        self._onlooker = onlooker
        self._waiting: dict[str, int] = {}  # session → number of the step that waits
        self.seen: list[str] = []

    def play(self, session: str, statement: str) -> None:
        """Say it, and go on when everybody is done or waits."""
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
        for name, step in list(self._waiting.items()):  # whom this may have let go on
            if step != number:
                self._settle(name, step)

    def look(self, statement: str) -> None:
        """A step of the onlooker's own."""
        self.seen.append(shown(self._onlooker, statement))

    def close(self) -> None:
        for session in self._sessions.values():
            session.leave()
        for session in self._sessions.values():
            session.join()

    def _settle(self, name: str, step: int) -> None:
        session = self._sessions[name]
        ours = [other.pid for other in self._sessions.values()]
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            answer = session.answer(LOOK_SECONDS)
            if answer is not None:
                self.seen[step] = f"waits, {answer}" if self._waiting.pop(name, None) is not None else answer
                return
            if self._onlooker.execute(IS_BLOCKED, (session.pid, ours)).fetchone() == (True,):
                self._waiting[name] = step
                self.seen[step] = "waits"
                return
        raise TimedOut(f"{name} has not been answered for {PATIENCE_SECONDS} s, and waits for none of ours")


def shown(connection: Connection[TupleRow], statement: str) -> str:
    """Run it; rows as "1=>10 2=>20" or "nothing", anything else as the server's own answer."""
    cursor = connection.execute(statement.encode())
    if cursor.description is None:
        return str(cursor.statusmessage)
    rows = cursor.fetchall()
    return " ".join("=>".join(str(value) for value in row) for row in rows) or "nothing"
