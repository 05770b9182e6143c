"""The pace of a copy follows the probes of the server."""

from collections.abc import Sequence

import pytest

from lakehouse.source.copy.pace import FULL_SPEED, PAUSE_RATIO_MAX, PAUSE_RATIO_MIN, Pace, Probe, next_pace


def probes(delay_ms: float, transactions_each: int = 0, sessions: int = 0, count: int = 20) -> list[Probe]:
    return [Probe(0.025 * n, delay_ms, 1_000 + transactions_each * n, sessions) for n in range(count)]


ALONE = probes(0.1)


def paces(start: Pace, rounds: int, recent: Sequence[Probe]) -> list[Pace]:
    found = [start]
    for _ in range(rounds):
        found.append(next_pace(found[-1], recent, ALONE))
    return found


@pytest.mark.parametrize("delay_ms", [0.1, 50.0])
def test_a_server_without_other_sessions_is_copied_at_full_speed(delay_ms: float):
    """Even if the probes are slow: the copy itself uses the processors."""
    assert next_pace(FULL_SPEED, probes(delay_ms), ALONE) == FULL_SPEED
    assert next_pace(Pace(1, PAUSE_RATIO_MAX), probes(delay_ms), ALONE) == FULL_SPEED


def test_without_probes_there_is_no_load():
    assert next_pace(FULL_SPEED, [], []) == FULL_SPEED


def test_a_single_transaction_does_not_count_as_load():
    recent = probes(0.1)
    recent[10:] = [Probe(one.at_seconds, 0.1, one.transactions + 1, 0) for one in recent[10:]]
    assert next_pace(FULL_SPEED, recent, ALONE) == FULL_SPEED


@pytest.mark.parametrize("load", [{"transactions_each": 5}, {"sessions": 1}])
def test_with_other_sessions_one_worker_reads_and_pauses(load: dict[str, int]):
    pace = next_pace(FULL_SPEED, probes(0.1, **load), ALONE)
    assert pace.workers == 1
    assert pace.pause_ratio >= PAUSE_RATIO_MIN


def test_slow_probes_lengthen_the_pauses_up_to_a_limit():
    ratios = [pace.pause_ratio for pace in paces(FULL_SPEED, 20, probes(5.0, sessions=1))]
    assert ratios == sorted(ratios)
    assert ratios[1] > PAUSE_RATIO_MIN
    assert ratios[-1] == PAUSE_RATIO_MAX


def test_the_pauses_become_shorter_when_the_probes_do():
    ratios = [pace.pause_ratio for pace in paces(Pace(1, PAUSE_RATIO_MAX), 40, probes(0.1, sessions=1))]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == PAUSE_RATIO_MIN


def test_a_few_slow_probes_of_many_slow_the_copy_down():
    recent = probes(0.1, sessions=1)
    recent[3:7] = probes(20.0, sessions=1, count=4)
    assert next_pace(Pace(1, 4.0), recent, ALONE).pause_ratio > 4.0


def test_delays_are_compared_with_those_before_the_copy():
    """A server that was slow before the copy does not slow the copy down."""
    recent = probes(5.0, sessions=1)
    assert next_pace(Pace(1, 4.0), recent, probes(5.0, sessions=1)).pause_ratio < 4.0
