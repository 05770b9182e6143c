"""Ask one question of several engines: every answer first, compared, and only then the times.

    round 1      postgres  duckdb  polars     cold: files unread, plans unmade; the answers are compared
    round 2 …    postgres  duckdb  polars     interleaved, so that a busy machine slows them all alike

"Answered" means that the whole result is in memory as a `pyarrow.Table`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from olap.comparison import AnswersDiffer, compare
from ridelake.errors import QueryRejected, TimedOut

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch
    from olap.question import Question

T = TypeVar("T")

ANSWERS = " answers"  # so ends the name of a thread in which an engine does

ROUNDS_MAX = 6  # the cold one, and five of which the median is told
WARM_SECONDS_MAX = 2.0  # no further round once the rounds have taken this long: people wait for the answer
TIMEOUT_SECONDS_MAX = 1e6  # twelve days; a clock of the system ends somewhere
CANCEL_SECONDS = 2.0  # what an engine has to stop in after Ctrl-C or a timeout; then we leave without it


@dataclass(frozen=True, slots=True)
class Run:
    """One engine's part: its answer and the seconds of each round, or the words in which it refused, which it
    also does by not being done in time."""

    engine: str
    version: str
    answer: "pa.Table | None"
    seconds: tuple[float, ...]
    refused: str | None = None
    timed_out: bool = False

    @property
    def first_seconds(self) -> float:
        """Of the cold run."""
        return self.seconds[0]

    @property
    def usual_seconds(self) -> float:
        """The median of the warm runs, or the cold one where it is the only one."""
        if len(self.seconds) == 1:
            return self.seconds[0]
        from statistics import median  # not needed by `sql`, whose start it would slow

        return median(self.seconds[1:])


@dataclass(frozen=True, slots=True)
class Asked:
    """A question whose answers were found equal on every engine that took it."""

    question: "Question"
    runs: tuple[Run, ...]

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
) -> Asked:
    """Raises QueryRejected if no engine takes the SQL, TimedOut if none answers in time, and AnswersDiffer if
    two do not give the same: an answer that is wrong somewhere has no time. `epoch` may be None for Postgres
    alone. Each engine has `timeout_seconds` for each of its answers."""
    try:
        return _ask(question, engines, rounds_max, timeout_seconds)
    except AnswersDiffer as error:
        if epoch is None or not moved_on(engines, epoch):
            raise
        raise AnswersDiffer(
            f"{error}. Postgres has changed since epoch {epoch.number} was taken: "
            "run `ridelake snapshot` and ask again",
            error.rows,
            error.trusted,
        ) from error


def moved_on(engines: Sequence["Engine"], epoch: "Epoch") -> bool:
    """Whether Postgres is among the engines and has seen transactions that the epoch has not."""
    query = "SELECT CAST(pg_current_snapshot() AS text)"
    return any(
        engine.name == "postgres" and engine.sql(query).column(0)[0].as_py() != epoch.token.snapshot
        for engine in engines
    )


def _ask(
    question: "Question", engines: Sequence["Engine"], rounds_max: int, timeout_seconds: float | None
) -> Asked:
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
    compare(question, answers)

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
                compare(question, {reference: answers[reference], engine.name: again})
    return Asked(
        question,
        tuple(
            Run(
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
    """The answer, and the seconds from the question to the whole answer in memory."""

    def work() -> tuple["pa.Table", float]:
        started = time.perf_counter()
        answer = answer_of(engine, question)
        return answer, time.perf_counter() - started

    return interruptible(engine, work, timeout_seconds)


def answer_of(engine: "Engine", question: "Question") -> "pa.Table":
    """In Polars' own words where the question has them, else by SQL."""
    if engine.name == "polars" and question.frames is not None:
        answer: pa.Table = engine.call("answer", question.frames)  # type: ignore[attr-defined]
        return answer
    return engine.sql(question.sql_for(engine.name), question.parameters)


def interruptible(engine: "Engine", work: Callable[[], T], timeout_seconds: float | None = None) -> T:
    """Do `work` in a thread of its own, so that Ctrl-C is heard while an engine computes, and its time can be
    over: then the engine is told to cancel, and we leave. Raises TimedOut."""
    done: list[T] = []
    failed: list[BaseException] = []
    over = threading.Event()  # not Thread.join(): in Python 3.11 an interrupted join forgets its thread

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            over.set()

    threading.Thread(target=run, name=f"{engine.name}{ANSWERS}", daemon=True).start()
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
    with suppress(Exception):  # the connection may be gone; what is told is why we cancel
        engine.interrupt()
    over.wait(CANCEL_SECONDS)
