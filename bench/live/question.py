"""The process that asks one question again and again: of the rows in Postgres, and of the files of an epoch.

A query runs as in `ridelake sql`: read-only, in the sandbox of its engine, with a time limit. The answers are
compared if both are of the same moment, that is if the store is still at the token of the epoch after both
runs. Otherwise the age of the epoch is reported.
"""

import threading
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa

from bench.live.freshness import has_moved_on
from bench.live.reads import columns_read, rows_read
from bench.live.worker import WorkerChannel, one_line
from lakehouse.engines import ENGINES, open_engine
from lakehouse.table.published import newest_epoch
from olap.answer import difference
from olap.explain import ONE_MORE_RUN_SECONDS
from olap.explain.scans import measure_reads
from olap.formats import text_rows
from olap.query import run_query
from olap.query_epoch import open_query_epoch
from olap.question import Question, ad_hoc_question, find_question
from oltp.store import Store
from ridelake.errors import QueryRejected, RidelakeError, TimedOut
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch
    from olap.ask import EngineRun

EVERY_SECONDS = 1.0
TIMEOUT_SECONDS = 10.0
EXPLAIN_SECONDS = 5.0  # how often a question is run once more to measure what it reads
# An engine in a child process takes a second to start, so it does not open every epoch.
KEPT_SECONDS = 10.0
SLOW_SECONDS = 0.5  # a query that has run for longer is cancelled when another question is chosen
ROWS_SHOWN, CHARACTERS_SHOWN = 20, 200


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """What the page has chosen. `name` or `sql`. `target`: both | rows | columns | off."""

    name: str | None = "average_price"
    sql: str | None = None
    engine: str = "duckdb"
    fresh: bool = False
    target: str = "both"

    @property
    def question(self) -> Question:
        return find_question(self.name) if self.name is not None else ad_hoc_question(self.sql or "")

    def asks(self, side: str) -> bool:
        return self.target in ("both", side)

    def part(self) -> dict[str, Any]:
        """The part `question` of the state before there is an answer."""
        chosen = {"name": self.name, "sql": self.question.sql, "engine": self.engine, "fresh": self.fresh}
        answered = ("rows", "columns", "equal", "as_of_seconds", "answer")
        return chosen | {"target": self.target} | dict.fromkeys(answered)


def work(channel: WorkerChannel, store: Store, settings: Settings) -> None:
    """Ask until the channel is stopped. `settings` have the DSN of the store."""
    # A query of a viewer can need any amount of memory. If it runs out, Linux ends this process first.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with ExitStack() as opened:
        endless = EndlessQuestion(channel, store, settings)
        opened.callback(endless.close)
        endless.run()


@dataclass(slots=True)
class SideAnswer:
    """The answer of one side: `part` for the page, and the rows if there is no error."""

    part: dict[str, Any]
    answer: pa.Table | None = None


class OpenEngine:
    """An engine that stays open on its epoch, and the context that is closed with it."""

    def __init__(
        self, name: str, settings: Settings, epoch: "Epoch | None" = None, *, fresh: bool = False
    ) -> None:
        self.name, self.opened_at = name, time.monotonic()
        self._context = ExitStack()
        try:
            # Postgres has the tables by the same names.
            self.epoch = self._context.enter_context(open_query_epoch(settings, [name], fresh=fresh))
            self.engine: Engine = self._context.enter_context(open_engine(name, settings, self.epoch))
        except BaseException:
            self._context.close()
            raise

    def close(self) -> None:
        with suppress(RidelakeError, psycopg.Error):
            self._context.close()


class EndlessQuestion:
    """The chosen question, the open engines, and the part `question` of the state."""

    def __init__(self, channel: WorkerChannel, store: Store, settings: Settings) -> None:
        self._channel, self._store, self._settings = channel, store, settings
        self._asked = AskedQuestion()
        self._changed = threading.Event()
        self._reporting = threading.Lock()  # no answer is reported after the question that replaces it
        self._rows: OpenEngine | None = None
        self._columns: OpenEngine | None = None
        self._busy: tuple[Engine, float] | None = None
        self._refused: dict[str, str] = {}  # by side; not run again until something changes
        self._explained: dict[str, tuple[float, dict[str, Any]]] = {}

    def close(self) -> None:
        for opened in (self._rows, self._columns):
            if opened is not None:
                opened.close()

    def run(self) -> None:
        self._channel.listen(self._obey, self._cancel)
        known: AskedQuestion | None = None
        while not self._channel.stopped.is_set():
            self._changed.clear()  # first, so that a later change ends the pause below
            began, asked = time.monotonic(), self._asked
            if asked != known:
                known = asked
                self._refused.clear()
                self._explained.clear()
            part = self._ask(asked)
            with self._reporting:
                if asked == self._asked:
                    self._channel.report("question", part)
            pause = None if asked.target == "off" else began + EVERY_SECONDS - time.monotonic()
            if pause is None or pause > 0:
                self._changed.wait(pause)

    def _obey(self, name: str, arguments: dict[str, Any]) -> None:
        if name == "set":
            asked = replace(self._asked, **arguments)
            if asked != self._asked:
                with self._reporting:
                    self._asked = asked
                    self._channel.report("question", asked.part())
            busy = self._busy
            if busy is not None and time.monotonic() - busy[1] > SLOW_SECONDS:
                self._interrupt(busy[0])
            self._changed.set()

    def _cancel(self) -> None:
        self._changed.set()
        if (busy := self._busy) is not None:
            self._interrupt(busy[0])

    def _interrupt(self, engine: "Engine") -> None:
        with suppress(Exception):  # it has just ended
            engine.interrupt()

    def _ask(self, asked: AskedQuestion) -> dict[str, Any]:
        question = asked.question
        sides: dict[str, SideAnswer | None] = {"columns": None, "rows": None}
        for side in sides:
            if asked.asks(side):
                sides[side] = self._ask_side(side, asked, question)
        rows, columns = sides["rows"], sides["columns"]
        shown = next(
            (one.answer for one in (columns, rows) if one is not None and one.answer is not None), None
        )
        equal, as_of_seconds = self._compared(question, rows, columns)
        return asked.part() | {
            "rows": rows.part if rows is not None else None,
            "columns": columns.part if columns is not None else None,
            "equal": equal,
            "as_of_seconds": as_of_seconds,
            "answer": _shown(shown) if shown is not None else None,
        }

    def _ask_side(self, side: str, asked: AskedQuestion, question: Question) -> SideAnswer:
        empty: dict[str, Any] = {"seconds": None, "bytes": None}
        empty |= {"heap": []} if side == "rows" else {"chunks": []}
        if side in self._refused:
            return SideAnswer(empty | {"error": self._refused[side]})
        try:
            opened = self._engine_for_rows() if side == "rows" else self._engine_for_columns(asked)
            return self._run(side, opened, question)
        except (QueryRejected, TimedOut) as error:
            if asked == self._asked:  # otherwise it was cancelled
                self._refused[side] = one_line(error)
            return SideAnswer(empty | {"error": one_line(error)})
        except Exception as error:  # the server is unreachable, or an engine's library has failed
            self._close(side)
            return SideAnswer(empty | {"error": one_line(error)})

    def _engine_for_rows(self) -> OpenEngine:
        if self._rows is None:
            self._rows = OpenEngine("postgres", self._settings)
        return self._rows

    def _engine_for_columns(self, asked: AskedQuestion) -> OpenEngine:
        """The engine on the newest epoch; one in a process of its own keeps its epoch for KEPT_SECONDS."""
        opened = self._columns
        if (
            opened is not None
            and opened.name == asked.engine
            and not asked.fresh
            and opened.epoch is not None
        ):
            is_young = time.monotonic() - opened.opened_at < KEPT_SECONDS
            is_kept = ENGINES[opened.name].in_subprocess and is_young
            if is_kept or newest_epoch(self._settings.lake).number == opened.epoch.number:
                return opened
        self._close("columns")
        self._columns = OpenEngine(asked.engine, self._settings, fresh=asked.fresh)
        return self._columns

    def _close(self, side: str) -> None:
        if side == "rows" and self._rows is not None:
            self._rows.close()
            self._rows = None
        elif side == "columns" and self._columns is not None:
            self._columns.close()
            self._columns = None

    def _run(self, side: str, opened: OpenEngine, question: Question) -> SideAnswer:
        engine, epoch = opened.engine, opened.epoch

        def answered() -> "EngineRun":
            asked = run_query(question, [engine], epoch, rounds_max=1, timeout_seconds=TIMEOUT_SECONDS)
            return asked.runs[0]

        self._busy = engine, time.monotonic()
        try:
            if side == "rows" or epoch is None:
                run, count = answered(), None
            else:
                run, count = measure_reads(engine, epoch, answered)
            assert run.answer is not None, "a refusal was raised"
            part: dict[str, Any] = {"seconds": round(run.first_seconds, 5), "bytes": count, "error": None}
            part |= self._reads(side, opened, question, run)
        finally:
            self._busy = None
        return SideAnswer(part, run.answer)

    def _reads(self, side: str, opened: OpenEngine, question: Question, run: "EngineRun") -> dict[str, Any]:
        """What the query reads, measured again after EXPLAIN_SECONDS if it is fast."""
        measured_at, found = self._explained.get(side, (0.0, {}))
        fast = run.first_seconds <= ONE_MORE_RUN_SECONDS
        if fast and time.monotonic() - measured_at > EXPLAIN_SECONDS:
            assert run.answer is not None
            if side == "rows":
                found = rows_read(opened.engine, question, run.answer.num_rows)
            elif opened.epoch is not None:
                rows = run.answer.num_rows
                found = columns_read(self._settings, opened.engine, question, rows, opened.epoch)
            self._explained[side] = time.monotonic(), found
        return found

    def _compared(
        self, question: Question, rows: SideAnswer | None, columns: SideAnswer | None
    ) -> tuple[bool | None, float | None]:
        """Whether the answers are equal if they are of the same moment; else the age of the epoch."""
        epoch = self._columns.epoch if self._columns is not None else None
        if columns is None or columns.answer is None or epoch is None:
            return None, None
        if self._moved_on(epoch):
            age = datetime.now(UTC) - datetime.fromisoformat(epoch.token.taken_at)
            return None, round(max(age.total_seconds(), 0.0), 3)
        if rows is None or rows.answer is None:
            return None, None
        return difference(rows.answer, columns.answer, ordered=question.ordered) is None, None

    def _moved_on(self, epoch: "Epoch") -> bool:
        """Whether the store may have changed since the epoch."""
        try:
            with closing(self._store.connect()) as connection:
                return has_moved_on(connection, epoch)
        except (RidelakeError, psycopg.Error):
            return True


def _shown(answer: pa.Table) -> dict[str, Any]:
    rows = [[cell[:CHARACTERS_SHOWN] for cell in row] for row in text_rows(answer.slice(0, ROWS_SHOWN))]
    return {"columns": answer.schema.names, "rows": rows, "more": max(answer.num_rows - ROWS_SHOWN, 0)}
