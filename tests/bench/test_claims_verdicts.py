"""A verdict follows from what was measured, and what cannot be told apart proves nothing."""

import pytest

from bench.claims import bench_acid, bench_etl, bench_inserts
from bench.claims.bench_engines import judge_columns
from bench.claims.bench_graph import GRAPH, POSTGRES, judge_graph
from bench.claims.bench_models import both
from bench.claims.words import Saying
from bench.figure import Figure, too_few_rows
from bench.sampling import Ratio
from bench.scale import DEFAULT, QUICK
from oltp.acid.strategies import Anomaly

LONGER = Ratio("one", "other", 3.0, 2.5, 3.5)
SHORTER = Ratio("one", "other", 0.3, 0.25, 0.35)
ALIKE = Ratio("one", "other", 1.2, 0.9, 1.4)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((LONGER, LONGER), "holds"),
        ((LONGER, ALIKE), "holds in part"),
        ((SHORTER, LONGER), "holds in part"),
        ((ALIKE, SHORTER), "does not hold"),
    ],
)
def test_what_is_not_told_apart_counts_against_a_claim(ratios, verdict):
    assert bench_etl.judge(*ratios) == verdict
    assert bench_inserts.judge(ratios) == verdict
    assert both(ratios[0] is LONGER, ratios[1] is LONGER) == verdict


def test_columns_win_from_the_size_above_which_they_always_do():
    verdict, because = judge_columns({100: LONGER, 1_000: ALIKE, 10_000: LONGER, 100_000: LONGER}, LONGER)
    assert verdict == "holds"
    assert because.startswith("From 10,000 rows on")


def test_an_index_that_is_faster_than_columns_takes_a_part_of_the_claim():
    assert judge_columns({100: ALIKE, 1_000: LONGER}, SHORTER)[0] == "holds in part"
    assert judge_columns({100: LONGER, 1_000: ALIKE}, LONGER)[0] == "does not hold"


def test_a_graph_that_is_shorter_to_ask_and_no_faster_holds_in_part():
    lengths = [{GRAPH: 90, POSTGRES: 220}] * 2
    assert judge_graph([LONGER, LONGER], lengths)[0] == "holds"
    assert judge_graph([LONGER, ALIKE], lengths)[0] == "holds in part"
    assert judge_graph([SHORTER, ALIKE], [{GRAPH: 220, POSTGRES: 90}] * 2)[0] == "does not hold"


def test_a_driver_booked_twice_without_a_lost_payment_is_half_the_claim():
    nothing = dict.fromkeys(Anomaly, 0)
    assert bench_acid.verdict(nothing) == "does not hold"
    assert bench_acid.verdict(nothing | {Anomaly.TWICE: 1}) == "holds in part"
    assert bench_acid.verdict(nothing | {Anomaly.TWICE: 1, Anomaly.LOST: 1}) == "holds"


@pytest.mark.parametrize(
    ("verdict", "ratios", "scale", "rides_min", "words"),
    [
        ("holds", [LONGER], QUICK, 0, None),
        ("holds", [LONGER, ALIKE], QUICK, 0, None),  # what is not told apart did not decide it
        ("does not hold", [SHORTER], QUICK, 0, None),
        ("does not hold", [SHORTER, ALIKE], QUICK, 0, "one and other are not distinguishable"),
        ("holds in part", [LONGER, ALIKE], QUICK, 0, "in 5 to 30 rounds"),
        ("holds in part", [LONGER, ALIKE], DEFAULT, 0, None),
        ("holds", [LONGER], QUICK, 200_000, "about 200,000 rows or more, and this run has 20,000"),
        ("holds", [LONGER], DEFAULT, 200_000, None),
    ],
)
def test_few_rows_give_no_verdict(verdict, ratios, scale, rides_min, words):
    why = too_few_rows(verdict, ratios, scale, rides_min)
    assert why is None if words is None else words in why


@pytest.mark.parametrize("saying", [Saying.NORMALISED, Saying.OUTDATED_TERMS])
@pytest.mark.parametrize(("scale", "stated"), [(QUICK, "too few rows to tell"), (DEFAULT, "holds")])
def test_a_quick_run_states_no_verdict_on_what_only_many_rows_show(saying, scale, stated):
    figure = Figure(None, scale)
    figure.state(saying, "holds", "One is twice as fast.")
    assert figure.claim.verdict == stated
    assert figure.claim.because.endswith("One is twice as fast.")
    assert ("run without --quick" in figure.claim.because) == (scale is QUICK)
