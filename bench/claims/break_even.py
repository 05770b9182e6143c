"""Work done once when data is stored, or again at each query: from how many queries on is the first
cheaper?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.figure import Axis, Chart, Mark, Series

Answer = list[tuple[object, ...]]

QUESTIONS_MAX = 1_000  # more queries per load are not considered


@dataclass(frozen=True, slots=True)
class StoreAndQuery:
    """Stores data and answers queries. A repeated `store` replaces the stored data."""

    store: Callable[[], None]
    ask: Callable[[], Answer]

    def first(self) -> Answer:
        self.store()
        return self.ask()


@dataclass(frozen=True, slots=True)
class DeferralCosts:
    """`first_seconds`: from the arrival of the data to the first answer. `further_seconds`: each further
    answer."""

    first_seconds: float
    further_seconds: float

    def sum_seconds(self, questions: int) -> float:
        return self.first_seconds + (questions - 1) * self.further_seconds


def crossover(early: DeferralCosts, late: DeferralCosts) -> int | None:
    """The number of queries from which on the early work is cheaper; None if it never is."""
    paid = (n for n in range(1, QUESTIONS_MAX + 1) if early.sum_seconds(n) <= late.sum_seconds(n))
    first = next(paid, None)
    lasting = first is not None and early.sum_seconds(QUESTIONS_MAX) <= late.sum_seconds(QUESTIONS_MAX)
    return first if lasting else None


def sums_chart(title: str, costs: dict[str, DeferralCosts], met: int | None) -> Chart:
    """The total seconds after each number of queries."""
    numbers: Sequence[int] = range(1, 2 * (met or 5) + 1)
    lines = [
        Series(name, [*numbers], [cost.sum_seconds(number) for number in numbers])
        for name, cost in costs.items()
    ]
    marks = [Mark(f"from {met} queries on", met)] if met else []
    return Chart("lines", title, Axis("queries"), Axis("total seconds"), lines, marks)
