"""Charts have every point, interval and tick; cells have few digits."""

import made_up_records
import pytest

from bench.advice import QuestionSizes, answer_sentence, questions_by_size
from bench.pages import chart
from bench.pages.cells import cell_text, css_string, table_of
from bench.pages.plots import AxisScale, PlanePlot, RowPlot, bars, plane_plot, row_plot, series_numbers
from bench.pages.questions import QuestionTimes, dot_plot
from bench.report.charts import crossover_plot, drawn, ratios_plot
from bench.statistics import Ratio


@pytest.mark.parametrize("name", made_up_records.CHARTS)
def test_a_chart_has_every_point_and_interval(name: str):
    given = made_up_records.CHARTS[name]
    plot = drawn(given)
    if isinstance(plot, RowPlot):
        marks = [mark for row in plot.rows for mark in row.marks]
    else:
        assert isinstance(plot, PlanePlot)
        marks = [point for series in plot.series for point in series.points]
        assert len(plot.marks) == len(given["marks"])
    assert len(marks) == sum(len(one["y"]) for one in given["series"])
    assert sum(mark.low is not None for mark in marks) == sum(
        len(one["low"] or ()) for one in given["series"]
    )


def test_an_interval_is_drawn_from_low_to_high():
    plot = row_plot("t", "rows", [made_up_records.series("a", ["x"], [5.0], low=[2.0], high=[10.0])])
    ((mark,),) = [row.marks for row in plot.rows]
    assert (mark.low, mark.at, mark.high) == tuple(plot.scale.place(value) for value in (2, 5, 10))
    assert mark.low < mark.at < mark.high


def test_a_line_joins_three_points_but_not_two():
    three = made_up_records.series("a", [1, 2, 3], [1.0, 2.0, 3.0])
    two = made_up_records.series("b", [1, 3], [2.0, 1.0])
    equal = made_up_records.series("equal", [1, 3], [1.0, 1.0])
    plot = plane_plot(made_up_records.chart("lines", three, two, equal))
    assert [len(one.joined) for one in plot.series] == [2, 0, 1]
    assert [one.reference for one in plot.series] == [False, False, True]


def test_nan_and_none_are_gaps():
    y = [1.0, 2.0, float("nan"), 3.0, None, 4.0]
    plot = plane_plot(made_up_records.chart("lines", made_up_records.series("a", list(range(6)), y)))
    (one,) = plot.series
    assert len(one.points) == 4
    assert len(one.joined) == 1


def test_a_scale_without_positive_values_is_linear():
    plot = row_plot("t", "rows", [made_up_records.series("a", ["x"], [0])], log=True)
    assert not plot.scale.log
    assert plot.bars_from == plot.rows[0].marks[0].at == 0


def test_a_logarithmic_scale_has_dots_because_it_has_no_zero():
    plot = row_plot("t", "rows", [made_up_records.series("a", ["x", "y"], [1, 1_000])], log=True)
    assert plot.bars_from is None


@pytest.mark.parametrize(
    ("title", "values", "log", "ticks"),
    [
        ("rows", (1, 100), True, ["1", "10", "100"]),
        ("rows", (5_000, 120_000), True, ["5k", "10k", "20k", "50k", "100k"]),
        ("seconds", (0.0004, 0.3), True, ["1 ms", "10 ms", "100 ms"]),
        ("bytes", (0, 40_000_000), False, ["0", "10 MB", "20 MB", "30 MB", "40 MB"]),
        ("share", (0, 1), False, ["0", "0.5", "1"]),
    ],
)
def test_ticks_are_round_numbers(title: str, values: tuple[float, float], log: bool, ticks: list[str]):
    scale = AxisScale.over(title, values, log=log)
    assert [tick.text for tick in scale.ticks] == ticks
    assert all(0 <= tick.at <= 100 for tick in scale.ticks)


def test_an_engine_has_the_same_colour_on_every_page():
    assert series_numbers(["Polars", "other", "postgres"]) == [3, 2, 1]
    assert series_numbers(["duckdb", "postgres"]) == [2, 1]
    assert len(series_numbers([f"series {n}" for n in range(12)])) == 12


def test_the_faster_variant_is_right_of_one_and_an_unclear_ratio_spans_one():
    slow, fast = Ratio("a", "b", 2.0, 1.5, 3.0), Ratio("c", "b", 0.5, 0.4, 0.6)
    plot = ratios_plot("t", [("", slow), ("", fast), ("", Ratio("a", "c", 1.01, 0.9, 1.1))])
    assert plot is not None
    assert plot.one_at is not None
    first, second, unclear = (row.marks[0] for row in plot.rows)
    assert first.at == second.at > plot.one_at
    assert unclear.low is not None
    assert unclear.high is not None
    assert unclear.low < plot.one_at < unclear.high


def test_a_question_is_described_in_whole_words():
    times = QuestionTimes("average_price", {"postgres": [0.088] * 9, "duckdb": [0.012] * 9})
    assert times.sentence.startswith("average_price: DuckDB 12 ms, Postgres 88 ms; DuckDB is 7.3× faster (")
    assert times.winner == "DuckDB 7.3×"
    even = QuestionTimes("q", {"postgres": [0.01] * 9, "duckdb": [0.01] * 9})
    assert "; no measurable difference (0." in even.sentence
    assert even.winner == "no difference"
    three = QuestionTimes("q", {"postgres": [1.0] * 9, "duckdb": [3.0] * 9, "polars": [2.0] * 9})
    assert "Postgres 1 s, Polars 2 s, DuckDB 3 s; Postgres is 2.0× faster than Polars (" in three.sentence


def test_questions_are_sorted_from_rows_to_columns_and_relative_to_the_fastest():
    ratios = {"even": 1.0, "look-up": 0.1, "scan": 9.0}
    times = [
        QuestionTimes(name, {"postgres": [ratio] * 5, "duckdb": [1.0] * 5}) for name, ratio in ratios.items()
    ]
    plot = dot_plot("t", times)
    assert [one.name for one in plot.questions] == ["look-up", "even", "scan"]
    one = plot.relative.scale.place(1)
    for row in plot.relative.rows:
        assert min(mark.at for mark in row.marks) == one


def sized(name: str, ratios: dict[int, float]) -> QuestionSizes:
    """DuckDB takes one second at each number of rows; Postgres takes `ratios` seconds."""
    return QuestionSizes(
        name, "rides", {rows: {"postgres": [at] * 9, "duckdb": [1.0] * 9} for rows, at in ratios.items()}
    )


def test_a_crossover_is_drawn_between_two_sizes_but_not_for_one():
    assert crossover_plot([sized("q", {1_000: 2.0})]) is None
    never = sized("key", {1_000: 0.1, 100_000: 0.1})
    plot = crossover_plot([sized("scan", {1_000: 0.1, 100_000: 10.0}), never])
    assert plot is not None
    key, scan = plot.rows
    assert (key.at, key.text) == (100, "Postgres at all sizes")
    assert (scan.at, scan.text) == (50, "DuckDB from 10,000")
    assert scan.low < scan.at < scan.high
    assert plot.summary == (
        "Which is faster at how many rides? key: Postgres at all sizes; scan: DuckDB from 10,000."
    )


def test_the_answer_names_the_questions_of_postgres_and_the_crossover():
    scans = [sized("scan", {1_000: 0.1, 100_000: 10.0}), sized("sum", {1_000: 2.0, 100_000: 20.0})]
    at_most = zip("abcde", (0.2, 0.1, 0.3, 0.4, 0.5), strict=True)
    keys = [sized(name, {1_000: 0.2, 100_000: ratio}) for name, ratio in at_most]
    assert answer_sentence([*scans, *keys]) == (
        "Stay with Postgres for b, a, c and 2 more; "
        "columns are faster for 2 of the 7 questions from about 10,000 rides."
    )
    assert answer_sentence(scans) == "Columns are faster for all 2 questions from about 10,000 rides."
    assert answer_sentence(scans[1:]) == "Columns are faster for the question from 1,000 rides."
    assert answer_sentence(keys[:1]) == (
        "Stay with Postgres; columns are not faster for the question up to 100,000 rides."
    )
    assert answer_sentence([sized("key", {1_000: 0.1})]).endswith(
        "up to 1,000 rides: measure again with at least 100,000 rides."
    )


def test_questions_are_read_from_the_samples_of_a_figure():
    samples = {
        f"{name}: {engine}": {"seconds": [seconds] * 5}
        for name in ("q, 1,000 rides", "q, 20,000 rides", "9 rows by key, sum")
        for engine, seconds in (("postgres", 2.0), ("duckdb", 1.0))
    }
    (found,) = questions_by_size({"samples": samples | {"half, 5 rows: duckdb": {"seconds": [1.0]}}})
    assert (found.name, found.unit, found.rows) == ("q", "rides", 20_000)
    assert found.ratio.median == 2
    assert found.crossing.always


def test_cells_have_three_significant_digits_and_gaps_a_dash():
    assert cell_text({"a": [1, None], "b": 12.345, "c": True}) == "a 1, –, b 12.3, c yes"


def test_columns_of_numbers_are_right_aligned_and_long_tables_cut():
    table = table_of([{"name": "a", "n": 1, "time": "1.2 ms"}] * 50, rows_max=40)
    assert table.numeric == [2, 3]
    assert (len(table.rows), table.more) == (40, 10)


def test_seconds_are_shown_with_a_unit():
    table = table_of(
        [{"format": "CSV", "add_1_rows_seconds": 0.0000382, "seconds": 2.5, "seconds left": None}]
    )
    assert table.columns == ["format", "add 1 rows", "time", "seconds left"]
    assert table.rows == [["CSV", "38.2 µs", "2.5 s", "–"]]


def test_a_name_of_a_column_is_a_string_of_css():
    assert css_string('a "b"') == r'"a \22 b\22 "'


def test_a_single_chart_escapes_its_names():
    assert "&lt;b&gt;" in chart(bars("<b>", "rows", {"<b>": 1}))
