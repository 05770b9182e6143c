"""The difference of snapshots loses no row, and other polling rules lose rows on the same table at the same
time."""

import pytest

from bench.bench_loss import LossConfig, LossTable, compare, lag_ms, measure_loss
from bench.polling import Copy, Delta
from oltp.cluster.server import Cluster

EFFORT = LossConfig(seconds=3.0, seconds_max=11.0, poll_seconds=0.02)


def assert_only_the_snapshot_difference_loses_nothing(table: LossTable):
    if table.inconclusive_reason is not None:
        pytest.fail(f"inconclusive: {table.inconclusive_reason}")
    assert table.long_transactions > 0
    assert table.snapshot_difference.equal, table.snapshot_difference
    for rule in ("id", "updated_now", "updated_clock", "xmin"):
        assert table[rule].lost > 0
    assert table["watermark"].lost == 0  # it is only late
    assert table["watermark"].undeleted > 0  # it does not find deletes


def test_the_snapshot_difference_loses_nothing_where_other_rules_do(cluster: Cluster):
    assert_only_the_snapshot_difference_loses_nothing(measure_loss(cluster.conninfo("postgres"), EFFORT))


@pytest.mark.slow
def test_the_snapshot_difference_loses_nothing_on_postgres_15(postgres_15: str):
    table = measure_loss(postgres_15, EFFORT)
    assert table.server_version // 10_000 == 15
    assert_only_the_snapshot_difference_loses_nothing(table)


def test_differences_of_a_copy_are_counted():
    truth = {1: "a", 2: "b", 3: "c"}
    found = compare({2: "b", 3: "older", 4: "deleted"}, truth)
    assert (found.missing, found.outdated, found.undeleted, found.lost) == (1, 1, 1, 2)


def test_a_repeated_version_is_counted_and_keeps_its_first_time():
    copy = Copy()
    copy.take(Delta([(1, "a"), (2, "b")], [], None), now=1.0)
    copy.take(Delta([(1, "a"), (2, "c")], [2], None), now=3.0)
    assert copy.rows == {1: "a", 2: "c"}
    assert copy.duplicates == 1
    assert copy.arrived == {"a": 1.0, "b": 1.0, "c": 3.0}
    assert lag_ms(copy, {"a": 0.5, "b": 0.5, "c": 2.5})[0] == 500


def test_an_uncommitted_version_is_an_error():
    copy = Copy(arrived={"dirty": 1.0})
    with pytest.raises(KeyError):
        lag_ms(copy, {})
