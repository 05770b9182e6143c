"""A figure: what one benchmark has found, in the form in which it is kept and drawn.

It holds what was checked (a figure without a check is refused), the samples of each variant, the ratios with
their intervals, tables, charts, and, where a claim of a textbook is at stake, the verdict on it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from pytest_benchmark.fixture import BenchmarkFixture

from bench.claims.words import Saying
from bench.sampling import Ratio, Samples, Turns, ratio_of
from bench.scale import DEFAULT, Scale

T = TypeVar("T")

Verdict = Literal["holds", "holds in part", "does not hold", "too few rows to tell"]
Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of data systems, and what was found: the verdict, and one sentence with its figure."""

    number: int
    says: str
    verdict: Verdict
    because: str


@dataclass(frozen=True, slots=True)
class Axis:
    title: str
    log: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Points in order; `low` and `high` are intervals of y, `colour` a third value of each point, `text` what
    a point is called."""

    name: str
    x: list[Cell]
    y: list[Cell]
    low: list[Cell] | None = None
    high: list[Cell] | None = None
    colour: list[Cell] | None = None
    text: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the x axis (or, with `y`, in the plane) that has a name."""

    text: str
    x: float
    y: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, as data: `kind` says how it is drawn. `colour` is the title of the third value."""

    kind: Literal["bars", "lines", "points"]
    title: str
    x: Axis
    y: Axis
    series: list[Series]
    marks: list[Mark] = field(default_factory=list)
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    rows: list[dict[str, Cell]]


@dataclass(slots=True)
class Contest:
    """The samples of several variants, taken in turns, at what `label` says."""

    samples: dict[str, Samples]
    label: str = ""

    def ratio(self, of: str, over: str) -> Ratio:
        return ratio_of(of, self.samples[of].seconds, over, self.samples[over].seconds, self.label)

    def median_seconds(self, name: str) -> float:
        return self.samples[name].median_seconds


@dataclass(slots=True)
class Figure:
    """Filled by a benchmark, kept by `bench.recorder`. `title` is the question that it answers."""

    benchmark: BenchmarkFixture
    scale: Scale
    title: str = ""
    check: str = ""
    rows: int | None = None
    claim: Claim | None = None
    samples: dict[str, Samples] = field(default_factory=dict)
    ratios: list[Ratio] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    facts: dict[str, Cell] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def interleaved(
        self,
        variants: Mapping[str, Callable[[], T]],
        compare: Callable[[dict[str, T]], None],
        *,
        label: str = "",
        seconds: float | None = None,
        rounds_min: int | None = None,
    ) -> Contest:
        """Time the variants in turns for about that long, in at least so many rounds. `compare` raises unless
        their answers are equal; it is called before any of them is timed warm. `label` tells several contests
        of one figure apart."""
        turns = Turns(variants)
        compare(turns.cold())
        budget = self.scale.seconds if seconds is None else seconds
        least = self.scale.rounds_min if rounds_min is None else rounds_min
        rounds = int(min(self.scale.rounds_max, max(least, budget / turns.round_seconds)))
        if self.samples:  # the fixture of pytest-benchmark times one thing a test
            for _ in range(rounds):
                turns.round()
        else:
            self.benchmark.pedantic(turns.round, rounds=rounds, iterations=1)  # type: ignore[no-untyped-call]
        prefix = f"{label}: " if label else ""
        self.samples |= {prefix + name: samples for name, samples in turns.samples.items()}
        return Contest(turns.samples, label)

    def once(self, work: Callable[[], T]) -> T:
        """Let the fixture time work that measures itself (several processes, a server that is killed)."""
        result: T = self.benchmark.pedantic(work, rounds=1, iterations=1)  # type: ignore[no-untyped-call]
        return result

    def checked(self, words: str) -> None:
        """What was compared before the times were believed, in words. Without it there is no figure."""
        self.check = words

    def ratio(self, ratio: Ratio) -> Ratio:
        self.ratios.append(ratio)
        return ratio

    def table(self, title: str, rows: Sequence[Mapping[str, Cell]]) -> None:
        self.tables.append(Table(title, [dict(row) for row in rows]))

    def chart(self, chart: Chart) -> None:
        self.charts.append(chart)

    def state(self, saying: Saying, verdict: Verdict, because: str) -> None:
        """The verdict on a claim; `because` is a sentence with the figure that it rests on."""
        if why := too_few_rows(verdict, self.ratios, self.scale, saying.rides_min):
            verdict = "too few rows to tell"
            because = f"Too few rows to tell: {why}; run without --quick. {because}"
        self.claim = Claim(int(saying), saying.words, verdict, because)

    def warn(self, words: str) -> None:
        self.warnings.append(words)

    def advise(self, sentence: str) -> None:
        """What the figure means for who has to decide: told at the end of a run, and first on the page."""
        self.advice.append(sentence)

    def close(self) -> None:
        """Raises AssertionError if nothing was checked."""
        assert self.check, "no figure without a check of what was timed: call figure.checked"
        self.benchmark.group = self.title or self.benchmark.group
        self.benchmark.extra_info["figure"] = self.report()

    def report(self) -> dict[str, Any]:
        """As it is kept in a record; seconds, bytes and rows as their names say."""
        return {
            "title": self.title,
            "checked": self.check,
            "rows": self.rows,
            "claim": asdict(self.claim) if self.claim else None,
            "samples": {name: asdict(samples) for name, samples in self.samples.items()},
            "ratios": [asdict(ratio) | {"distinguishable": ratio.distinguishable} for ratio in self.ratios],
            "tables": [asdict(table) for table in self.tables],
            "charts": [asdict(chart) for chart in self.charts],
            "facts": self.facts,
            "warnings": self.warnings,
            "advice": self.advice,
        }


def too_few_rows(verdict: Verdict, ratios: Sequence[Ratio], scale: Scale, rides_min: int) -> str | None:
    """Why a run has no verdict on a claim, or None if it has one.

    A claim whose effect grows with the rows needs `rides_min` of them. Any other needs ratios whose intervals
    leave out 1 before a short run may hold against it that two variants are equal."""
    if scale.rides < rides_min:
        return f"the claim is about {rides_min:,} rows or more, and this run has {scale.rides:,}"
    unclear = [ratio for ratio in ratios if not ratio.distinguishable]
    if scale.level < DEFAULT.level and verdict != "holds" and unclear:
        ratio = f"{unclear[0].label}: {unclear[0].words()}" if unclear[0].label else unclear[0].words()
        return f"{ratio} in {scale.rounds_min} to {scale.rounds_max} rounds"
    return None


def empty_report() -> dict[str, Any]:
    """The same of a benchmark that tells no more than single facts."""
    lists = ("ratios", "tables", "charts", "warnings", "advice")
    nothing: dict[str, Any] = {
        "title": "",
        "checked": "",
        "rows": None,
        "claim": None,
        "samples": {},
        "facts": {},
    }
    return nothing | {name: [] for name in lists}
