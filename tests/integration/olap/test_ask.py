"""Several engines answer one question. Times are shown only if the answers are equal."""

import os
import re
import signal
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial

import polars as pl
import pyarrow as pa
import pytest
from factories import Town
from terminal import place_options

from lakehouse.engines import BASE_ENGINES
from lakehouse.engines.parameters import NO_PARAMETERS, Parameters
from olap.answer import AnswersDiffer
from olap.ask import CANCEL_SECONDS, ROUNDS_MAX, ask, timed
from olap.question import ad_hoc_question, find_question, questions
from oltp.store import Store
from ridelake.__main__ import _run
from ridelake.errors import ProofFailed, QueryRejected, TimedOut
from ridelake.settings import Settings

A_TIME = re.compile(r"\d\.\d+|second")


@dataclass
class Scripted:
    """An engine that returns scripted answers and logs its calls."""

    name: str
    answers: list[pa.Table | QueryRejected]
    log: list[str] = field(default_factory=list)

    def version(self) -> str:
        return "1"

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        self.log.append(self.name)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, QueryRejected):
            raise answer
        return answer

    def interrupt(self) -> None:
        pass


ONE, TWO = pa.table({"n": [1]}), pa.table({"n": [2]})
QUESTION = ad_hoc_question("SELECT n FROM t ORDER BY n")


def test_rounds_are_interleaved_and_the_first_is_separate():
    log: list[str] = []
    asked = ask(QUESTION, [Scripted("a", [ONE], log), Scripted("b", [ONE], log)], None)
    assert log == ["a", "b"] * ROUNDS_MAX
    for run in asked.runs:
        assert len(run.seconds) == ROUNDS_MAX
        assert run.first_seconds == run.seconds[0]
        assert min(run.seconds[1:]) <= run.usual_seconds <= max(run.seconds[1:])


def test_a_slow_question_runs_once():
    class Slow(Scripted):
        def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
            time.sleep(1.1)
            return super().sql(query, parameters)

    (run,) = ask(QUESTION, [Slow("a", [ONE])], None).runs
    assert len(run.seconds) == 1
    assert run.usual_seconds == run.first_seconds > 1


def test_different_answers_have_no_times():
    engines = [Scripted("a", [ONE]), Scripted("b", [TWO]), Scripted("c", [ONE])]
    with pytest.raises(ProofFailed, match=r"row 1, column 1 \(n\): 1 in a, 2 in b; c agrees with a$"):
        ask(QUESTION, engines, None)


def test_an_answer_that_changes_in_a_later_round_is_found():
    with pytest.raises(ProofFailed, match="1 in a, 2 in b"):
        ask(QUESTION, [Scripted("a", [ONE]), Scripted("b", [ONE, ONE, TWO])], None)


def test_an_engine_that_rejects_is_named_and_the_others_are_compared():
    refusing = Scripted("b", [QueryRejected("b: no such function")])
    asked = ask(QUESTION, [Scripted("a", [ONE]), refusing, Scripted("c", [ONE])], None)
    assert asked.refusals == {"b": "b: no such function"}
    assert [len(run.seconds) for run in asked.runs] == [ROUNDS_MAX, 0, ROUNDS_MAX]


def test_a_query_that_all_engines_reject_raises_the_first_error():
    with pytest.raises(QueryRejected, match=r"^a: no$"):
        ask(
            QUESTION,
            [Scripted("a", [QueryRejected("a: no")]), Scripted("b", [QueryRejected("b: no")])],
            None,
        )


def test_an_engine_that_times_out_is_cancelled_and_the_others_are_compared():
    cancelled = threading.Event()

    class Late(Scripted):
        def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
            assert cancelled.wait(20)
            raise QueryRejected("b: cancelled")

        def interrupt(self) -> None:
            cancelled.set()

    engines = [Scripted("a", [ONE]), Late("b", [ONE]), Scripted("c", [ONE])]
    asked = ask(QUESTION, engines, None, timeout_seconds=0.2)
    assert cancelled.is_set()
    assert [(run.timed_out, len(run.seconds)) for run in asked.runs] == [
        (False, ROUNDS_MAX),
        (True, 0),
        (False, ROUNDS_MAX),
    ]
    cancelled.clear()
    with pytest.raises(TimedOut, match=r"^b: cancelled after 0.2 s without an answer"):
        ask(QUESTION, [Late("b", [ONE])], None, timeout_seconds=0.2)


def test_an_engine_that_cannot_be_cancelled_is_abandoned_in_bounded_time():
    class Uncancellable(Scripted):
        def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
            gate.wait(30)
            return ONE

        def interrupt(self) -> None:
            raise OSError("connection lost")

    gate = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimedOut):
        ask(QUESTION, [Uncancellable("a", [ONE])], None, timeout_seconds=0.1)
    assert time.monotonic() - started < CANCEL_SECONDS + 3
    gate.set()


def test_a_majority_is_trusted_and_two_different_answers_are_not():
    three = [Scripted("a", [TWO]), Scripted("b", [ONE]), Scripted("c", [ONE])]
    with pytest.raises(AnswersDiffer) as caught:
        ask(QUESTION, three, None)
    assert (caught.value.trusted, caught.value.rows) == ({"b", "c"}, {"a": 1, "b": 1, "c": 1})
    with pytest.raises(AnswersDiffer) as caught:
        ask(QUESTION, three[:2], None)
    assert caught.value.trusted == frozenset()


def add_a_cent(right, tables):
    first_row = (pl.int_range(pl.len()) == 0).cast(pl.Int64)
    return right(tables).with_columns(pl.col("fares_cents") + first_row)


def test_a_wrong_answer_fails_the_command_and_shows_no_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    right = find_question("revenue_by_city_and_month")
    wrong_question = replace(right, frames=partial(add_a_cent, right.frames))
    monkeypatch.setitem(questions(), wrong_question.name, wrong_question)
    for more in (("--json",), ("--engine", "polars,duckdb")):
        assert command(settings, "ask", wrong_question.name, *more) == 1
        printed = capfd.readouterr()
        assert printed.out == ""
        assert re.search(
            r"✗ the answers differ.*row 1, column 5 \(fares_cents\): \d+ in \w+, \d+ in \w+", printed.err
        )
        assert not A_TIME.search(printed.err.split("no times are shown:")[1])
        rows = [line.split() for line in printed.err.splitlines()[1:-1]]
        wrong = [engine for engine, _, equal in rows if equal == "✗"]
        # Two engines have no majority.
        assert wrong == (["polars", "duckdb"] if "polars,duckdb" in more else ["polars"])


@pytest.mark.slow
def test_a_store_with_newer_transactions_is_named_as_the_reason(
    settings: Settings, seeded_store: Store, capfd: pytest.CaptureFixture[str]
):
    Town(seeded_store).rider()
    # This question does not depend on the new row.
    assert command(settings, "ask", "busiest_pickup_zones") == 0
    capfd.readouterr()
    assert command(settings, "sql", "SELECT COUNT(*) FROM riders", "--engine", "all") == 1
    printed = capfd.readouterr()
    assert (
        "Postgres has changed since epoch 1 was taken: run `ridelake snapshot` and ask again" in printed.err
    )


@pytest.mark.slow
def test_every_question_is_answered_by_the_command(settings: Settings, capfd: pytest.CaptureFixture[str]):
    for name in questions():
        assert command(settings, "ask", name, "--engine", ",".join(BASE_ENGINES)) == 0
        printed = capfd.readouterr()
        assert printed.err.count("✓") == len(BASE_ENGINES)
        assert printed.out


@pytest.mark.parametrize("name", ["duckdb", "postgres"])
def test_an_interrupt_cancels_the_query(name: str, settings: Settings, engines_over):
    endless = {
        "duckdb": "SELECT COUNT(*) FROM range(10000000000000) AS r(i) WHERE i % 7 = 3",
        "postgres": "SELECT COUNT(*) FROM generate_series(1, 10000000000000) AS r(i) WHERE i % 7 = 3",
    }
    with engines_over(settings) as (engines, _):
        engine = next(engine for engine in engines if engine.name == name)
        # Background jobs ignore SIGINT by default.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                timed(engine, ad_hoc_question(endless[name]))
        finally:
            signal.signal(signal.SIGINT, before)
        assert time.monotonic() - started < 5
        assert not [thread for thread in threading.enumerate() if thread.name == f"{name} answers"]
        assert engine.sql("SELECT 1 AS n").num_rows == 1  # the engine can still be used


def command(settings: Settings, *arguments: str) -> int:
    return _run([*place_options(settings), *arguments])
