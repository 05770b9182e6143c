"""The questions, asked in turn, and every answer checked while the bookings go on.

What the clients book they cancel again, so no completed ride changes: questions over those have one right
answer all the time. The others are compared when the bookings have ended (`setups`).
"""

from collections.abc import Callable, Mapping
from itertools import cycle
from time import monotonic
from typing import TYPE_CHECKING

from bench.frontier.clients import Answered
from lakehouse.engines import Engine
from lakehouse.epoch import Token
from olap.answer import difference
from olap.ask import answer_of
from olap.question import Question, find
from ridelake.errors import ProofFailed

if TYPE_CHECKING:
    import pyarrow as pa

OVER_COMPLETED_RIDES = ("average_price", "revenue_by_city_and_month", "fare_percentiles")
NAMES = (*OVER_COMPLETED_RIDES, "busiest_pickup_zones")

Answers = Mapping[str, "pa.Table"]


def answers_of(engine: Engine) -> "dict[str, pa.Table]":
    """Of all the questions, by name."""
    return {name: answer_of(engine, find(name)) for name in NAMES}


def compare(expected: Answers, found: Answers) -> None:
    """Raises ProofFailed unless all are equal."""
    for name in NAMES:
        _refuse_another(find(name), expected[name], found[name])


class Asking:
    """One client. `source` gives the engine to ask now, and the state that it answers from."""

    def __init__(
        self, source: Callable[[], tuple[Engine, Token | None]], expected: Answers, number: int
    ) -> None:
        self._source = source
        self._expected = expected
        self._seen: dict[str, pa.Table] = {}
        first = number % len(NAMES)  # not all the same at once
        self._questions = cycle([find(name) for name in (*NAMES[first:], *NAMES[:first])])

    def __call__(self) -> Answered:
        question = next(self._questions)
        began = monotonic()
        engine, token = self._source()
        answer = answer_of(engine, question)
        ended = monotonic()
        if question.name in OVER_COMPLETED_RIDES:
            self._check(question, answer)
        return Answered(began, ended, token)

    def _check(self, question: Question, answer: "pa.Table") -> None:
        """The first against the expected one, cell by cell; the others against the first, as bytes."""
        seen = self._seen.setdefault(question.name, answer)
        if seen is answer or not seen.equals(answer):
            _refuse_another(question, self._expected[question.name], answer)


def _refuse_another(question: Question, expected: "pa.Table", answer: "pa.Table") -> None:
    told = difference(expected, answer, ordered=question.ordered, names=("expected", "answered"))
    if told is not None:
        raise ProofFailed(f"✗ {question.name} was answered wrongly: {told}")
