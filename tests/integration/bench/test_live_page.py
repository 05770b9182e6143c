"""The page of `ridelake live` in headless Chromium, with a real server: controls, figures, tour, layout."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, BrowserPage, browser_page
from live_page import LivePage, running_live
from terminal import place_options, ridelake

from lakehouse.table.published import newest_epoch
from oltp.ingest.seed import seed_rides
from oltp.store import Store, open_store
from ridelake.settings import LakeAddress, Settings

pytest.importorskip("starlette", reason="the server needs starlette: the extra `live`")
pytest.importorskip("uvicorn", reason="the server needs uvicorn: the extra `live`")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.timeout(600),
]

TOUR = json.loads(files("bench.live").joinpath("page", "tour.json").read_text("utf-8"))["steps"]
SEEDED_RIDES = 3_000
WIDTHS = {390: 844, 820: 1180, 1280: 720, 1440: 900, 2560: 1440}
LAG_TOLERANCE_SECONDS = 0.3
ROUNDING_SECONDS = 0.05  # the page shows one decimal
STEP_SECONDS_MAX = 60.0
# Elements outside of a scrolled box that exceed the window.
OUTSIDE = """
[...document.querySelectorAll("body *")]
  .filter((one) => !one.closest(".wide, #answer, svg, textarea, select, .hidden, [hidden]"))
  .filter((one) => { const box = one.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1); })
  .map((one) => `${one.tagName} ${one.id || one.className}`)
"""
VIOLATIONS = """
axe.run(document, {resultTypes: ["violations"]}).then((found) => found.violations
  .map((one) => `${one.id}: ${one.nodes.map((node) => node.target + " " + node.failureSummary).join("; ")}`))
"""


@dataclass(frozen=True, slots=True)
class LiveServer:
    """`process`: the web server. Its workers run in other processes."""

    url: str
    settings: Settings
    process: subprocess.Popen[str]
    viewer: LivePage


@contextmanager
def running_server(settings: Settings, folder: Path) -> Iterator[LiveServer]:
    with running_live(folder, *place_options(settings)) as (process, url), closing(LivePage(url)) as viewer:
        yield LiveServer(url, settings, process, viewer)


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("live")
    settings = Settings(home=folder / "home", lake=LakeAddress.at(folder / "home" / "lake"))
    with open_store(settings) as store:
        seed_rides(store, SEEDED_RIDES, seed=1)
    with running_server(settings, folder) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[BrowserPage]:
    with browser_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(live: LiveServer, browser: BrowserPage) -> Iterator[BrowserPage]:
    """The page, with bookings, without the tour. Afterwards there must be no error and no foreign request."""
    with visited(live, browser) as page:
        send(page, "load", {"paused": False, "clients": 2, "rate": 20, "batch": False})
        send(page, "sync", {"paused": False, "every_seconds": 1})
        question = {"name": "average_price", "engine": "duckdb", "fresh": False, "target": "both"}
        send(page, "question", question)
        known = f"![{text('#epoch')}, {text('#booked')}, {text('#rows-seconds')}].includes('–')"
        running = f"{text('#load-state')} === '' && {text('#sync-state')} === ''"
        page.wait_for(f"{known} && {running}", STEP_SECONDS_MAX)
        yield page


@contextmanager
def visited(live: LiveServer, page: BrowserPage, address: str = "") -> Iterator[BrowserPage]:
    page.open("about:blank")
    page.faults.clear()
    page.requests.clear()
    page.open(live.url + address)
    page.wait_for("document.documentElement?.dataset.ready !== undefined")
    yield page
    page.open("about:blank")
    assert page.faults == []
    assert [url for url in page.requests if not url.startswith((live.url, "about:"))] == []


def send(page: BrowserPage, command: str, body: dict[str, Any]) -> None:
    """Send a command without its control on the page."""
    headers = "{'Content-Type': 'application/json'}"
    options = f"{{method: 'POST', headers: {headers}, body: '{json.dumps(body)}'}}"
    assert page.evaluate(f"fetch('{command}', {options}).then((answer) => answer.status)") == 200


def text(selector: str) -> str:
    return f"(document.querySelector('{selector}')?.textContent ?? '')"


def choose(page: BrowserPage, selector: str, value: str, event: str = "change") -> None:
    page.evaluate(
        f"(() => {{ const one = document.querySelector('{selector}'); one.value = {json.dumps(value)};"
        f" one.dispatchEvent(new Event('{event}', {{bubbles: true}})); }})()"
    )


def wait_for_text(page: BrowserPage, selector: str, part: str, seconds_max: float = STEP_SECONDS_MAX) -> None:
    page.wait_for(f"{text(selector)}.includes({json.dumps(part)})", seconds_max)


def wait_for_state(live: LiveServer, part: str, wanted: dict[str, Any]) -> None:
    live.viewer.wait_for(lambda state: state.get(part, {}) | wanted == state.get(part))


# ── controls ─────────────────────────────────────────────────────────────────────────────────────


def test_the_load_follows_its_controls(live: LiveServer, page: BrowserPage):
    page.click("#load-pause")
    wait_for_text(page, "#load-state", "paused")
    wait_for_text(page, "#load-pause", "Resume")
    choose(page, "#clients", "5", "input")
    choose(page, "#pace", "4", "input")
    page.click("#mode [value=batch]")
    wait_for_state(live, "load", {"state": "paused", "clients": 5, "rate": 20.0, "batch": True})
    choose(page, "#pace", "10", "input")
    page.click("#mode [value=single]")
    page.click("#load-pause")
    wait_for_state(live, "load", {"state": "running", "rate": None, "batch": False})
    assert page.evaluate(text("#clients-value")) == "5"
    assert page.evaluate(text("#pace-value")) == "no limit"


def test_the_sync_follows_its_controls(live: LiveServer, page: BrowserPage):
    choose(page, "#every", "5")
    wait_for_state(live, "sync", {"every_seconds": 5.0, "state": "running"})
    page.click("#sync-pause")
    wait_for_text(page, "#sync-state", "paused")
    wait_for_state(live, "sync", {"state": "paused"})
    page.click("#sync-pause")
    wait_for_state(live, "sync", {"state": "running"})
    page.click("#verify")
    wait_for_text(page, "#verify-text", "equals Postgres")


def test_every_engine_and_every_side_answers(live: LiveServer, page: BrowserPage):
    engines = page.evaluate("[...document.querySelectorAll('#engine option')].map((one) => one.value)")
    assert {"duckdb", "polars"} <= set(engines)
    for engine in engines:
        choose(page, "#engine", engine)
        wait_for_state(live, "question", {"engine": engine})
        page.wait_for(f"/ms|\\ds/.test({text('#columns-seconds')})", STEP_SECONDS_MAX)
        assert page.evaluate("document.querySelector('#answer td').textContent")
    for side, asked in (("rows", "Postgres on rows answers in"), ("columns", "on columns answers in")):
        page.click(f"#target [value={side}]")
        wait_for_text(page, "#winner", asked)
    page.click("#target [value=off]")
    wait_for_text(page, "#winner", "No question is asked")
    page.click("#target [value=both]")
    page.wait_for(f"/faster|same time/.test({text('#winner')})", STEP_SECONDS_MAX)
    page.click("#fresh")
    wait_for_state(live, "question", {"fresh": True})


def test_commands_are_sent_one_after_another(live: LiveServer, page: BrowserPage):
    page.evaluate(
        "(() => { const send = window.fetch; window.inFlight = []; let open = 0;"
        " window.fetch = (...request) => { window.inFlight.push(++open);"
        " return send(...request).finally(() => { open -= 1; }); }; })()"
    )
    for engine in ("polars", "duckdb") * 10:
        choose(page, "#engine", engine)
    page.wait_for("window.inFlight.length === 20", STEP_SECONDS_MAX)
    assert set(page.evaluate("window.inFlight")) == {1}
    wait_for_state(live, "question", {"engine": "duckdb"})


def test_a_question_is_chosen_or_typed_and_an_error_is_one_line(live: LiveServer, page: BrowserPage):
    choose(page, "#question", "revenue_by_city_and_month")
    wait_for_state(live, "question", {"name": "revenue_by_city_and_month"})
    page.wait_for("document.querySelectorAll('#answer tbody tr').length > 3", STEP_SECONDS_MAX)
    choose(page, "#sql", "SELECT COUNT(*) AS zones FROM zones", "input")
    page.click("#ask-sql")
    wait_for_text(page, "#answer th", "zones")
    wait_for_text(page, "#answer td", "330")
    wait_for_text(page, "#equal", "")
    choose(page, "#sql", "-- nothing", "input")
    page.click("#ask-sql")
    wait_for_text(page, "#question-failure", "there is no query; write one")
    assert [fault for fault in page.faults if "status of 400" not in fault] == []
    page.faults.clear()
    choose(page, "#sql", "DELETE FROM rides", "input")
    page.click("#ask-sql")
    wait_for_text(page, "#winner", "The question failed")
    wait_for_text(page, "#columns-bytes", "SELECT")


def test_a_column_of_the_ride_is_shown_with_its_bytes(page: BrowserPage):
    page.wait_for("document.querySelectorAll('#heap-columns button').length > 9", STEP_SECONDS_MAX)
    page.evaluate("document.querySelector('#heap-columns [data-name=request_id]').focus()")
    wait_for_text(page, "#heap-value", "request_id = ")
    assert "16 bytes at" in page.evaluate(text("#heap-value"))
    page.wait_for("document.querySelector('#heap-grid .chosen').getAttribute('d').length > 0")
    assert "8,192 bytes" in page.evaluate("document.querySelector('#heap-grid').getAttribute('aria-label')")


def test_anomalies_are_counted_for_a_strategy_and_a_run_can_be_stopped(live: LiveServer, page: BrowserPage):
    choose(page, "#strategy", "no_transaction")
    page.click("#contrast-run")
    wait_for_text(page, "#anomalies", "✗ no transaction", 2 * STEP_SECONDS_MAX)
    done = live.viewer.state["contrast"]["done"][0]
    shown = page.evaluate("[...document.querySelectorAll('#anomalies td')].map((one) => one.textContent)")
    assert shown == [f"{count:,}" for count in (*done["anomalies"].values(), done["rides"])]
    assert done["anomalies"]["driver booked twice"] > 0
    choose(page, "#strategy", "all")
    page.click("#contrast-run")
    page.wait_for("!document.querySelector('#contrast-stop').disabled", STEP_SECONDS_MAX)
    page.click("#contrast-stop")
    page.wait_for("!document.querySelector('#contrast-run').disabled", 2 * STEP_SECONDS_MAX)


def test_a_killed_server_recovers_and_no_acknowledged_request_is_lost(live: LiveServer, page: BrowserPage):
    before = page.evaluate(text("#booked"))
    page.wait_for(f"{text('#booked')} !== {json.dumps(before)}", STEP_SECONDS_MAX)
    page.click("#crash-run")
    wait_for_text(page, "#crash-text", "none is lost")
    crash = live.viewer.state["crash"]
    assert page.evaluate(text("#crash-acknowledged")) == f"{crash['acknowledged']:,}"
    assert page.evaluate(text("#crash-found")) == page.evaluate(text("#crash-acknowledged"))
    assert page.evaluate(text("#crash-lost")) == "0"
    wait_for_text(page, ".marks", "server killed")
    page.wait_for(f"{text('#sync-failure')} + {text('#load-failure')} === ''", STEP_SECONDS_MAX)


def test_indexes_are_dropped_and_restored(live: LiveServer, page: BrowserPage):
    page.click("#index-time")
    wait_for_text(page, "#index-time", "Create")
    wait_for_state(live, "index", {"dropped": ["drivers_by_stand"]})
    page.click("#index-time")
    wait_for_text(page, "#index-time", "Drop")
    page.click("#index-covering")
    wait_for_text(page, "#index-covering", "Remove")
    wait_for_state(live, "index", {"covering": "present", "dropped": []})
    page.click("#index-covering")
    wait_for_text(page, "#index-covering", "Add")


# ── figures ──────────────────────────────────────────────────────────────────────────────────────


def test_booked_rides_and_the_answer_equal_those_in_postgres(live: LiveServer, page: BrowserPage):
    send(page, "load", {"paused": True})
    wait_for_text(page, "#load-state", "paused")
    with open_store(live.settings) as store:
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while (booked := page.evaluate(text("#booked"))) != f"{_value(store, RIDES) - SEEDED_RIDES:,}":
            assert time.monotonic() < deadline, booked
            time.sleep(0.2)
        wait_for_text(page, "#equal", "✓ answers equal")
        shown = float(page.evaluate(text("#answer td")))
        assert shown == pytest.approx(float(_value(store, AVERAGE_PRICE)))


RIDES = "SELECT count(*) FROM rides"
AVERAGE_PRICE = "SELECT avg(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"


def _value(store: Store, query: str) -> Any:
    with closing(store.connect()) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row
        return row[0]


def test_the_lag_is_the_age_of_the_newest_epoch_while_the_sync_is_paused(live: LiveServer, page: BrowserPage):
    send(page, "load", {"clients": 4, "rate": None})
    newest = live.viewer.state["sync"]["epoch"]
    page.wait_for(f"Number({text('#epoch')}.replace(',', '')) > {newest + 1}", STEP_SECONDS_MAX)
    send(page, "sync", {"paused": True})
    wait_for_text(page, "#sync-state", "paused")
    page.wait_for(f"Number({text('#lag')}) > 2", STEP_SECONDS_MAX)
    deadline = time.monotonic() + STEP_SECONDS_MAX
    tolerance = LAG_TOLERANCE_SECONDS + ROUNDING_SECONDS
    while True:
        oldest = _lag_seconds(live)
        shown = float(page.evaluate(text("#lag")))
        newest = _lag_seconds(live)
        if oldest - tolerance <= shown <= newest + tolerance:
            return
        assert time.monotonic() < deadline, (oldest, shown, newest)  # a busy machine may show the lag late


def _lag_seconds(live: LiveServer) -> float:
    taken_at = datetime.fromisoformat(newest_epoch(live.settings.lake).token.taken_at)
    return (datetime.now(UTC) - taken_at).total_seconds()


def test_the_plots_show_the_current_figures_and_the_changes_of_the_target(page: BrowserPage):
    page.click("#target [value=rows]")
    wait_for_text(page, ".marks", "question: rows")
    page.wait_for("document.querySelectorAll('#plots path.line[d*=L]').length >= 4", STEP_SECONDS_MAX)
    labels = page.evaluate("[...document.querySelectorAll('#plots svg')].map((one) => one.ariaLabel)")
    units = ("rides/s", "ms", " s", " s")
    assert all(unit in label for unit, label in zip(units, labels, strict=True)), labels


# ── tour ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_tour_sets_the_page_up_step_by_step(live: LiveServer, page: BrowserPage):
    page.click("#tour-open")
    for number, step in enumerate(TOUR, start=1):
        wait_for_text(page, "#tour-title", f"{number}. {step['title']}")
        assert page.evaluate("location.hash") == f"#step-{number}"
        watched = page.evaluate("[...document.querySelectorAll('[data-watched]')].map((one) => one.id)")
        assert set(watched) == set(step["panel"])
        setup = step["setup"]
        state = "paused" if setup["load"]["paused"] else "running"
        wait_for_state(live, "load", {**_without(setup["load"], "paused"), "state": state})
        wait_for_state(live, "sync", _without(setup["sync"], "paused"))
        wait_for_state(live, "question", setup["question"])
        page.click("#tour-next")
    page.wait_for("document.querySelector('#tour').hidden")
    assert page.evaluate("location.hash") == ""


def _without(settings: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != name}


def test_a_step_has_a_link_and_arrow_keys_change_it(live: LiveServer, browser: BrowserPage):
    with visited(live, browser, "#step-3") as page:
        wait_for_text(page, "#tour-title", "3. ")
        page.press("ArrowRight")
        wait_for_text(page, "#tour-title", "4. ")
        page.press("ArrowLeft")
        wait_for_text(page, "#tour-title", "3. ")
        page.press("Escape")
        page.wait_for("document.querySelector('#tour').hidden")


# ── layout ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("address", ["", "#step-4"])
def test_nothing_exceeds_the_window(live: LiveServer, browser: BrowserPage, width: int, address: str):
    with visited(live, browser, address) as page:
        page.resize(width, WIDTHS[width])
        wait_for_text(page, "#booked", "")
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(live: LiveServer, browser: BrowserPage, width: int, dark: bool):
    axe = pytest.importorskip("axe_core_python", reason="axe-core is not installed: the extra `dev`")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text("utf-8")
    with visited(live, browser, "#step-6") as page:
        page.resize(width, WIDTHS[width], dark=dark)
        page.wait_for("document.querySelectorAll('#heap-columns button').length > 0", STEP_SECONDS_MAX)
        page.evaluate(f"{script}; undefined")
        assert page.evaluate(VIOLATIONS) == []


def test_a_store_of_a_dsn_is_shown_without_the_controls_that_change_it(
    seeded_store: Store, browser: BrowserPage, tmp_path: Path
):
    lake = LakeAddress.at(tmp_path / "lake")
    settings = Settings(home=tmp_path / "home", lake=lake, dsn=seeded_store.conninfo)
    assert ridelake("snapshot", *place_options(settings)).returncode == 0
    with running_server(settings, tmp_path) as live, visited(live, browser) as page:
        page.wait_for(f"/faster|same time/.test({text('#winner')})", STEP_SECONDS_MAX)
        for selector in ("#break", "#tour-open", "#load-controls"):
            assert page.evaluate(f"document.querySelector('{selector}').hidden"), selector
        page.click("#verify")
        wait_for_text(page, "#verify-text", "equals Postgres")


def test_all_controls_can_be_reached_with_the_keyboard(page: BrowserPage):
    unreachable = page.evaluate(
        "[...document.querySelectorAll('button, select, input, textarea, a')]"
        ".filter((one) => one.tabIndex < 0 && !one.closest('[hidden]')).map((one) => one.id)"
    )
    assert unreachable == []


def test_a_lost_connection_is_shown_and_opened_again(live: LiveServer, browser: BrowserPage):
    with visited(live, browser) as page:
        wait_for_text(page, "#connection", "connected")
        live.process.send_signal(signal.SIGSTOP)  # no answers, as from a sleeping machine
        try:
            page.wait_for(f"{text('#connection')} === 'reconnecting…'", STEP_SECONDS_MAX)
        finally:
            live.process.send_signal(signal.SIGCONT)
        page.wait_for(f"{text('#connection')} === 'connected'", STEP_SECONDS_MAX)
