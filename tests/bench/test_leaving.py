"""Where the columns overtake the rows is told as it was measured, and no further."""

from dataclasses import replace
from math import inf

import pyarrow as pa
import pytest
import records

from bench.bench_leaving import _contest
from bench.figure import Figure
from bench.leaving.crossing import Crossing, crossing_of, words
from bench.leaving.sentences import TITLE, by_share, by_size, verdict_of
from bench.report.page import page_of
from bench.report.sections import anchors
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


def test_questions_with_the_same_answer_share_a_clause():
    always, never = Crossing(0, 0, 0, 1, 9), Crossing(inf, inf, inf, 1, 9)
    told = by_size({"a": always, "b": never, "c": always})
    assert told == "The columns overtake the rows for a, c already at 1 rides; for b never up to 9 rides."


def test_a_share_that_is_never_crossed_is_told_up_to_what_was_asked():
    assert "up to 50.00% of 200 rides" in by_share(Crossing(inf, inf, inf, 1, 100), 200, "a sum")
    assert by_share(Crossing(0, 0, 0, 1, 100), 200, "a sum").startswith("Even for 1 of 200 rides")
    assert "from 20 rows on (10 to 30) of 200" in by_share(Crossing(20, 10, 30, 1, 100), 200, "a sum")


def test_a_wrong_answer_ends_the_figure_before_it_is_timed():
    figure = Figure(None, QUICK)
    ways = {"postgres": lambda: pa.table({"n": [1]}), "duckdb": lambda: pa.table({"n": [2]})}
    with pytest.raises(AssertionError, match="a question"):
        _contest(figure, ways, "a question", ordered=True)
    assert not figure.samples


def test_the_verdict_is_told_of_a_measured_figure_alone_and_first_on_the_page():
    record = records.full()
    assert verdict_of(record) == []
    last = next(entry for entry in reversed(record.figures) if entry.status == "measured")
    assert last not in record.claims
    facts = {"questions": "From here on.", "ranges": "And there."}
    found = replace(last, group=TITLE, figure={**last.figure, "title": TITLE, "facts": facts})
    record.figures[record.figures.index(last)] = found
    assert verdict_of(record) == ["From here on.", "And there."]
    anchor, page = anchors(record.figures), page_of(record)
    places = [page.index(f'id="{anchor[entry.name]}"') for entry in (found, *record.claims)]
    assert places[0] == min(places)
    record.figures[record.figures.index(found)] = replace(found, status="failed")
    assert verdict_of(record) == []
