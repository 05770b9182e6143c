"""Rows that polling loses, by six rules on the same writers (`bench/loss`).

The benchmark fails if our copy differs from the table, or if a rule that can lose rows lost none.
"""

from dataclasses import asdict

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.env import SEED, BenchEnv
from bench.loss import LossEffort, LossTable, RuleLoss, measure_loss

pytestmark = pytest.mark.scale("full")

EFFORT = LossEffort(seconds=30.0, seconds_max=120.0, seed=SEED)


def bench_what_polling_loses(benchmark: BenchmarkFixture, env: BenchEnv) -> None:
    benchmark.group = "six polling rules on one table with the same writers"
    table: LossTable = benchmark.pedantic(lambda: measure_loss(env.store.conninfo, EFFORT), rounds=1)
    assert table.ours.equal, table.ours
    assert table.void is None, table.void
    benchmark.extra_info |= {
        "writers": table.writers,
        "transactions_per_second": table.transactions / table.seconds,
        "long_transactions": table.long_transactions,
        "versions": table.versions,
        "rows": table.rows,
        "poll_ms": table.poll_seconds * 1000,
        "rules": [_shown(line) for line in table.rules],
        "ours": "equal to the table",
    }


def _shown(line: RuleLoss) -> dict[str, object]:
    shown = asdict(line)
    shown["lost_percent"] = 100 * shown.pop("lost_share")
    columns = (
        "rule",
        "lost",
        "lost_percent",
        "missing",
        "outdated",
        "kept",
        "doubled",
        "lag_ms_p50",
        "lag_ms_p99",
    )
    return {name: shown[name] for name in columns}
