"""The interval of a ratio contains the ratio of another run, and variants are interleaved."""

import numpy as np

from bench.statistics import InterleavedTimer, Ratio, interval, percentile, ratio_of

ROUNDS = 15
SAMPLE, BETWEEN_RUNS = 0.05, 0.05  # noise of log(seconds) per sample and run


def a_run(seed: int, ratio: float = 1.3) -> Ratio:
    """A simulated run of two variants, one of which takes `ratio` times as long as the other."""
    random = np.random.default_rng(seed)
    run_effect = np.exp(random.normal(0, BETWEEN_RUNS))
    ours, others = np.exp(random.normal(0, SAMPLE, (2, ROUNDS)))
    return ratio_of("a", list(ours * ratio * run_effect), "b", list(others))


def test_the_intervals_of_two_runs_overlap():
    pairs = [(a_run(seed), a_run(seed + 1_000)) for seed in range(200)]
    overlapping = [one.low <= other.high and other.low <= one.high for one, other in pairs]
    assert np.mean(overlapping) > 0.95


def test_nineteen_of_twenty_intervals_contain_the_true_ratio():
    found = [a_run(seed) for seed in range(400)]
    assert np.mean([one.low <= 1.3 <= one.high for one in found]) > 0.92
    assert np.mean([one.high / one.low for one in found]) < 1.4  # the intervals are narrow


def test_equal_variants_differ_in_at_most_one_of_twenty_runs():
    found = [a_run(seed, ratio=1.0) for seed in range(400)]
    assert np.mean([one.distinguishable for one in found]) < 0.08


def test_a_ratio_without_noise_has_an_interval():
    found = ratio_of("a", [2.0] * 9, "b", [1.0] * 9)
    assert found.median == 2.0
    assert 1.7 < found.low < 1.9
    assert 2.1 < found.high < 2.3


def test_each_variant_is_first_once_in_three_rounds():
    begun: list[str] = []
    turns = InterleavedTimer({name: lambda name=name: begun.append(name) for name in "abc"})
    turns.cold()
    begun.clear()
    for _ in range(3):
        turns.round()
    in_order = [name for number, name in enumerate(begun) if number == 0 or begun[number - 1] != name]
    assert "".join(in_order).startswith("abcbca")
    assert {name: len(samples.seconds) for name, samples in turns.samples.items()} == dict.fromkeys("abc", 3)


def test_a_sentence_names_the_faster_variant():
    assert Ratio("CSV", "Parquet", 3.14, 2.9, 3.3).sentence() == "Parquet is 3.1× faster than CSV (2.9–3.3×)"
    assert Ratio("CSV", "Parquet", 0.5, 0.4, 0.8).sentence() == "CSV is 2.0× faster than Parquet (1.25–2.5×)"
    tie = Ratio("CSV", "Parquet", 1.01, 0.97, 1.04).sentence()
    assert tie == "no measurable difference between CSV and Parquet (0.97–1.04×)"
    assert (
        Ratio("a", "b", 2, 1.5, 3, "sums").labelled_sentence() == "sums: b is 2.0× faster than a (1.50–3.0×)"
    )


def test_an_interval_is_widened_by_the_differences_between_runs():
    low, high = interval([1.0] * 9)
    assert 0.85 < low < 0.95
    assert 1.05 < high < 1.15


def test_a_percentile_is_interpolated():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([1.0, 2.0], 100) == 2.0
