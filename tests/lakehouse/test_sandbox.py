"""E3: a query cannot write, wait, or reach anything but the tables of the epoch, whoever is asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import HOSTILE
from installed import EVERY_ENGINE

from lakehouse.engines import Engine, open_engine
from ridelake.errors import QueryRejected


@pytest.fixture(scope="module")
def published(published_once):
    return published_once


@pytest.fixture(scope="module", params=EVERY_ENGINE)
def engine(request, published) -> Iterator[Engine]:
    with open_engine(request.param, published.settings, published.epoch) as engine:
        yield engine


def test_there_are_enough_of_them_and_none_twice():
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


@pytest.mark.parametrize("query", HOSTILE)
def test_a_hostile_statement_is_refused_and_changes_nothing(engine, published, tmp_path: Path, query: str):
    out, other = tmp_path / "out", tmp_path / "other.parquet"
    pinned = Path(published.epoch.tables["cities"].locations[0])
    other.write_bytes(pinned.read_bytes())
    before = {path: path.stat().st_mtime_ns for path in published.settings.lake.folder.rglob("*")}
    words = {"out": str(out), "other": str(other), "pinned": str(pinned).replace("'", "''")}
    for key, value in words.items():
        query = query.replace(f"<{key}>", value)
    with pytest.raises(QueryRejected) as refused:
        engine.sql(query)
    assert str(refused.value).startswith(f"{engine.name}: ")
    assert "its process ended" not in str(refused.value)
    assert not out.exists()
    assert {path: path.stat().st_mtime_ns for path in published.settings.lake.folder.rglob("*")} == before
    answer = engine.sql("SELECT count(*) AS n, min(fare_cents) AS least FROM rides").to_pylist()
    assert answer == [{"n": 2000, "least": answer[0]["least"]}]
    assert answer[0]["least"] > 1


def test_a_climb_out_of_the_laid_down_role_is_refused(published):
    """What a superuser could do in one statement: take the role up again, and then run a text as SQL."""
    query = (
        "SELECT query_to_xml('SELECT pg_' || 'read_file(''/etc/passwd'')', true, true, '') FROM"
        " (SELECT set_config('role', 'none', true) AS role OFFSET 0) AS x WHERE role IS NOT NULL"
    )
    with open_engine("postgres", published.settings, None) as rows:
        for text in (query, query.replace("set_config", 'U&"set\\005fconfig"')):
            with pytest.raises(QueryRejected, match="is not let through here"):
                rows.sql(text)
        assert rows.sql("SELECT current_user AS who")["who"].to_pylist() == ["pg_read_all_data"]
