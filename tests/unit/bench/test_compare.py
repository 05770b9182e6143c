"""A comparison of two runs finds exactly the variants that have become slower."""

import json
from dataclasses import replace
from pathlib import Path

import made_up_records
import numpy as np
import pytest
from click.testing import CliRunner

from bench.commands.report import compare, percent
from bench.compare import RecordComparison, compare_records, markdown, remarks, summary
from bench.record import Record
from ridelake.errors import BadInput, ProofFailed, UsageError

BENCHMARKS, VARIANTS, SAMPLES = 8, 2, 15
NOISE, BETWEEN_RUNS, DRIFT = 0.05, 0.01, 0.10  # noise of log(seconds) per sample, variant and run
SLOWED = "f3: w1"


def a_run(
    random: np.random.Generator,
    usual: np.ndarray,
    *,
    slower: float = 1.0,
    between_runs: float = BETWEEN_RUNS,
) -> Record:
    """A simulated run of variants that take `usual` seconds. One sample in thirty is an outlier."""
    drift = random.uniform(-DRIFT, DRIFT) / 2
    entries = []
    for benchmark in range(BENCHMARKS):
        samples = {}
        for variant in range(VARIANTS):
            seconds = usual[benchmark, variant] * np.exp(drift + random.normal(0, between_runs))
            seconds *= slower if f"f{benchmark}: w{variant}" == SLOWED else 1
            noise = np.exp(random.normal(0, NOISE, SAMPLES)) * np.where(
                random.random(SAMPLES) < 1 / 30, 1.5, 1
            )
            samples[f"w{variant}"] = {
                "cold_seconds": 1.0,
                "seconds": (seconds * noise).tolist(),
                "repeats": 1,
            }
        entries.append(made_up_records.entry(f"f{benchmark}", "a group", samples=samples))
    return made_up_records.record(*entries)


def two_runs(seed: int, slower: float = 1.0, between_runs: float = BETWEEN_RUNS) -> tuple[Record, Record]:
    random = np.random.default_rng(seed)
    usual = np.exp(random.normal(-4, 2, (BENCHMARKS, VARIANTS)))
    first = a_run(random, usual, between_runs=between_runs)
    return first, a_run(random, usual, slower=slower, between_runs=between_runs)


def regressions(seeds: int, slower: float) -> list[list[str]]:
    """The regressions of each pair of runs."""
    pairs = (two_runs(seed, slower) for seed in range(seeds))
    return [
        [change.path.name for change in compare_records(before, after, 0.05, {}).of("regression")]
        for before, after in pairs
    ]


def test_two_runs_of_the_same_code_show_no_regression():
    assert sum(map(bool, regressions(8, 1.0))) <= 1


def test_a_variant_that_is_20_percent_slower_is_found_and_no_other():
    found = regressions(8, 1.2)
    assert sum(SLOWED in names for names in found) >= 7
    assert sum(len(set(names) - {SLOWED}) for names in found) <= 1


@pytest.mark.slow
def test_two_hundred_pairs_of_runs_show_at_most_two_false_regressions():
    assert sum(map(bool, regressions(200, 1.0))) <= 2
    assert sum(SLOWED in names for names in regressions(200, 1.2)) >= 190


def test_a_variant_that_is_faster_is_an_improvement():
    before, after = two_runs(1, slower=1.3)
    assert [change.path.name for change in compare_records(after, before, 0.05, {}).of("improvement")] == [
        SLOWED
    ]


def exact(*seconds: float) -> Record:
    """A run without noise, with a benchmark for each time."""
    samples = [{"a": {"cold_seconds": 1.0, "seconds": [one] * 9, "repeats": 1}} for one in seconds]
    return made_up_records.record(
        *(made_up_records.entry(f"f{index}", samples=one) for index, one in enumerate(samples))
    )


def test_a_slowdown_of_all_variants_is_drift():
    found = compare_records(exact(1, 2, 3, 4, 5, 6), exact(1.3, 2.6, 3.9, 5.2, 6.5, 7.8), 0.05, {})
    assert not found.of("regression")
    assert found.drift is not None
    assert found.drift.ratio == pytest.approx(1.3)
    assert "B is 1.30× slower" in next(remarks(found))


def test_the_least_detectable_slowdown_grows_with_the_noise():
    quiet, noisy = (
        compare_records(*two_runs(5, between_runs=noise), 0.05, {}).drift for noise in (0.01, 0.2)
    )
    assert quiet is not None
    assert noisy is not None
    assert 1 < quiet.least_detectable < 1.2
    assert noisy.least_detectable > 1.5


def test_the_drift_of_too_few_variants_is_unknown():
    found = compare_records(exact(1, 2), exact(1.3, 2), 0.05, {})
    assert [change.path.name for change in found.of("regression")] == ["f0: a"]
    assert "unknown" in next(remarks(found))


def test_a_group_can_have_its_own_threshold():
    before, after = exact(1, 2, 3, 4, 5, 6), exact(1.3, 2, 3, 4, 5, 6)
    assert compare_records(before, after, 0.05, {}).of("regression")
    assert not compare_records(before, after, 0.05, {"f0": 0.5}).of("regression")
    with pytest.raises(UsageError, match="no benchmark matches --group nothing"):
        compare_records(before, after, 0.05, {"nothing": 0.5})


def test_missing_and_failed_benchmarks_are_named():
    samples = made_up_records.samples(a=1.0, b=2.0)
    before = made_up_records.record(
        made_up_records.entry("both", samples=samples),
        made_up_records.entry("removed", samples=samples),
        made_up_records.entry("breaks", samples=samples),
    )
    less = made_up_records.entry("both", samples=made_up_records.samples(a=1.0))
    after = made_up_records.record(
        less, made_up_records.failed("breaks", "answers differ"), made_up_records.skipped("new")
    )
    found = compare_records(before, after, 0.05, {})
    assert found.failed == ["bench/bench_x.py::bench_breaks: failed in B (answers differ)"]
    assert found.missing == [
        "bench/bench_x.py::bench_removed: not in B",
        "bench/bench_x.py::bench_new: not in A",
        "bench/bench_x.py::bench_both: b is in one record only",
    ]
    assert [change.path.variant for change in found.changes] == ["a"]


def test_another_machine_version_and_seed_are_warnings():
    versions = {"python": "3.13.1", "duckdb": "2.1.0"}
    other = replace(made_up_records.MACHINE, cores=8, versions=versions)
    after = made_up_records.record(machine=other, seed=2, finished_at=None, warnings=["busy"])
    warnings = compare_records(made_up_records.record(), after, 0.05, {}).warnings
    assert warnings == [
        "cores: 2 in A, 8 in B",
        "seed: 1 in A, 2 in B",
        "version of duckdb: 2.0.0 in A, 2.1.0 in B",
        "B is incomplete: its run was interrupted or is in progress",
        "B: busy",
    ]


def test_runs_of_different_scales_are_not_compared():
    with pytest.raises(UsageError, match="different work"):
        compare_records(made_up_records.record(), made_up_records.record(scale="full"), 0.05, {})


def test_empty_records_have_nothing_to_compare():
    found = compare_records(made_up_records.record(), made_up_records.record(), 0.05, {})
    assert found == RecordComparison([], None, [], [], [])
    assert summary(found) == "nothing to compare."
    assert "All 0" in markdown(found)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("0", 0.0), ("12.5%", 0.125)])
def test_a_threshold_is_written_as_a_percentage_or_a_share(text: str, share: float):
    assert percent(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "five", "-1%", "nan", "inf"])
def test_an_invalid_threshold_is_refused(text: str):
    with pytest.raises(UsageError, match="is not a threshold"):
        percent(text)


@pytest.fixture
def slowed(tmp_path: Path) -> list[str]:
    for name, record in zip("AB", two_runs(1, slower=1.3), strict=True):
        made_up_records.write(record, tmp_path / f"{name}.json")
    return [str(tmp_path / "A.json"), str(tmp_path / "B.json")]


def test_the_command_fails_on_a_regression_and_names_it(slowed: list[str]):
    done = CliRunner().invoke(compare, slowed)
    assert isinstance(done.exception, ProofFailed)
    assert SLOWED in str(done.exception)
    assert "1 regression" in done.stdout
    assert CliRunner().invoke(compare, [slowed[0], slowed[0]]).exit_code == 0
    assert CliRunner().invoke(compare, [*slowed, "--group", "f3=50%"]).exit_code == 0


def test_json_and_markdown_report_the_same_changes(slowed: list[str]):
    document = json.loads(CliRunner().invoke(compare, [*slowed, "--json"]).stdout)
    slower = [change for change in document["changes"] if change["verdict"] == "regression"]
    assert [(change["benchmark"], change["variant"]) for change in slower] == [
        ("bench/bench_x.py::bench_f3", "w1")
    ]
    assert slower[0]["low"] > 1.05
    assert set(slower[0]["measured"]) == {"p50", "p90", "p99"}
    markdown = CliRunner().invoke(compare, [*slowed, "--markdown"]).stdout
    assert markdown.startswith("**1 regression")
    assert f"| {SLOWED} |" in markdown
    assert "All 16" in markdown


def test_a_damaged_record_is_bad_input():
    broken = exact(1, 2)
    broken.figures[0].figure["samples"] = {"variant": {"rounds": 3}}
    with pytest.raises(BadInput, match="damaged"):
        compare_records(broken, exact(1, 2), 0.05, {})
