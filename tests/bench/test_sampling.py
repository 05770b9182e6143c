"""A ratio's interval says where another run is to be expected, and variants are timed in turns."""

import numpy as np

from bench.sampling import Ratio, Turns, ratio_of

ROUNDS = 15
SAMPLE, BETWEEN_RUNS = 0.05, 0.05  # noise of logarithms: of a sample, of a run


def a_run(seed: int, ratio: float = 1.3) -> Ratio:
    """Of two variants, one of which takes `ratio` times as long, on a machine in some mood."""
    random = np.random.default_rng(seed)
    mood = np.exp(random.normal(0, BETWEEN_RUNS))
    ours, others = np.exp(random.normal(0, SAMPLE, (2, ROUNDS)))
    return ratio_of("a", list(ours * ratio * mood), "b", list(others))


def test_the_intervals_of_two_runs_overlap():
    pairs = [(a_run(seed), a_run(seed + 1_000)) for seed in range(200)]
    overlapping = [one.low <= other.high and other.low <= one.high for one, other in pairs]
    assert np.mean(overlapping) > 0.95


def test_the_truth_lies_in_nineteen_of_twenty_intervals():
    found = [a_run(seed) for seed in range(400)]
    assert np.mean([one.low <= 1.3 <= one.high for one in found]) > 0.92
    assert np.mean([one.high / one.low for one in found]) < 1.4  # and not because they are wide


def test_equal_ways_are_told_apart_in_one_of_twenty_runs_at_most():
    found = [a_run(seed, ratio=1.0) for seed in range(400)]
    assert np.mean([one.distinguishable for one in found]) < 0.08


def test_without_any_noise_of_its_own_a_ratio_still_has_an_interval():
    found = ratio_of("a", [2.0] * 9, "b", [1.0] * 9)
    assert found.median == 2.0
    assert 1.7 < found.low < 1.9
    assert 2.1 < found.high < 2.3


def test_every_way_is_first_and_last_in_its_turn():
    begun: list[str] = []
    turns = Turns({name: lambda name=name: begun.append(name) for name in "abc"})
    turns.cold()
    begun.clear()
    for _ in range(3):
        turns.round()
    in_order = [name for number, name in enumerate(begun) if number == 0 or begun[number - 1] != name]
    assert "".join(in_order).startswith("abcbca")
    assert {name: len(samples.seconds) for name, samples in turns.samples.items()} == dict.fromkeys("abc", 3)
