"""A figure: the result of one benchmark, as it is stored in the record and drawn in the report.

It contains the check of the answers, the samples of each variant, ratios with intervals, tables and charts,
and the verdict on a textbook claim if the benchmark tests one. A figure without a check is rejected.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from pytest_benchmark.fixture import BenchmarkFixture

from bench.statistics import InterleavedTimer, Ratio, Samples, ratio_of, rotated
from bench.textbook import ClaimId


@dataclass(frozen=True, slots=True)
class Scale:
    """`rides`: past rides in the store. `seconds`: the approximate length of a comparison, with `rounds_min`
    to `rounds_max` rounds. `level` orders the scales; a benchmark runs only at its own level and above."""

    name: str
    level: int
    rides: int
    seconds: float
    rounds_min: int
    rounds_max: int


QUICK = Scale("quick", 0, rides=20_000, seconds=0.3, rounds_min=5, rounds_max=30)
DEFAULT = Scale("default", 1, rides=200_000, seconds=2.0, rounds_min=9, rounds_max=60)
FULL = Scale("full", 2, rides=200_000, seconds=6.0, rounds_min=15, rounds_max=100)
SCALES = {scale.name: scale for scale in (QUICK, DEFAULT, FULL)}


T = TypeVar("T")

Verdict = Literal["holds", "holds in part", "does not hold", "too few rows"]
Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A textbook claim and the verdict on it. `bench.claims.headlines` makes the measured sentence."""

    number: int
    text: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Axis:
    title: str
    log: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Points in order. `low` and `high` are the interval of y, `colour` is a third value of each point,
    `text` is the label of each point."""

    name: str
    x: list[Cell]
    y: list[Cell]
    low: list[Cell] | None = None
    high: list[Cell] | None = None
    colour: list[Cell] | None = None
    text: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled position on the x axis, or a labelled point if `y` is given."""

    text: str
    x: float
    y: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as data. `colour` is the title of the third value."""

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
class VariantTimes:
    """The interleaved samples of several variants. `label` names the task."""

    samples: dict[str, Samples]
    label: str = ""

    def ratio(self, of: str, over: str) -> Ratio:
        return ratio_of(of, self.samples[of].seconds, over, self.samples[over].seconds, self.label)

    def median_seconds(self, name: str) -> float:
        return self.samples[name].median_seconds


@dataclass(slots=True)
class Figure:
    """Filled by a benchmark and stored by `bench.record`. `title` is the question that it answers."""

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
    ) -> VariantTimes:
        """Time the variants, interleaved, for about `seconds` and at least `rounds_min` rounds. `compare`
        gets the answers of the cold runs, and raises unless they are equal. `label` names the task, if a
        figure has several."""
        turns = InterleavedTimer(variants)
        compare(turns.cold())
        budget = self.scale.seconds if seconds is None else seconds
        least = self.scale.rounds_min if rounds_min is None else rounds_min
        rounds = int(min(self.scale.rounds_max, max(least, budget / turns.round_seconds)))
        if self.samples:  # pytest-benchmark's fixture can be used only once a test
            for _ in range(rounds):
                turns.round()
        else:
            self.benchmark.pedantic(turns.round, rounds=rounds, iterations=1)  # type: ignore[no-untyped-call]
        return self._add_samples(turns.samples, label)

    def self_timed(
        self, variants: Mapping[str, Callable[[], float]], rounds: int, *, label: str = ""
    ) -> VariantTimes:
        """Interleave variants that check their answers and measure their own seconds, such as other
        processes. The first round is cold."""
        seconds: dict[str, list[float]] = {name: [] for name in variants}

        def run() -> None:
            for number in range(1 + rounds):
                for name in rotated(list(variants), number):
                    seconds[name].append(variants[name]())

        if self.samples:
            run()
        else:
            self.once(run)
        return self._add_samples(
            {name: Samples(cold, tuple(warm), repeats=1) for name, (cold, *warm) in seconds.items()}, label
        )

    def _add_samples(self, samples: dict[str, Samples], label: str) -> VariantTimes:
        prefix = f"{label}: " if label else ""
        self.samples |= {prefix + name: one for name, one in samples.items()}
        return VariantTimes(samples, label)

    def once(self, work: Callable[[], T]) -> T:
        """Run work that measures its own times, because it uses several processes or kills a server."""
        result: T = self.benchmark.pedantic(work, rounds=1, iterations=1)  # type: ignore[no-untyped-call]
        return result

    def checked(self, sentence: str) -> None:
        """State what was compared. A benchmark without this call fails."""
        self.check = sentence

    def ratio(self, ratio: Ratio) -> Ratio:
        self.ratios.append(ratio)
        return ratio

    def table(self, title: str, rows: Sequence[Mapping[str, Cell]]) -> None:
        self.tables.append(Table(title, [dict(row) for row in rows]))

    def chart(self, chart: Chart) -> None:
        self.charts.append(chart)

    def set_verdict(self, claim: ClaimId, verdict: Verdict) -> None:
        """Set the verdict on a claim. Call it after the ratios are added, because they decide whether a short
        run has enough rows for a verdict."""
        if reason := too_few_rows(verdict, self.ratios, self.scale, claim.rides_min):
            verdict = "too few rows"
            self.warn(f"no verdict: {reason}; run without --quick")
        self.claim = Claim(int(claim), claim.text, verdict)

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def advise(self, sentence: str) -> None:
        """Add a result that the run prints last and the report shows first."""
        self.advice.append(sentence)

    def close(self) -> None:
        """Check that the figure is complete. Raises AssertionError if nothing was checked or timed."""
        assert self.check, "the benchmark did not state what it compared: call figure.checked"
        assert self.benchmark.stats, "the benchmark timed nothing: call figure.interleaved or figure.once"
        self.benchmark.group = self.benchmark.stats.group = self.title or self.benchmark.group
        self.benchmark.extra_info["figure"] = self.report()

    def report(self) -> dict[str, Any]:
        """The figure as it is stored in a record."""
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


def verdict_of(*parts: bool) -> Verdict:
    """The verdict on a claim with several parts."""
    return "holds" if all(parts) else "holds in part" if any(parts) else "does not hold"


def assert_equal(answers: Mapping[str, object]) -> None:
    """A `compare` for `Figure.interleaved`: all answers are equal, and not empty."""
    first, *others = answers.values()
    assert first, "no answer"
    assert all(other == first for other in others), answers


def too_few_rows(verdict: Verdict, ratios: Sequence[Ratio], scale: Scale, rides_min: int) -> str | None:
    """The reason why a run cannot give a verdict on a claim, or None.

    A claim whose effect grows with the rows needs `rides_min` rides. A short run may not reject any other
    claim because of a ratio whose interval contains 1."""
    if scale.rides < rides_min:
        return f"the claim is about {rides_min:,} rows or more, and this run has {scale.rides:,}"
    unclear = [ratio for ratio in ratios if not ratio.distinguishable]
    if scale.level < DEFAULT.level and verdict != "holds" and unclear:
        return f"{unclear[0].labelled_sentence()} in {scale.rounds_min} to {scale.rounds_max} rounds"
    return None
