"""The queries, in rotation, with a check of each answer during the bookings.

Clients cancel what they book, so completed rides do not change and queries over them have one correct answer.
Other queries are compared after the bookings (`setups`).
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
    """The answers to all questions, by name."""
    return {name: answer_of(engine, find(name)) for name in NAMES}


def compare(expected: Answers, found: Answers) -> None:
    """Raises ProofFailed if an answer differs."""
    for name in NAMES:
        _assert_equal(find(name), expected[name], found[name])


class Asking:
    """One client. `source` returns the current engine and the token of its state."""

    def __init__(
        self, source: Callable[[], tuple[Engine, Token | None]], expected: Answers, number: int
    ) -> None:
        self._source = source
        self._expected = expected
        self._seen: dict[str, pa.Table] = {}
        first = number % len(NAMES)  # clients start with different questions
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
        """Compare the first answer with the expected one, and later answers with the first."""
        seen = self._seen.setdefault(question.name, answer)
        if seen is answer or not seen.equals(answer):
            _assert_equal(question, self._expected[question.name], answer)


def _assert_equal(question: Question, expected: "pa.Table", answer: "pa.Table") -> None:
    found = difference(expected, answer, ordered=question.ordered, names=("expected", "answered"))
    if found is not None:
        raise ProofFailed(f"✗ wrong answer to {question.name}: {found}")
