"""E3: on every engine, a query cannot write, wait, or access anything but the tables of the epoch."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from installed_engines import EVERY_ENGINE
from sandbox_queries import HOSTILE

from lakehouse.engines import Engine, open_engine
from ridelake.errors import QueryRejected


@pytest.fixture(scope="module")
def published(published_once):
    return published_once


@pytest.fixture(scope="module", params=EVERY_ENGINE)
def engine(request, published) -> Iterator[Engine]:
    with open_engine(request.param, published.settings, published.epoch) as engine:
        yield engine


def test_the_hostile_queries_are_unique_and_at_least_60():
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


@pytest.mark.timeout(900)
def test_hostile_statements_are_refused_and_change_nothing(engine, published, tmp_path: Path):
    """A failure lists every statement that the engine should have refused."""
    out, other = tmp_path / "out", tmp_path / "other.parquet"
    pinned = Path(published.epoch.tables["cities"].locations[0])
    other.write_bytes(pinned.read_bytes())
    words = {"out": str(out), "other": str(other), "pinned": str(pinned).replace("'", "''")}

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in published.settings.lake.folder.rglob("*")}

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
    """A superuser could do this in one statement: reset the role, then execute text as SQL."""
    query = (
        "SELECT query_to_xml('SELECT pg_' || 'read_file(''/etc/passwd'')', true, true, '') FROM"
        " (SELECT set_config('role', 'none', true) AS role OFFSET 0) AS x WHERE role IS NOT NULL"
    )
    with open_engine("postgres", published.settings, None) as rows:
        for text in (query, query.replace("set_config", 'U&"set\\005fconfig"')):
            with pytest.raises(QueryRejected, match="is not allowed"):
                rows.sql(text)
        assert rows.sql("SELECT current_user AS who")["who"].to_pylist() == ["pg_read_all_data"]
