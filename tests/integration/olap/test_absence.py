"""A hint names the condition that no row matches, if an answer is empty."""

import pytest

from lakehouse.engines import BASE_ENGINES
from olap.options import QueryOptions
from olap.parameters import parse
from olap.question import ad_hoc_question, find_question
from olap.render import ask_and_print
from ridelake.settings import Settings

CITIES = "is one of Austin, New York, San Francisco, Stanford"
HINTS = {
    "SELECT AVG(Price) FROM RideTable WHERE City = 'stanford'": [f"City = 'stanford'; City {CITIES}"],
    "SELECT COUNT(*) FROM ridelake.RideTable WHERE Month = '7' AND City = 'Austin'": [
        "Month = '7'; Month has values such as"
    ],
    "SELECT * FROM rides r JOIN cities c ON c.city_id = r.city_id WHERE c.name = 'x' AND r.ride_id < 0": [
        f"c.name = 'x'; name {CITIES}",
        "r.ride_id < 0; ride_id ranges from 1 to 2000",
    ],
    "SELECT * FROM rides JOIN cities ON true WHERE fare_cents < 0": [
        "fare_cents < 0; fare_cents ranges from"
    ],
    "SELECT * FROM riders WHERE username = 'memelor'": ["username = 'memelor'; did you mean memelord?"],
    "WITH few AS (SELECT * FROM rides WHERE city_id IN (98, 99)) SELECT * FROM few WHERE ride_id > 0": [
        "city_id IN (98, 99); city_id is one of 1, 2, 3, 4"
    ],
    "SELECT * FROM rides WHERE ride_id BETWEEN 9000 AND 9999": ["ride_id ranges from 1 to 2000"],
}
SILENT = [
    "SELECT 0 FROM rides WHERE status = 'completed' LIMIT 1",  # the answer has one row
    "SELECT COUNT(*) FROM cities WHERE name = 'Austin' AND city_id = 1",  # no row matches both
    "SELECT * FROM rides WHERE status = 'x' OR ride_id < 0 LIMIT 0",  # more than one column
    "SELECT * FROM cities LIMIT 0",
    "SELECT * FROM cities WHERE name = 'x' UNION ALL SELECT * FROM cities",
]


@pytest.fixture(autouse=True)
def _no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the time limit, so that hints also appear on a busy machine."""
    monkeypatch.setattr("olap.error_hints.SECONDS_MAX", 60.0)


def remarks_of(capfd: pytest.CaptureFixture[str], question, settings: Settings, *engines: str) -> list[str]:
    ask_and_print(settings, question, QueryOptions(engines, format_="csv"))
    printed = capfd.readouterr()
    return [line for line in printed.err.splitlines() if line.startswith("note: ")]


@pytest.mark.parametrize("engine", BASE_ENGINES)
@pytest.mark.parametrize("query", HINTS)
def test_a_condition_that_no_row_matches_is_named(query: str, engine: str, settings_once: Settings, capfd):
    remarks = remarks_of(capfd, ad_hoc_question(query), settings_once, engine)
    assert len(remarks) == len(HINTS[query])
    for remark, expected in zip(remarks, HINTS[query], strict=True):
        assert remark.startswith("note: no row matches ")
        assert expected in remark


@pytest.mark.parametrize("query", SILENT)
def test_an_answer_that_is_empty_for_another_reason_has_no_hint(query: str, settings_once: Settings, capfd):
    assert remarks_of(capfd, ad_hoc_question(query), settings_once, "duckdb") == []


def test_a_hint_shows_the_value_of_a_parameter(settings_once: Settings, capfd):
    query = ad_hoc_question("SELECT * FROM riders WHERE username = $who", parse(["who=memelor"]))
    for engine in BASE_ENGINES:
        (remark,) = remarks_of(capfd, query, settings_once, engine)
        assert remark == "note: no row matches username = 'memelor'; did you mean memelord?"
    question = find_question("ride_by_id").given(parse(["ride_id=5000"]))
    (remark,) = remarks_of(capfd, question, settings_once, "duckdb", "polars")
    assert remark == "note: no row matches rides.ride_id = 5000; ride_id ranges from 1 to 2000"
