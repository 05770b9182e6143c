"""The report shows all contents of a record and is self-contained."""

import json
import re
from pathlib import Path

import made_up_records
import pytest
from browser import CHROMIUM, look_at
from click.testing import CliRunner

from bench.commands.report import report
from bench.machine import this_machine
from bench.record import Record
from bench.report.charts import drawing
from bench.report.html import cell_text, table
from bench.report.terminal import report_lines
from ridelake.__main__ import _run
from ridelake.errors import BadInput, UsageError

pytest.importorskip("plotly", reason="the pictures need plotly: the extra `bench`")

from bench.report.page import page_of, ratios_list, sample_row, write_page

MARKUP = "<script>alert(1)</script> & \"quotes' $name ${css} </title>"


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(made_up_records.full())


def body_of(page: str) -> str:
    """The body without the plotly library, which contains any text."""
    return page[page.index("<body>") : page.index("</main>")]


def test_a_verdict_links_to_its_figure_and_the_figure_contains_its_record(page: str):
    body = body_of(page)
    for address in re.findall(r'href="#([\w-]+)"', body):
        assert f'id="{address}"' in body
    assert '<a href="#formats">figure</a>' in body
    record = re.search(r'id="formats-record".*?<pre>(.*?)</pre>', body, flags=re.DOTALL)
    assert record
    assert json.loads(record[1].replace("&quot;", '"'))["figure"]["claim"]["number"] == 1


def test_verdicts_come_first_ordered_by_number(page: str):
    body = body_of(page)
    assert body.index('id="verdicts"') < body.index('id="figures"') < body.index('id="left-out"')
    assert re.findall(r'class="nr">(\d+)<', body) == ["1", "8", "15"]
    assert "3 claims: 1 holds, 1 holds in part, 1 does not hold." in body


def test_a_failed_or_skipped_benchmark_is_listed_with_its_reason_and_without_a_figure(page: str):
    body = body_of(page)
    left_out = body[body.index('id="left-out"') :]
    assert "ProofFailed: answers differ" in left_out
    assert "no file of real trips" in left_out
    assert 'id="broken"' not in body


def test_the_page_shows_the_machine_and_the_warnings(page: str):
    for text in (
        "Example 9000, 2 cores, 8 GiB",
        "duckdb 2.0.0",
        "quick",
        "2026-11-01 12:00 UTC",
        "⚠ other processes were running",
    ):
        assert text in page
    for text in (
        "Checked: all answers are equal.",
        "no measurable difference between avro and parquet (0.97–1.08×)",
    ):
        assert text in page


def test_the_page_makes_no_requests(page: str):
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page[: page.index("<body>")] + body_of(page))


def with_markup() -> Record:
    """A record with markup in each place where a benchmark may put text."""
    claim = made_up_records.claim(99, MARKUP, MARKUP)
    series = [
        made_up_records.series(MARKUP, [MARKUP, "b"], [1.0, 2.0], text=[MARKUP, "b"], colour=[1.0, 2.0])
    ] * 2
    charts = [
        made_up_records.chart(
            kind,
            *series,
            title=MARKUP,
            x=made_up_records.axis(MARKUP),
            colour=MARKUP,
            marks=[made_up_records.mark(MARKUP, 1.0)],
        )
        for kind in ("bars", "lines", "points")
    ]
    entry = made_up_records.entry(
        MARKUP,
        MARKUP,
        title=MARKUP,
        checked=MARKUP,
        claim=claim,
        charts=charts,
        samples=made_up_records.samples(**{MARKUP: 1.0}),
        ratios=[made_up_records.ratio(MARKUP, MARKUP, 2.0, 1.5, 3.0)],
        tables=[{"title": MARKUP, "rows": [{MARKUP: MARKUP}]}],
        facts={MARKUP: MARKUP},
        warnings=[MARKUP],
    )  # fmt: skip
    return made_up_records.record(
        entry, made_up_records.failed(MARKUP, MARKUP), warnings=[MARKUP], scale=MARKUP
    )


def test_markup_in_a_record_is_escaped():
    assert "<script>alert" not in page_of(with_markup())


@pytest.mark.parametrize(
    "record",
    [
        made_up_records.record(),
        made_up_records.record(
            made_up_records.failed("a"), made_up_records.failed("a"), made_up_records.skipped("b")
        ),
        made_up_records.record(made_up_records.entry("a"), made_up_records.entry("a"), finished_at=None),
        made_up_records.record(
            made_up_records.entry("a", charts=[made_up_records.chart("bars"), made_up_records.chart("lines")])
        ),
        made_up_records.record(
            made_up_records.entry("a", facts={"nothing": None, "not a number": float("nan")})
        ),
        made_up_records.record(
            made_up_records.entry("a", samples={"x": {"cold_seconds": 1.0, "seconds": [], "repeats": 1}})
        ),
    ],
    ids=["empty", "failed only", "under way", "charts of nothing", "facts of nothing", "cold only"],
)
def test_a_record_with_few_contents_has_a_page_and_lines(record: Record):
    assert "</html>" in page_of(record)
    assert list(report_lines(record, 80)) or record.figures


def test_an_interrupted_run_is_reported_as_incomplete():
    assert "the run was interrupted" in page_of(
        made_up_records.record(made_up_records.entry("a"), finished_at=None)
    )


def test_a_damaged_figure_is_reported_as_bad_input():
    broken = made_up_records.entry("a")
    broken.figure["charts"] = [{"kind": "bars"}]
    with pytest.raises(BadInput, match="damaged"):
        page_of(made_up_records.record(broken))


@pytest.mark.parametrize("name", made_up_records.CHARTS)
def test_a_chart_is_drawn_with_every_point_and_interval(name: str):
    chart = made_up_records.CHARTS[name]
    drawn = drawing(chart)
    variant = "x" if chart["kind"] == "bars" else "y"
    for one, trace in zip(chart["series"], drawn["data"], strict=False):
        assert trace[variant] == one["y"]
        if one["low"]:
            whiskers = trace[f"error_{variant}"]
            ends = [y + up for y, up in zip(one["y"], whiskers["array"], strict=True)]
            assert ends == pytest.approx(one["high"])
    marks = drawn["layout"].get("shapes", [])
    assert len(marks) + len(drawn["data"]) == len(chart["series"]) + len(chart["marks"])


def test_nan_and_none_are_gaps():
    chart = made_up_records.chart("lines", made_up_records.series("a", [1, 2, 3], [1.0, float("nan"), None]))
    assert drawing(chart)["data"][0]["y"] == [1.0, None, None]


def test_an_axis_without_positive_values_is_linear():
    chart = made_up_records.chart(
        "bars", made_up_records.series("a", ["x"], [0]), y=made_up_records.axis("rows", log=True)
    )
    assert drawing(chart)["layout"]["xaxis"]["type"] == "linear"


def test_cells_have_three_significant_digits_and_gaps_a_dash():
    assert cell_text({"a": [1, None], "b": 12.345, "c": True}) == "a 1, –, b 12.3, c yes"


def test_samples_are_shown_as_median_p99_and_cold():
    row = table([sample_row("csv", {"cold_seconds": 3.0, "seconds": [1.0, 2.0, 9.0], "repeats": 40})])
    for text in ("2 s", "8.86 s", "3 s", "3 × 40 runs"):
        assert f">{text}<" in row


def test_a_ratio_above_one_is_drawn_to_the_right_of_one():
    strip = ratios_list(
        [made_up_records.ratio("a", "b", 2.0, 1.5, 3.0), made_up_records.ratio("c", "b", 0.5, 0.4, 0.6)]
    )
    one, *_ = map(float, re.findall(r'class="one" style="left:([\d.]+)%', strip))
    first, second = map(float, re.findall(r'class="median" style="left:([\d.]+)%', strip))
    assert second < one < first


def test_lines_show_the_verdicts_and_the_interval_of_each_ratio():
    lines = [line.plain for line in report_lines(made_up_records.full(), 78)]
    assert any("✗ DOES NOT HOLD" in line for line in lines)
    bar = next(line for line in lines if "parquet vs. csv" in line)
    assert bar.count("▓") > bar.count("▒") > 0
    assert any("parquet vs. avro" in line and "no measurable difference" in line for line in lines)
    assert all(len(line) <= 78 for line in lines if "▓" in line)


def test_the_command_writes_the_page_and_prints_its_path(tmp_path: Path):
    made_up_records.write(made_up_records.full(), tmp_path / "record.json")
    arguments = [str(tmp_path / "record.json"), "-o", str(tmp_path / "new" / "page.html")]
    done = CliRunner().invoke(report, arguments)
    assert done.exit_code == 0, done.output
    assert "page.html" in done.output
    assert "What do formats cost?" in (tmp_path / "new" / "page.html").read_text()


def test_a_missing_record_is_bad_input(tmp_path: Path):
    done = CliRunner().invoke(report, [str(tmp_path / "none.json")])
    assert isinstance(done.exception, BadInput)


def test_a_page_that_cannot_be_written_is_a_usage_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="choose another file with -o"):
        write_page(tmp_path / "file" / "page.html", made_up_records.record())


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize(
    ("width", "dark"), [(390, False), (1440, True)], ids=["a phone, light", "a desk, dark"]
)
@pytest.mark.slow
def test_a_browser_draws_all_charts_without_overflow(width: int, dark: bool, tmp_path: Path):
    record = made_up_records.full()
    record.figures += [
        one for one in with_markup().figures if one.figure
    ]  # long texts with special characters
    seen = look_at(page_of(record), tmp_path, width, dark=dark)
    assert seen["faults"] == []
    assert seen["width"] == width
    assert seen["outside"] == []
    assert not seen["scrolls"]
    assert len(seen["plots"]) >= 10
    for plot in seen["plots"]:
        assert plot["marks"] > 0, plot
        assert plot["lost"] == 0, plot
    paper, ink = (
        ("rgb(22, 24, 27)", "rgb(232, 230, 225)") if dark else ("rgb(253, 253, 251)", "rgb(27, 31, 36)")
    )
    assert seen["paper"] == paper
    assert seen["ink"] == [ink]


class TestOpen:
    def test_the_page_is_opened_and_its_path_is_printed(self, tmp_path, monkeypatch, capsys):
        monkeypatch.delenv("COLUMNS", raising=False)
        opened = []
        monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
        record, page = tmp_path / "a.json", tmp_path / "a page.html"
        made_up_records.write(Record.begin("quick", 1, this_machine()), record)
        assert _run(["report", str(record), "-o", str(page), "--open"]) == 0
        assert opened == [page.as_uri()]
        assert str(page) in capsys.readouterr().out

    def test_a_machine_without_a_browser_is_not_an_error(self, tmp_path, monkeypatch, capsys):
        monkeypatch.delenv("COLUMNS", raising=False)
        monkeypatch.setattr("webbrowser.open", lambda url: False)
        record, page = tmp_path / "a.json", tmp_path / "page.html"
        made_up_records.write(Record.begin("quick", 1, this_machine()), record)
        assert _run(["report", str(record), "-o", str(page), "--open"]) == 0
        assert f"no browser found; open {page} by hand" in capsys.readouterr().err
        assert _run(["report", str(record), "--open", "--terminal"]) == 2
