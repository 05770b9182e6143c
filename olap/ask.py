"""Run one question on several engines, compare the answers, and time the runs.

    round 1      postgres  duckdb  polars     cold; the answers are compared
    round 2 …    postgres  duckdb  polars     warm, interleaved: other load affects all alike

A run ends when the whole result is in memory as a `pyarrow.Table`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from olap.answer import AnswersDiffer, compare_answers
from ridelake.errors import QueryRejected, TimedOut

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch
    from olap.question import Question

T = TypeVar("T")

ANSWER_THREAD_SUFFIX = " answers"  # suffix of the name of a thread that waits for an engine

ROUNDS_MAX = 6  # one cold round, and five warm rounds for the median
WARM_SECONDS_MAX = 2.0  # a round starts only if the total is not expected to exceed this time
CANCEL_SECONDS = 2.0  # time for an engine to stop after Ctrl-C or a timeout; then it is abandoned


@dataclass(frozen=True, slots=True)
class EngineRun:
    """The answer of one engine and the seconds of each round, or its error message if it rejected the query.
    A timeout counts as a rejection."""

    engine: str
    version: str
    answer: "pa.Table | None"
    seconds: tuple[float, ...]
    refused: str | None = None
    timed_out: bool = False

    @property
    def first_seconds(self) -> float:
        """Seconds of the cold run."""
        return self.seconds[0]

    @property
    def warm_seconds(self) -> tuple[float, ...]:
        """Seconds of the warm runs, or of the cold run if there is no other."""
        return self.seconds[1:] or self.seconds

    @property
    def usual_seconds(self) -> float:
        """Median seconds of the warm runs, or of the cold run if there is no other."""
        if len(self.seconds) == 1:
            return self.seconds[0]
        from statistics import median  # imported late: it would slow the start of `sql`

        return median(self.warm_seconds)


@dataclass(frozen=True, slots=True)
class AskResult:
    """A question and its runs; all engines that answered gave equal answers."""

    question: "Question"
    runs: tuple[EngineRun, ...]

    @property
    def answer(self) -> "pa.Table":
        return next(run.answer for run in self.runs if run.answer is not None)

    @property
    def refusals(self) -> dict[str, str]:
        return {run.engine: run.refused for run in self.runs if run.refused is not None}


def ask(
    question: "Question",
    engines: Sequence["Engine"],
    epoch: "Epoch | None",
    *,
    rounds_max: int = ROUNDS_MAX,
    timeout_seconds: float | None = None,
) -> AskResult:
    """Run the question on all engines. `epoch` may be None if Postgres is the only engine. `timeout_seconds`
    applies to each run of each engine.

    Raises QueryRejected if no engine accepts the SQL, TimedOut if none answers in time, and AnswersDiffer if
    two answers differ."""
    try:
        return _ask(question, engines, rounds_max, timeout_seconds)
    except AnswersDiffer as error:
        if epoch is None or not store_has_changed(engines, epoch):
            raise
        raise AnswersDiffer(
            f"{error}. Postgres has changed since epoch {epoch.number} was taken: "
            "run `ridelake snapshot` and ask again",
            error.rows,
            error.trusted,
        ) from error


def store_has_changed(engines: Sequence["Engine"], epoch: "Epoch") -> bool:
    """Whether Postgres is among the engines and has transactions that are not in the epoch."""
    query = "SELECT CAST(pg_current_snapshot() AS text)"
    return any(
        engine.name == "postgres" and engine.sql(query).column(0)[0].as_py() != epoch.token.snapshot
        for engine in engines
    )


def _ask(
    question: "Question", engines: Sequence["Engine"], rounds_max: int, timeout_seconds: float | None
) -> AskResult:
    answers: dict[str, pa.Table] = {}
    seconds: dict[str, list[float]] = {}
    refused: dict[str, QueryRejected | TimedOut] = {}
    for engine in engines:
        try:
            answers[engine.name], taken = timed(engine, question, timeout_seconds)
            seconds[engine.name] = [taken]
        except (QueryRejected, TimedOut) as error:
            refused[engine.name] = error
    if not answers:
        raise next(iter(refused.values()))
    compare_answers(question, answers)

    reference = next(iter(answers))
    answering = [engine for engine in engines if engine.name in answers]
    one_round = warm = sum(taken for (taken,) in seconds.values())
    for _ in range(1, rounds_max):
        if warm + one_round > WARM_SECONDS_MAX:
            break
        for engine in answering:
            again, taken = timed(engine, question, timeout_seconds)
            seconds[engine.name].append(taken)
            warm += taken
            if engine.name != reference:
                compare_answers(question, {reference: answers[reference], engine.name: again})
    return AskResult(
        question,
        tuple(
            EngineRun(
                engine.name,
                engine.version(),
                answers.get(engine.name),
                tuple(seconds.get(engine.name, ())),
                str(refused[engine.name]) if engine.name in refused else None,
                isinstance(refused.get(engine.name), TimedOut),
            )
            for engine in engines
        ),
    )


def timed(
    engine: "Engine", question: "Question", timeout_seconds: float | None = None
) -> tuple["pa.Table", float]:
    """The answer, and the seconds until it was completely in memory."""

    def work() -> tuple["pa.Table", float]:
        started = time.perf_counter()
        answer = answer_of(engine, question)
        return answer, time.perf_counter() - started

    return interruptible(engine, work, timeout_seconds)


def answer_of(engine: "Engine", question: "Question") -> "pa.Table":
    """The answer of one engine: by frames for Polars if the question has them, else by SQL."""
    if engine.name == "polars" and question.frames is not None:
        answer: pa.Table = engine.call("answer", question.frames)  # type: ignore[attr-defined]
        return answer
    return engine.sql(question.sql_for(engine.name), question.parameters)


def interruptible(engine: "Engine", work: Callable[[], T], timeout_seconds: float | None = None) -> T:
    """Run `work` in a thread, so that Ctrl-C and the timeout take effect while the engine computes. On
    either, the engine is asked to cancel. Raises TimedOut."""
    done: list[T] = []
    failed: list[BaseException] = []
    over = threading.Event()  # in Python 3.11 an interrupted Thread.join() marks the thread as ended

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            over.set()

    threading.Thread(target=run, name=f"{engine.name}{ANSWER_THREAD_SUFFIX}", daemon=True).start()
    try:
        in_time = over.wait(timeout_seconds)
    except BaseException:  # Ctrl-C, or SIGTERM as SystemExit
        _cancel(engine, over)
        raise
    if not in_time:
        _cancel(engine, over)
        raise TimedOut(
            f"{engine.name}: cancelled after {timeout_seconds:g} s without an answer; "
            "raise the limit (--timeout), or query fewer rows"
        )
    if failed:
        raise failed[0]
    return done[0]


def _cancel(engine: "Engine", over: threading.Event) -> None:
    with suppress(Exception):  # the connection may be lost; the reason for cancelling is reported instead
        engine.interrupt()
    over.wait(CANCEL_SECONDS)
