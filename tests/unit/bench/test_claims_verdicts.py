"""Verdicts follow from the measurements. A ratio whose interval contains 1 is inconclusive."""

from dataclasses import asdict

import pytest

from bench.claims import bench_acid, bench_etl, bench_inserts
from bench.claims.bench_engines import judge_columns
from bench.claims.bench_graph import GRAPH, POSTGRES, judge_graph
from bench.claims.headlines import SENTENCES, headline_of
from bench.figure import DEFAULT, QUICK, Figure, too_few_rows, verdict_of
from bench.readme import RECORD
from bench.record import read_record
from bench.statistics import Ratio
from bench.textbook import ClaimId
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
def test_no_measurable_difference_counts_against_a_claim(ratios, verdict):
    assert bench_etl.judge(*ratios) == verdict
    assert bench_inserts.judge(ratios) == verdict
    assert verdict_of(ratios[0] is LONGER, ratios[1] is LONGER) == verdict


def test_columns_must_be_faster_at_the_largest_size():
    assert judge_columns({100: LONGER, 1_000: ALIKE, 10_000: LONGER}, LONGER) == "holds"
    assert judge_columns({100: LONGER, 1_000: ALIKE}, LONGER) == "does not hold"


def test_with_an_index_faster_than_columns_the_claim_holds_in_part():
    assert judge_columns({100: ALIKE, 1_000: LONGER}, SHORTER) == "holds in part"


def test_shorter_graph_queries_that_are_not_faster_hold_in_part():
    lengths = [{GRAPH: 90, POSTGRES: 220}] * 2
    assert judge_graph([LONGER, LONGER], lengths) == "holds"
    assert judge_graph([LONGER, ALIKE], lengths) == "holds in part"
    assert judge_graph([SHORTER, ALIKE], [{GRAPH: 220, POSTGRES: 90}] * 2) == "does not hold"


def test_a_double_booking_without_a_lost_payment_holds_in_part():
    nothing = dict.fromkeys(Anomaly, 0)
    assert bench_acid.verdict(nothing) == "does not hold"
    assert bench_acid.verdict(nothing | {Anomaly.TWICE: 1}) == "holds in part"
    assert bench_acid.verdict(nothing | {Anomaly.TWICE: 1, Anomaly.LOST: 1}) == "holds"


@pytest.mark.parametrize(
    ("verdict", "ratios", "scale", "rides_min", "text"),
    [
        ("holds", [LONGER], QUICK, 0, None),
        ("holds", [LONGER, ALIKE], QUICK, 0, None),  # the second ratio is inconclusive
        ("does not hold", [SHORTER], QUICK, 0, None),
        (
            "does not hold",
            [SHORTER, ALIKE],
            QUICK,
            0,
            "no measurable difference between one and other (0.90–1.40×)",
        ),
        ("holds in part", [LONGER, ALIKE], QUICK, 0, "in 5 to 30 rounds"),
        ("holds in part", [LONGER, ALIKE], DEFAULT, 0, None),
        ("holds", [LONGER], QUICK, 200_000, "about 200,000 rows or more, and this run has 20,000"),
        ("holds", [LONGER], DEFAULT, 200_000, None),
    ],
)
def test_too_few_rows_give_no_verdict(verdict, ratios, scale, rides_min, text):
    why = too_few_rows(verdict, ratios, scale, rides_min)
    assert why is None if text is None else text in why


@pytest.mark.parametrize("claim", [ClaimId.NORMALISED, ClaimId.OUTDATED_TERMS])
@pytest.mark.parametrize(("scale", "stated"), [(QUICK, "too few rows"), (DEFAULT, "holds")])
def test_a_quick_run_has_no_verdict_on_claims_that_need_many_rows(claim, scale, stated):
    figure = Figure(None, scale)
    figure.set_verdict(claim, "holds")
    assert figure.claim.verdict == stated
    assert any("run without --quick" in warning for warning in figure.warnings) == (scale is QUICK)


def test_the_sentence_of_each_claim_is_made_from_the_record_and_names_the_winner():
    record = read_record(RECORD)
    assert [entry.claim["number"] for entry in record.claims] == [*SENTENCES]
    for entry in record.claims:
        headline = headline_of(entry.figure)
        assert headline.sentence == SENTENCES[entry.claim["number"]](entry.figure).sentence
        if headline.ratio and headline.ratio.distinguishable:
            assert " faster than " in headline.sentence or "%" in headline.sentence


def test_a_figure_without_the_tables_of_its_claim_has_the_sentence_of_its_first_ratio():
    ratios = [asdict(LONGER)]
    figure = {"claim": {"number": 14}, "ratios": ratios, "tables": [], "rows": None}
    assert headline_of(figure).sentence == "Other is 3.0× faster than one (2.5–3.5×)"
    assert headline_of(figure | {"ratios": []}).sentence == ""
