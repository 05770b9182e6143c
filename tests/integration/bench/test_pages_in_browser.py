"""The report and the demo in a real browser: nothing overflows, switches work, and text is legible."""

import re
from collections.abc import Iterator
from pathlib import Path

import made_up_records
import pytest
from browser import CHROMIUM, BrowserPage, browser_page

from bench.demo import DemoStep, StepResult, write_demo
from bench.pages.plots import bars
from bench.pages.questions import QuestionTimes, dot_plot
from bench.record import read_record
from bench.report.page import page_of
from olap.question import questions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
DOCUMENTED = Path(__file__).parents[3] / "docs/record.json"
WINDOWS = [(390, False), (820, True), (1440, False), (1440, True), (2560, False)]
TAB, ENTER, SPACE = ("Tab", 9), ("Enter", 13, "\r"), (" ", 32, " ")

# Text and controls outside of the window. A scrolled block may be wider.
OUTSIDE = """[...document.querySelectorAll("body *")]
  .filter((one) => !one.closest("pre, .shapes") && (one.children.length === 0 || one.tagName === "TABLE"))
  .filter((one) => getComputedStyle(one).visibility === "visible")
  .map((one) => [one, one.getBoundingClientRect()])
  .filter(([one, box]) => box.width > 0 && box.height > 0 && (box.right > innerWidth + 1 || box.left < -1))
  .map(([one, box]) => `${one.tagName} ${one.textContent.slice(0, 40)} ${box.left}–${box.right}`)"""

# The lowest contrast of any text with its background, and of any mark with the page.
CONTRAST = """(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
  };
  const paper = behind(document.body);
  const texts = [...document.querySelectorAll("body *")]
    .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((one) => contrast(getComputedStyle(one)[one.closest("svg") ? "fill" : "color"], behind(one)));
  const marks = [...document.querySelectorAll("svg use, svg rect")]
    .map((one) => contrast(getComputedStyle(one).fill, paper));
  return [Math.min(...texts), Math.min(...marks)];
})()"""

# Charts without a summary.
NAMELESS = """[...document.querySelectorAll("figure")]
  .filter((one) => ![...one.querySelectorAll("[role=img]")].some((chart) => chart.ariaLabel.length > 20))
  .map((one) => one.textContent.slice(0, 60))"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    with browser_page(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the documented record."""
    path = tmp_path_factory.mktemp("report") / "page.html"
    path.write_text(page_of(read_record(DOCUMENTED)), "utf-8")
    return path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo of eight steps, with all questions on three engines."""
    seconds = {"postgres": [0.05, 0.052], "duckdb": [0.01, 0.011], "polars": [0.012, 0.013]}
    dots = dot_plot("All questions", [QuestionTimes(name, seconds) for name in questions()])
    chart = bars("Rides of each city", "rides", {"San Francisco": 14_004, "Stanford": 6_026})
    pictures = [None, *[chart] * 5, dots, chart]
    rows = [{"table": "rides", "rows": 1_000, "files": 3, "MB": "1.2", "a long name of a column": "x" * 60}]
    results = [
        (
            DemoStep(f"Step {number}", "A description.", lambda: StepResult("")),
            StepResult(f"Result {number}.", picture, rows, ["A note."], ("Postgres", "694 rides/s")),
        )
        for number, picture in enumerate(pictures, 1)
    ]
    path = tmp_path_factory.mktemp("demo") / "page.html"
    write_demo(path, results, made_up_records.MACHINE)
    return path


@pytest.fixture(params=["report", "demo"])
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.mark.parametrize(("width", "dark"), WINDOWS)
def test_nothing_is_wider_than_the_window_folded_or_open(
    tab: BrowserPage, page: Path, width: int, dark: bool
):
    tab.requests.clear()
    tab.open(page.as_uri(), width, dark=dark)
    for _ in range(2):
        assert tab.evaluate(OUTSIDE) == []
        assert not tab.evaluate("document.documentElement.scrollWidth > innerWidth")
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.faults == []
    assert set(tab.requests) == {page.as_uri()}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_and_marks_have_the_contrast_of_wcag_aa(tab: BrowserPage, page: Path, dark: bool):
    tab.open(page.as_uri(), 1440, dark=dark)
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    text, mark = tab.evaluate(CONTRAST)
    assert text >= 4.5
    assert mark >= 3


def test_every_chart_has_a_summary_in_words(tab: BrowserPage, page: Path):
    tab.open(page.as_uri(), 1440)
    assert tab.evaluate(NAMELESS) == []


def test_the_first_screen_has_the_answer_and_its_picture(tab: BrowserPage, report: Path):
    tab.open(report.as_uri(), 1440)
    bottoms = tab.evaluate(
        "['.answer', '#picture figure'].map((one) => document.querySelector(one))"
        ".map((one) => one.getBoundingClientRect().bottom)"
    )
    assert max(bottoms) <= 900
    assert tab.evaluate("document.querySelector('.answer').textContent").startswith("Stay with Postgres for ")


def test_every_claim_is_one_line(tab: BrowserPage, report: Path):
    tab.open(report.as_uri(), 1440)
    lines = tab.evaluate(
        "[...document.querySelectorAll('#verdicts summary')].map((one) => [one.clientHeight, "
        "parseFloat(getComputedStyle(one).lineHeight)])"
    )
    assert len(lines) == 16
    assert all(height < 1.9 * line for height, line in lines)


def test_the_report_is_short_and_prints_on_two_sheets(tab: BrowserPage, report: Path):
    tab.open(report.as_uri(), 1440)
    assert tab.evaluate("document.documentElement.scrollHeight") <= 3_000
    assert tab.sheets() == 2


def test_a_table_is_stacked_on_a_phone(tab: BrowserPage, report: Path):
    cell = "getComputedStyle(document.querySelector('#row_and_column td')).display"
    tab.open(report.as_uri(), 1440)
    assert tab.evaluate(cell) == "table-cell"
    tab.open(report.as_uri(), 390)
    assert tab.evaluate(cell) == "grid"
    name = "getComputedStyle(document.querySelector('#row_and_column td'), '::before').content"
    assert tab.evaluate(name) == '"format"'


def test_the_switches_and_questions_are_reached_by_keyboard(tab: BrowserPage, page: Path):
    tab.open(page.as_uri(), 1440)
    shown = (
        "[...document.querySelectorAll('.tracks .s2')]"
        ".filter((one) => getComputedStyle(one).display !== 'none').length"
    )
    absolute = "getComputedStyle(document.querySelector('.tracks .absolute')).display"
    assert tab.evaluate(shown)
    assert tab.evaluate(absolute) == "none"
    tab.evaluate("document.querySelector('.engine.s1').focus()")
    tab.press(*TAB)
    tab.press(*SPACE)
    assert not tab.evaluate(shown)
    tab.evaluate("[...document.querySelectorAll('.engine')].at(-1).focus()")
    tab.press(*TAB)
    tab.press("ArrowDown", 40)
    assert tab.evaluate(absolute) == "block"
    tab.press(*TAB)  # the first question
    tip = "document.activeElement.querySelector('.tip')"
    assert tab.evaluate(f"getComputedStyle({tip}).display") == "block"
    assert re.search(r"\w+: \w+ [\d.]+ .s, .* (faster|difference)", tab.evaluate(f"{tip}.textContent"))
    tab.press(*ENTER)
    assert "SELECT" in tab.evaluate("document.activeElement.parentElement.querySelector('pre').innerText")


@pytest.mark.parametrize(
    ("figure", "words"),
    [("row_and_column", r"CSV: [\d.]+ .s; rows added at once: 1"), ("graph", r"SQL in Postgres: [\d.]+ ms")],
    ids=["points over two axes", "dots of a row"],
)
def test_a_focused_point_of_a_chart_shows_its_text(tab: BrowserPage, report: Path, figure: str, words: str):
    tab.open(report.as_uri(), 1440)
    tab.evaluate(f"document.querySelector('#{figure}').open = true")
    tab.evaluate(f"document.querySelector('#{figure} .point').focus()")
    label = "document.activeElement.querySelector('.say')"
    assert tab.evaluate(f"getComputedStyle({label}).visibility") == "visible"
    assert re.fullmatch(words, tab.evaluate(f"{label}.textContent"))


def test_the_demo_has_eight_steps_each_with_a_picture(tab: BrowserPage, demo: Path):
    tab.open(demo.as_uri(), 1440)
    figures = (
        "[...document.querySelectorAll('main > section')].map((one) => one.querySelectorAll('figure').length)"
    )
    assert tab.evaluate(figures) == [1] * 8
    assert tab.evaluate("document.querySelectorAll('.dots details').length") == len(questions())


def test_a_page_has_no_motion_if_the_reader_wants_none(tab: BrowserPage, page: Path):
    tab.open(page.as_uri(), 1440)
    assert tab.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
