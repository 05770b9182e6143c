"""Crossovers are reported as measured, with their intervals."""

from dataclasses import replace
from math import inf

import made_up_records
import pyarrow as pa
import pytest

from bench.advice import (
    TITLE,
    Crossing,
    crossing_text,
    find_crossing,
    freshness_sentence,
    range_sentence,
    size_sentence,
    table_sentences,
)
from bench.bench_crossover import CrossoverConfig, _times
from bench.figure import QUICK, Figure
from bench.report.page import page_of
from bench.report.terminal import report_lines
from bench.statistics import Ratio

PLACES = (1_000, 10_000, 100_000)


def test_a_crossing_is_interpolated_on_logarithmic_axes():
    found = find_crossing(PLACES, [[0.1] * 9, [10.0] * 9, [100.0] * 9])
    assert found.at == pytest.approx(1_000 * 10**0.5)
    assert 2_500 < found.low < found.at < found.high < 4_000


def test_an_engine_faster_at_every_size_is_reported_from_the_smallest_size():
    found = find_crossing(PLACES, [[3.0] * 9] * 3)
    assert crossing_text(found, "rides") == "at all sizes from 1,000 rides"


def test_an_engine_that_is_never_faster_is_reported_up_to_the_largest_size():
    found = find_crossing(PLACES, [[0.3] * 9] * 3)
    assert crossing_text(found, "rides") == "not up to 100,000 rides"


def test_only_the_last_crossing_counts():
    assert find_crossing(PLACES, [[0.1] * 9, [10.0] * 9, [0.1] * 9]).never
    again = find_crossing((*PLACES, 1_000_000), [[3.0] * 9, [0.1] * 9, [0.1] * 9, [10.0] * 9])
    assert again.at == pytest.approx(100_000 * 10**0.5)


def test_a_crossing_within_noise_has_an_open_interval():
    found = find_crossing(PLACES, [[0.5, 2.0] * 5, [0.5, 2.0] * 5, [0.5, 2.0] * 5])
    assert (found.low, found.high) == (0, inf)
    assert "less than 1,000" in crossing_text(found, "rides")
    assert "more than 100,000" in crossing_text(found, "rides")


ALWAYS, NEVER = Crossing(0, 0, 0, 1, 9), Crossing(inf, inf, inf, 1, 9)


def rows_over_columns(median: float) -> Ratio:
    return Ratio("postgres", "duckdb", median, median * 0.9, median * 1.1)


def test_questions_are_counted_by_the_faster_engine():
    ratios = {"sums": 12.0, "averages": 2.0, "look-up": 0.05, "tie": 1.01}
    crossings = {name: Crossing(400, 300, 500, 100, 1_000) for name in ratios}
    sentence = size_sentence(1_000, {name: rows_over_columns(one) for name, one in ratios.items()}, crossings)
    assert sentence == (
        "At 1,000 rides, of 4 questions: DuckDB is faster on 2 (up to 12×, sums), Postgres on 1 (up to 20×, "
        "look-up), no measurable difference on 1. DuckDB is faster on half of its 2 questions from 400 rides."
    )


def test_an_engine_that_is_never_faster_is_not_mentioned():
    ours = {"sums": rows_over_columns(3.0)}
    assert size_sentence(9, ours, {"sums": ALWAYS}) == (
        "At 9 rides, of 1 question: DuckDB is faster on 1 (up to 3.0×, sums). DuckDB is faster from 1 rides, "
        "the smallest size tried."
    )
    theirs = {"look-up": rows_over_columns(0.5)}
    assert "DuckDB" not in size_sentence(9, theirs, {"look-up": NEVER})
    ties = {"tie": rows_over_columns(1.0)}
    assert (
        size_sentence(9, ties, {"tie": NEVER}) == "At 9 rides, of 1 question: no measurable difference on 1."
    )


def test_advice_on_a_table_names_the_questions_of_each_engine():
    ratios = {"look-up by key": 0.1, "scan of 1 column": 9.0, "group-by of city": 2.0, "tie": 1.0}
    crossings = dict.fromkeys(ratios, NEVER)
    crossings |= {"scan of 1 column": ALWAYS, "group-by of city": Crossing(400, 300, 500, 1, 1_000)}
    known = {name: rows_over_columns(one) for name, one in ratios.items()}
    assert table_sentences(1_000, known, crossings)[1:] == [
        "Columns are faster for the scan of 1 column at all sizes from 1 rows.",
        "Columns are faster for the group-by of city from 400 rows (300 to 500).",
        "Stay with Postgres for the look-up by key.",
    ]


def test_advice_on_a_table_without_faster_columns_depends_on_its_size():
    ratios = {"scan of 1 column": rows_over_columns(1.0)}
    crossings = {"scan of 1 column": NEVER}
    few = table_sentences(1_000, ratios, crossings)
    assert few == [
        "At 1,000 rows, of 1 question: no measurable difference on 1.",
        "Stay with Postgres: 1,000 rows are too few to find the number of rows from which columns are "
        "faster. Measure again with at least 100,000 rows.",
    ]
    many = table_sentences(100_000, ratios, crossings)
    assert many[1:] == ["Stay with Postgres: columns are measurably faster for none of these questions."]


def test_a_range_without_a_crossing_is_reported_up_to_the_largest_tried():
    some = Crossing(2, 1, inf, 1, 9)
    sentence = range_sentence(100, NEVER, some, ALWAYS)
    assert "at sums of all sizes tried, up to 9 rows (9.0%)" in sentence
    assert "at whole rows of up to 2 rows (2.0%; 1 to more than 9)" in sentence
    assert sentence.endswith("without an index, DuckDB is always faster.")


def test_a_range_is_reported_with_its_interval():
    tie, few, many = Crossing(0, 0, inf, 1, 9), Crossing(0, 0, 4, 1, 9), Crossing(inf, 5, inf, 1, 9)
    sentence = range_sentence(100, tie, few, many)
    assert "at sums up to an unknown size and at whole rows of up to 4 rows at most" in sentence
    assert sentence.endswith("without an index, at sums of up to at least 5 rows (5.0%).")
    tiny = Crossing(300, 200, 400, 1, 50_000)
    assert "300 rows (0.03%; 200 to 400)" in range_sentence(1_000_000, tiny, tiny, tiny)


def test_half_of_an_even_number_is_the_lower_median():
    ratios = {name: rows_over_columns(2.0) for name in "abcd"}
    places = dict(zip("abcd", (0, 0, 2_100, 19_000), strict=True))
    crossings = {name: Crossing(at, at, at, 5_000, 20_000) for name, at in places.items()}
    assert "on half of its 4 questions from 5,000 rides, the smallest size tried" in size_sentence(
        20_000, ratios, crossings
    )


def test_the_interval_of_a_crossing_contains_it():
    found = find_crossing(range(1, 14), [[1.03] * 9] * 13)
    assert found.low <= found.at <= found.high


def test_freshness_is_reported_with_its_cost():
    now_over_last = Ratio("duckdb with --fresh", "duckdb over the last epoch", 30.0, 25.0, 35.0)
    rows_over_now = Ratio("postgres", "duckdb with --fresh", 0.5, 0.4, 0.6)
    sentence = freshness_sentence(500, 0.17, now_over_last, rows_over_now, 0.2)
    assert "An epoch of 500 more requests takes 0.17 s; an up-to-date answer takes 0.20 s." in sentence
    assert "Postgres is 2.0× faster than DuckDB with --fresh" in sentence
    assert "DuckDB without it is 30× faster than DuckDB with --fresh" in sentence


def test_a_wrong_answer_fails_before_it_is_timed():
    figure = Figure(None, QUICK)
    variants = {"postgres": lambda: pa.table({"n": [1]}), "duckdb": lambda: pa.table({"n": [2]})}
    with pytest.raises(AssertionError, match="a question"):
        _times(figure, CrossoverConfig((), 0.1, 3, 3, 1), variants, "a question")
    assert not figure.samples


def test_advice_comes_before_the_verdicts():
    record = made_up_records.full()
    assert record.with_advice == []
    assert 'class="advice"' not in page_of(record)
    last = next(entry for entry in reversed(record.figures) if entry.status == "measured")
    entry = replace(last, figure=last.figure | {"title": TITLE, "advice": ["Leave <now>."]})
    record.figures[record.figures.index(last)] = entry
    page = page_of(record)
    assert record.with_advice == [entry]
    assert page.index("Leave &lt;now&gt;.") < page.index('id="verdicts"')
    first, sentence, *_ = (line.plain for line in report_lines(record, 80))
    assert (first, sentence.strip()) == (entry.group, "Leave <now>.")
