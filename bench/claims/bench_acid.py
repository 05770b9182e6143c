"""The claim on transactions: counts the anomalies of bookings without them."""

from bench.env import BenchEnv
from bench.figure import QUICK, Axis, Chart, Figure, Series, Verdict, verdict_of
from bench.textbook import ClaimId
from oltp.acid.contrast import ContrastResult, run_strategies
from oltp.acid.strategies import STRATEGIES, Anomaly, ContentionRules
from oltp.scratch import open_scratch

ANOMALY_TEXTS = {
    Anomaly.TWICE: "drivers booked twice",
    Anomaly.CHARGED: "charges without a ride",
    Anomaly.FREE: "rides without a charge",
    Anomaly.LOST: "debits lost",
}
NAIVE = STRATEGIES[0].name
ROUNDS_QUICK, ROUNDS = 5, 25


def bench_without_acid(figure: Figure, env: BenchEnv) -> None:
    figure.title = "What breaks without atomicity and isolation?"
    rules = ContentionRules(rounds=ROUNDS_QUICK if figure.scale == QUICK else ROUNDS)
    with open_scratch(env.settings) as scratch:
        done = figure.once(lambda: run_strategies(scratch, rules))
    assert done.store_holds, "the store shows an anomaly"
    figure.checked(
        "anomalies and rides were counted by SQL over the tables; the audit of the store's rides, money and "
        "drivers passed"
    )
    figure.table(f"{rules.rivals} clients, {rules.drivers} drivers, {rules.rounds} rounds", _rows(done))
    bars = [
        Series(
            ANOMALY_TEXTS[one],
            [seen.strategy.name for seen in done.seen],
            [s.anomalies[one] for s in done.seen],
        )
        for one in Anomaly
    ]
    figure.chart(Chart("bars", "Anomalies of each strategy", Axis("strategy"), Axis("times"), bars))
    for seen in done.seen:
        if {one for one, times in seen.anomalies.items() if times} < seen.strategy.breaks:
            figure.warn(
                f"{seen.strategy.name} did not show all anomalies that it allows; more rounds are needed"
            )
    naive = next(seen for seen in done.seen if seen.strategy.name == NAIVE)
    figure.set_verdict(ClaimId.ATOMIC_ISOLATED, verdict(naive.anomalies))


def verdict(naive: dict[Anomaly, int]) -> Verdict:
    """The verdict on the anomalies without transactions. The store itself has passed its audit."""
    twice = naive[Anomaly.TWICE] > 0
    lost = naive[Anomaly.CHARGED] + naive[Anomaly.FREE] + naive[Anomaly.LOST] > 0
    return verdict_of(twice, lost)


def _rows(done: ContrastResult) -> list[dict[str, str | int | float | None]]:
    return [
        {
            "strategy": seen.strategy.name,
            **{ANOMALY_TEXTS[one]: seen.anomalies[one] for one in Anomaly},
            "rides": seen.rides,
            "aborts": seen.counts.aborts.total(),
            "retries": seen.counts.retries,
            "rides/s": round(seen.rides_per_second),
        }
        for seen in done.seen
    ]
