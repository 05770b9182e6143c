"""Where the columns overtake the rows is told as it was measured, and no further."""

from dataclasses import replace
from math import inf

import pyarrow as pa
import pytest
import records

from bench.figure import Figure
from bench.leaving.advice import TITLE, advising, by_freshness, by_range, by_size
from bench.leaving.contests import Effort, _contest
from bench.leaving.crossing import Crossing, crossing_of, words
from bench.report.page import page_of
from bench.report.terminal import told as told_in_lines
from bench.sampling import Ratio
from bench.scale import QUICK

PLACES = (1_000, 10_000, 100_000)


def test_a_crossing_lies_on_the_line_of_logarithms():
    found = crossing_of(PLACES, [[0.1] * 9, [10.0] * 9, [100.0] * 9])
    assert found.at == pytest.approx(1_000 * 10**0.5)
    assert 2_500 < found.low < found.at < found.high < 4_000


def test_ahead_at_the_smallest_is_told_as_no_more_than_that():
    found = crossing_of(PLACES, [[3.0] * 9] * 3)
    assert words(found, "rides") == "already at 1,000 rides"


def test_never_ahead_is_told_up_to_the_largest():
    found = crossing_of(PLACES, [[0.3] * 9] * 3)
    assert words(found, "rides") == "never up to 100,000 rides"


def test_who_falls_behind_again_has_not_overtaken_for_good():
    assert crossing_of(PLACES, [[0.1] * 9, [10.0] * 9, [0.1] * 9]).never
    again = crossing_of((*PLACES, 1_000_000), [[3.0] * 9, [0.1] * 9, [0.1] * 9, [10.0] * 9])
    assert again.at == pytest.approx(100_000 * 10**0.5)


def test_noise_over_one_leaves_both_ends_open():
    found = crossing_of(PLACES, [[0.5, 2.0] * 5, [0.5, 2.0] * 5, [0.5, 2.0] * 5])
    assert (found.low, found.high) == (0, inf)
    assert "less than 1,000" in words(found, "rides")
    assert "more than 100,000" in words(found, "rides")


ALWAYS, NEVER = Crossing(0, 0, 0, 1, 9), Crossing(inf, inf, inf, 1, 9)


def rows_over_columns(median: float) -> Ratio:
    return Ratio("postgres", "duckdb", median, median * 0.9, median * 1.1)


def test_questions_are_counted_by_who_answers_them_faster():
    ratios = {"sums": 12.0, "averages": 2.0, "look-up": 0.05, "tie": 1.01}
    crossings = {name: Crossing(400, 300, 500, 100, 1_000) for name in ratios}
    told = by_size(1_000, {name: rows_over_columns(one) for name, one in ratios.items()}, crossings)
    assert told == (
        "At 1,000 rides 2 of 4 questions are faster over columns, most of all sums (12 ×), half of them from "
        "400 on; 1 of 4 questions is faster over rows, most of all look-up (20 ×); 1 is not distinguishable."
    )


def test_where_only_one_side_wins_nothing_is_said_of_the_other():
    ours = {"sums": rows_over_columns(3.0)}
    assert by_size(9, ours, {"sums": ALWAYS}) == (
        "At 9 rides 1 of 1 questions is faster over columns, most of all sums (3.0 ×), already at 1."
    )
    theirs = {"look-up": rows_over_columns(0.5)}
    assert "columns" not in by_size(9, theirs, {"look-up": NEVER})
    ties = {"tie": rows_over_columns(1.0)}
    assert by_size(9, ties, {"tie": NEVER}) == "At 9 rides 1 is not distinguishable."


def test_a_range_that_is_never_crossed_is_told_up_to_what_was_tried():
    some = Crossing(2, 1, inf, 1, 9)
    told = by_range(100, NEVER, some, ALWAYS)
    assert "index for all that were tried, up to 9 (9.0%)" in told
    assert "whole rows up to 2 of them (2.0%; 1 to over 9)" in told
    assert told.endswith("without an index, Postgres is sooner for none.")


def test_a_range_is_told_no_further_than_its_interval():
    tie, few, many = Crossing(0, 0, inf, 1, 9), Crossing(0, 0, 4, 1, 9), Crossing(inf, 5, inf, 1, 9)
    told = by_range(100, tie, few, many)
    assert "index up to a range that could not be told, and whole rows for none, or up to 4 of them" in told
    assert told.endswith("without an index, Postgres is sooner up to 5 of them at least (5.0%).")
    tiny = Crossing(300, 200, 400, 1, 50_000)
    assert "300 of them (0.03%; 200 to 400)" in by_range(1_000_000, tiny, tiny, tiny)


def test_half_of_an_even_number_is_a_place_where_one_of_them_overtook():
    ratios = {name: rows_over_columns(2.0) for name in "abcd"}
    places = dict(zip("abcd", (0, 0, 2_100, 19_000), strict=True))
    crossings = {name: Crossing(at, at, at, 5_000, 20_000) for name, at in places.items()}
    assert "half of them already at 5,000" in by_size(20_000, ratios, crossings)


def test_the_interval_of_a_crossing_has_it():
    found = crossing_of(range(1, 14), [[1.03] * 9] * 13)
    assert found.low <= found.at <= found.high


def test_freshness_is_told_with_what_it_takes():
    now_over_last = Ratio("duckdb as of now", "duckdb over the last epoch", 30.0, 25.0, 35.0)
    rows_over_now = Ratio("postgres", "duckdb as of now", 0.5, 0.4, 0.6)
    told = by_freshness(500, 0.17, now_over_last, rows_over_now, 0.2)
    assert "an epoch of 500 more requests takes 0.17 s" in told
    assert "0.20 s, 30 × as long" in told
    assert "duckdb as of now takes 2.00 × as long as postgres" in told


def test_a_wrong_answer_ends_the_figure_before_it_is_timed():
    figure = Figure(None, QUICK)
    variants = {"postgres": lambda: pa.table({"n": [1]}), "duckdb": lambda: pa.table({"n": [2]})}
    with pytest.raises(AssertionError, match="a question"):
        _contest(figure, Effort((), 0.1, 3, 3, 1), variants, "a question")
    assert not figure.samples


def test_the_advice_of_a_measured_figure_is_told_before_all_verdicts():
    record = records.full()
    assert advising(record) == []
    assert 'class="advice"' not in page_of(record)
    last = next(entry for entry in reversed(record.figures) if entry.status == "measured")
    told = replace(last, figure=last.figure | {"title": TITLE, "advice": ["Leave <now>."]})
    record.figures[record.figures.index(last)] = told
    page = page_of(record)
    assert advising(record) == [told]
    assert page.index("Leave &lt;now&gt;.") < page.index('id="verdicts"')
    first, sentence, *_ = (line.plain for line in told_in_lines(record, 80))
    assert (first, sentence.strip()) == (told.group, "Leave <now>.")
