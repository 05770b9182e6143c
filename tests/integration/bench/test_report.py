"""The report shows all contents of a record and is self-contained."""

import re
from pathlib import Path

import made_up_records
import pytest
from click.testing import CliRunner

from bench.commands.report import report
from bench.machine import this_machine
from bench.record import Record, read_record
from bench.report.page import page_of, sample_row, write_report
from bench.report.terminal import report_lines
from ridelake.__main__ import _run
from ridelake.errors import BadInput, UsageError

DOCUMENTED = Path(__file__).parents[3] / "docs/record.json"
PAGE_BYTES_MAX = 300_000

MARKUP = "<script>alert(1)</script> & \"quotes' $name ${css} </title>"


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(made_up_records.full())


def figures_of(page: str) -> dict[str, tuple[str, str]]:
    """Anchor → the line and the folded contents of the figure, without tags."""
    found = re.findall(
        r'<details class="figure" id="([\w-]+)"><summary[^>]*>(.*?)</summary>(.*?)</details>', page, re.DOTALL
    )
    return {anchor: (plain(line), plain(contents)) for anchor, line, contents in found}


def plain(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_claim_is_a_line_with_one_number_and_opens_to_its_figure(page: str):
    line, contents = figures_of(page)["formats"]
    assert line == "✓ holds Column files: 4 of 16 columns Parquet is 3.1× faster than csv"
    for text in (
        "What do formats cost? 1. Row-major formats are faster to write",
        "Parquet is 3.1× faster than csv (2.9–3.3×)",
        "Checked: all answers are equal.",
        "no measurable difference between avro and parquet (0.97–1.08×)",
        "14,100,000",
        "bench/bench_x.py::bench_formats: 1.5 s, 20,000 rows",
    ):
        assert text in contents, text


def test_a_record_without_claims_shows_its_figures_open():
    figure = made_up_records.figure_of(title="Which is faster?", advice=["Columns are faster"])
    page = page_of(made_up_records.record(made_up_records.entry("bench_x", **figure)))
    assert re.search(r'<details class="figure" id="[\w-]+" open>', page)
    assert 'id="verdicts"' not in page
    assert '<details class="figure"' in page_of(made_up_records.full())
    assert " open>" not in page_of(made_up_records.full())


def test_the_answer_comes_first_then_the_claims_ordered_by_number(page: str):
    parts = ('class="answer"', 'id="verdicts"', 'id="figures"', 'id="left-out"')
    places = [page.index(text) for text in parts]
    assert places == sorted(places)
    claims = page[page.index('id="verdicts"') : page.index('id="figures"')]
    assert re.findall(r"</b> (\d+)\. ", claims) == ["1", "8", "15"]
    assert '<p class="answer">3 claims: 1 holds, 1 holds in part, 1 does not hold.</p>' in page


def test_a_failed_or_skipped_benchmark_is_visible_with_its_reason_and_without_a_figure(page: str):
    left_out = plain(page[page.index('id="left-out"') :])
    assert (
        "✗ failed The group of broken bench/bench_x.py::bench_broken : ProofFailed: answers differ"
        in left_out
    )
    assert "– skipped" in left_out
    assert "no file of real trips" in left_out
    assert "broken" not in figures_of(page)
    assert '<p class="warning">⚠ 1 benchmark failed</p>' in page


def test_a_warning_is_not_folded(page: str):
    visible = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    assert "⚠ the clients shared the cores with the server" in visible
    assert "⚠ other processes were running" in visible


def test_the_page_shows_the_machine_and_the_warnings(page: str):
    for text in (
        "Example 9000, 2 cores, 8 GiB",
        "duckdb 2.0.0",
        "quick",
        "2026-11-01 12:00 UTC",
        "⚠ other processes were running",
        "⚠ the clients shared the cores with the server",
    ):
        assert text in page


def test_the_page_has_no_script_and_no_address(page: str):
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "<script" not in page
    assert not re.search(r"https?:|src=|@import|url\(", page)


def test_the_page_of_the_documented_record_is_small_and_answers_first():
    record = read_record(DOCUMENTED)
    page = page_of(record)
    assert len(page.encode()) <= PAGE_BYTES_MAX
    answer = re.search(r'<p class="answer">(.*?)</p>', page)
    assert answer
    assert re.fullmatch(
        r"Stay with Postgres for \w+, .*; "
        r"columns are faster for \d+ of the \d+ questions from about [\d,]+ rides\.",
        answer[1],
    )
    assert page.index("Which is faster at how many rides?") < page.index('id="verdicts"')


def test_a_question_opens_to_its_sql_and_is_described_in_words():
    page = page_of(read_record(DOCUMENTED))
    dots = page[page.index('<figure class="dots">') :]
    (row,) = re.findall(
        r'<details><summary class="row"><span class="name">average_price<.*?</details>', dots, re.DOTALL
    )
    spoken = re.search(r'class="tracks" role="img" aria-label="(.*?)"', row)
    assert spoken
    assert re.fullmatch(
        r"average_price: DuckDB [\d.]+ ms, Postgres [\d.]+ ms; DuckDB is [\d.]+× faster \([\d.]+–[\d.]+×\)",
        spoken[1],
    )
    assert "SELECT AVG(Price) FROM RideTable WHERE City = &#39;Stanford&#39;" in row


def with_markup() -> Record:
    """A record with markup in every text of a benchmark."""
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
    page = page_of(with_markup())
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;quotes&#39;" in page


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


def test_samples_are_shown_as_median_p99_and_cold():
    row = sample_row("csv", {"cold_seconds": 3.0, "seconds": [1.0, 2.0, 9.0], "repeats": 40})
    assert list(row.values()) == ["csv", "2 s", "7.6 s", "8.86 s", "3 s", "3 × 40 runs"]


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
        write_report(tmp_path / "file" / "page.html", made_up_records.record())


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
