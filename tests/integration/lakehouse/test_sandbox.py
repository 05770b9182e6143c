"""Guarantee E3: a query on any engine can only read the tables of the epoch. It cannot write or wait."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from installed_engines import EVERY_ENGINE
from sandbox_queries import HOSTILE

from lakehouse.engines import Engine, open_engine
from lakehouse.table.s3 import object_url
from lakehouse.table.storage import Storage
from ridelake.errors import QueryRejected


@pytest.fixture(scope="module")
def published(published_in_each_place):
    return published_in_each_place


@pytest.fixture(scope="module", params=EVERY_ENGINE)
def engine(request, published) -> Iterator[Engine]:
    with open_engine(request.param, published.settings, published.epoch) as engine:
        yield engine


def test_there_are_at_least_60_different_hostile_queries():
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


@pytest.mark.timeout(900)
def test_hostile_statements_are_refused_and_change_nothing(engine, published, tmp_path: Path):
    """A failure lists every statement that the engine should have refused."""
    lake = published.settings.lake
    storage = Storage.of(lake)
    out, other = tmp_path / "out", str(tmp_path / "other.parquet")
    pinned = published.epoch.tables["cities"].locations[0]
    url = "http://127.0.0.1:9/x"
    if lake.remote:
        other, url = lake.join("other.parquet"), object_url(lake, lake.join("other.parquet"))
    with storage.open(pinned) as file:
        storage.write_whole(other, file.read())
    words = {"out": str(out), "other": other, "pinned": pinned.replace("'", "''"), "url": url}

    def files() -> dict[str, datetime]:
        return {file.location: file.modified_at for file in storage.files_under()}

    def fault_of(query: str) -> str:
        for key, value in words.items():
            query = query.replace(f"<{key}>", value)
        try:
            engine.sql(query)
        except QueryRejected as refused:
            message = str(refused)
            if not message.startswith(f"{engine.name}: ") or "its process ended unexpectedly" in message:
                return f"refused with the message {message!r}"
        else:
            return "not refused"
        if out.exists() or files() != before:
            return "wrote a file"
        (answer,) = engine.sql("SELECT count(*) AS n, min(fare_cents) AS least FROM rides").to_pylist()
        return "" if answer["n"] == 2000 and answer["least"] > 1 else f"the next answer is {answer}"

    before = files()
    assert {query: fault for query in HOSTILE if (fault := fault_of(query))} == {}


def test_a_query_cannot_reset_the_role(published):
    """As a superuser, a single statement could reset the role and then execute text as SQL."""
    query = (
        "SELECT query_to_xml('SELECT pg_' || 'read_file(''/etc/passwd'')', true, true, '') FROM"
        " (SELECT set_config('role', 'none', true) AS role OFFSET 0) AS x WHERE role IS NOT NULL"
    )
    with open_engine("postgres", published.settings, None) as rows:
        for text in (query, query.replace("set_config", 'U&"set\\005fconfig"')):
            with pytest.raises(QueryRejected, match="is not allowed"):
                rows.sql(text)
        assert rows.sql("SELECT current_user AS who")["who"].to_pylist() == ["pg_read_all_data"]
