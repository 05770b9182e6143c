"""The Python API returns the results of the commands, and the examples of its page run."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from bare_database import bare_database, rows_of, run
from factories import Town

import ridelake
from lakehouse.table.published import read_epochs
from oltp.cluster.server import Cluster
from oltp.store import Store
from ridelake import errors

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text("utf-8")
HEAVY = ("click", "psycopg", "pyarrow", "duckdb", "polars", "numpy", "sqlite3", "asyncio")


@pytest.fixture(autouse=True)
def without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "DSN", "LAKE", "CATALOG", "SPARK_MASTER"):
        monkeypatch.delenv(f"RIDELAKE_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shop(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, ridelake.Session]]:
    """A tracked table of 500 rows. The next epoch has delete files."""
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 60)
    with bare_database(cluster) as store, ridelake.open(dsn=store.conninfo, lake="lake") as lake:
        run(
            store,
            "CREATE SCHEMA shop",
            "CREATE TABLE shop.orders (id bigint PRIMARY KEY, total numeric(12, 2), note text)",
            "INSERT INTO shop.orders SELECT n, n / 7.0, '<b>&' || n FROM generate_series(1, 500) AS n",
        )
        assert lake.track("shop.orders") == "shop.orders"
        lake.sync(tables=["shop.orders"])
        run(
            store,
            "DELETE FROM shop.orders WHERE id % 50 = 0",
            "UPDATE shop.orders SET note = NULL WHERE id = 7",
        )
        yield store, lake


def test_the_examples_of_the_page_run(seeded_store: Store, monkeypatch: pytest.MonkeyPatch):
    run(seeded_store, "CREATE SCHEMA shop", "CREATE TABLE shop.orders (id int PRIMARY KEY, total int)")
    monkeypatch.setenv("RIDELAKE_DSN", seeded_store.conninfo)
    names: dict[str, object] = {}
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(examples) >= 8
    for example in examples:
        exec(compile(example, "docs/python.md", "exec"), names)
    assert isinstance(names["decision"], ridelake.Decision)
    assert isinstance(names["frame"], pl.DataFrame)


def test_the_page_names_every_method():
    methods = {name for name in vars(ridelake.Session) if not name.startswith("_")}
    assert {name for name in methods if not re.search(rf"\b{name}\b", PAGE)} == set()


def test_importing_the_package_imports_nothing_else():
    program = f"import ridelake, sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_exported_name_exists_and_every_error_is_exported():
    assert all(getattr(ridelake, name) is not None for name in ridelake.__all__)
    assert set(ridelake.__all__) <= set(dir(ridelake))
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert kinds <= set(ridelake.__all__)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        ridelake.absent  # noqa: B018


@pytest.mark.slow
def test_a_program_that_uses_the_api_passes_strict_type_checks(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(
        "import ridelake\n"
        "with ridelake.open(home='here') as lake:\n"
        "    rows: list[tuple[object, ...]] = lake.sql('SELECT 1', params={'n': 1}).rows()\n"
        "    number: int = lake.snapshot(tables=['shop.orders'], verify=True).number\n"
        "    seconds: float = lake.sync().seconds\n"
        "    lake.sync(tables=5)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert re.findall(r"program.py:(\d+): error: (.*)  \[", done.stdout) == [
        (
            "6",
            'Argument "tables" to "sync" of "Session" has incompatible type "int"; expected "Sequence[str]"',
        )
    ]


def test_all_ways_to_read_give_the_rows_of_postgres(shop: tuple[Store, ridelake.Session]):
    store, lake = shop
    synced = lake.sync(verify=True)
    assert synced.is_new
    assert synced.epoch is not None
    assert any(file.deleted for file in synced.epoch.files), "no file has deleted rows"
    expected = rows_of(store, "SELECT id, total, note FROM shop.orders ORDER BY id")
    query = "SELECT id, total, note FROM shop.orders ORDER BY id"
    for engine in ("duckdb", "polars", "pyarrow", "postgres"):
        answer = lake.sql(query, engine)
        assert answer.rows() == expected, engine
        assert (answer.engine, len(answer)) == (engine, 490)
    columns = ["id", "total", "note"]
    for name in ("orders", "shop.orders"):
        assert lake.scan(name).select(columns).sort("id").collect().rows() == expected
    dataset = lake.dataset("orders")
    assert dataset.count_rows() == 490
    assert pl.from_arrow(dataset.to_table(columns=columns)).sort("id").rows() == expected
    assert lake.duckdb().execute("SELECT id, total, note FROM orders ORDER BY id").fetchall() == expected
    assert answer.to_polars().rows() == expected
    assert list(answer.to_pandas()["id"]) == [row[0] for row in expected]


@pytest.mark.slow
def test_an_older_epoch_and_the_current_rows_can_be_read(shop: tuple[Store, ridelake.Session]):
    _, lake = shop
    first = lake.epochs()[0]
    count = "SELECT count(*) AS n FROM orders"
    assert lake.sql(count).rows() == [(500,)]
    assert lake.sql(count, fresh=True).rows() == [(490,)]
    assert lake.scan("orders", fresh=True).select(pl.len()).collect().item() == 490
    assert lake.dataset("orders", fresh=True).count_rows() == 490
    assert lake.sync().is_new
    for moment in (first.number, "1", datetime.fromisoformat(first.token.taken_at)):
        assert lake.sql(count, as_of=moment).rows() == [(500,)]
    assert lake.dataset("orders", as_of=1).count_rows() == 500
    assert lake.sql(count, as_of=datetime.now(UTC)).rows() == [(490,)]
    assert [epoch.number for epoch in lake.epochs()] == [2, 1]


def test_results_have_a_readable_repr(shop: tuple[Store, ridelake.Session]):
    _, lake = shop
    assert repr(lake.sync()).startswith("<SyncResult epoch 2: 1 rows changed, 10 deleted; 490 rows in ")
    assert repr(lake.sync()) == "<SyncResult epoch 2 is up to date: nothing has changed>"
    report = lake.verify()
    assert report.equal
    assert repr(report) == "<VerifyResult epoch 2: 490 rows equal>"
    assert re.fullmatch(r"<Epoch 2 as of \S+: 490 rows in 1 tables, 0.0 MB>", repr(lake.epochs()[0]))
    assert lake.verify_files(2) == len(lake.epochs()[0].stored_files)
    assert lake.maintain(keep_epochs=1).epochs_expired == 1
    assert lake.untrack("shop.orders") == "shop.orders"


def test_verify_raises_an_error_for_a_damaged_file(shop: tuple[Store, ridelake.Session]):
    _, lake = shop
    Path(lake.epochs()[0].files[0].location).write_bytes(b"")
    with pytest.raises(ridelake.ProofFailed, match="does not match its checksum"):
        lake.verify_files(1)


def test_a_table_that_is_left_out_is_a_warning(shop: tuple[Store, ridelake.Session]):
    store, lake = shop
    run(
        store,
        "CREATE TABLE shop.days (id int PRIMARY KEY, day date)",
        "INSERT INTO shop.days VALUES (1, 'infinity')",
    )
    with pytest.warns(ridelake.LakeWarning, match=r"shop.days is not in epoch 2: .*infinity"):
        epoch = lake.snapshot(tables=["shop.days"])
    assert set(epoch.left_out) == {"days"}


def test_tables_of_a_schema_are_followed(shop: tuple[Store, ridelake.Session]):
    store, lake = shop
    notes: list[str] = []
    lake.sync(selection=ridelake.Selection(schemas=("shop",), exclude=("tmp_*",)))
    run(
        store,
        "CREATE TABLE shop.items (id int PRIMARY KEY)",
        "CREATE TABLE shop.tmp_items (id int PRIMARY KEY)",
    )
    epoch = lake.sync(on_note=notes.append).epoch
    assert epoch is not None
    assert set(epoch.tables) == {"orders", "items"}
    assert "shop.items joins the lake" in notes


def test_an_epoch_that_is_read_is_kept_until_the_session_is_closed(shop: tuple[Store, ridelake.Session]):
    store, lake = shop
    frame = lake.scan("orders")
    run(store, "UPDATE shop.orders SET note = 'all'")
    with ridelake.open(dsn=store.conninfo, lake="lake") as other:
        other.sync()
        other.maintain(keep_epochs=1)
        assert frame.select(pl.len()).collect().item() == 500
        lake.close()
        assert other.maintain(keep_epochs=1).epochs_expired == 1
    assert [epoch.number for epoch in read_epochs(lake.settings.lake)][-1] > 1


def test_a_comparison_checks_the_answers_and_times_the_engines(shop: tuple[Store, ridelake.Session]):
    _, lake = shop
    lake.sync()
    query = "SELECT count(*) AS n, sum(total) AS total FROM orders"
    compared = lake.compare(query)
    assert set(compared.seconds) == {"postgres", "duckdb"}
    assert compared.answer.rows() == lake.sql(query).rows()
    assert re.search(r"^duckdb \S+ +[\d.]+ +1 +equal$", repr(compared), re.MULTILINE)
    assert compared._repr_html_().count("<tr>") == 3
    assert not compared.refused
    with pytest.raises(ridelake.AnswersDiffer):
        lake.compare("SELECT 7 / 2 AS n")


def test_the_html_of_an_answer_is_escaped(shop: tuple[Store, ridelake.Session]):
    _, lake = shop
    answer = lake.sql('SELECT note, 1 AS "<script>" FROM orders ORDER BY id')
    assert "<td>&lt;b&gt;&amp;1</td>" in answer._repr_html_()
    assert "<th>&lt;script&gt;</th>" in answer._repr_html_()
    assert "the first 20 of 500 rows (duckdb" in answer._repr_html_()
    assert "<b>" not in answer._repr_html_()
    assert len(repr(answer).splitlines()) == 24


def test_errors_equal_those_of_the_commands(shop: tuple[Store, ridelake.Session]):
    store, lake = shop
    with pytest.raises(ridelake.QueryRejected, match='column "totl" not found'):
        lake.sql("SELECT totl FROM orders")
    for statement in ("DELETE FROM orders", "COPY orders TO 'copy.csv'"):
        with pytest.raises(ridelake.QueryRejected, match="read-only"):
            lake.sql(statement)
    with pytest.raises(ridelake.UsageError, match="this is 2 statements"):
        lake.sql("SELECT 1; SELECT 2")
    with pytest.raises(ridelake.UsageError, match=r"no table order: did you mean orders\?"):
        lake.scan("order")
    with pytest.raises(ridelake.UsageError, match="there is no engine"):
        lake.sql("SELECT 1", "duck")
    with pytest.raises(ridelake.UsageError, match=r"pass \['shop.orders'\]"):
        lake.sync(tables="shop.orders")
    with pytest.raises(ridelake.TimedOut):
        lake.sql("SELECT count(*) FROM range(100000000000) AS a (n) WHERE n % 7 = 3", timeout=0.2)
    with pytest.raises(ridelake.NotReady, match="there is no ride store"):
        lake.store  # noqa: B018
    with pytest.raises(ridelake.NotReady, match="no epoch yet"):
        ridelake.open(dsn=store.conninfo, lake="empty").sql("SELECT 1")
    with pytest.raises(ridelake.CannotConnect):
        ridelake.open(dsn="host=/absent dbname=none", lake="empty").snapshot(tables=["t"])
    assert not Path("empty").exists()
    lake.close()
    with pytest.raises(ridelake.UsageError, match="the session is closed"):
        lake.sql("SELECT 1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nested": "type"}, "nested must be typed or text, not 'type'"),
        ({"infinity": "NULL"}, "infinity must be null or refuse, not 'NULL'"),
        ({"numeric": "38,9"}, "numeric must be text, or a precision"),
    ],
)
def test_a_form_that_does_not_exist_is_an_error(
    shop: tuple[Store, ridelake.Session], options: Any, message: str
):
    _, lake = shop
    before = lake.epochs()
    with pytest.raises(ridelake.UsageError, match=message):
        lake.sync(**options)
    assert lake.epochs() == before


def test_invalid_options_of_the_api_are_refused(shop: tuple[Store, ridelake.Session]):
    _, lake = shop
    names: Any = "shop"
    for option in ("schemas", "exclude"):
        with pytest.raises(ridelake.UsageError, match=r"pass \('shop',\)"):
            ridelake.Selection(**{option: names})
    before = lake.epochs()
    for keep in (0, -1):
        with pytest.raises(ridelake.UsageError, match=f"keep_epochs must be at least 1, not {keep}"):
            lake.maintain(keep_epochs=keep)
    assert lake.epochs() == before


def test_the_duckdb_connection_opens_only_the_files_of_its_epoch(shop: tuple[Store, ridelake.Session]):
    _, lake = shop
    Path("other.csv").write_text("a\n1\n")
    connection = lake.duckdb()
    for statement in (
        "FROM 'other.csv'",
        "FROM read_csv('other.csv')",
        "COPY orders TO 'out.csv'",
        "ATTACH 'db.duckdb'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ):
        with pytest.raises(Exception, match=r"(?i)not exist|permission|locked|disabled"):
            connection.execute(statement)
    assert not Path("out.csv").exists()


def test_a_ride_is_booked_once_alone_and_in_a_batch(store: Store):
    town = Town(store)
    town.driver()
    request = town.request(town.rider())
    with ridelake.open(dsn=store.conninfo) as lake:
        decision = lake.store.book(request)
        assert decision.outcome is ridelake.Outcome.ASSIGNED
        with lake.store.batcher() as batcher:
            assert batcher.bookings.call(request) == decision
        with lake.store.connect() as connection:
            assert connection.execute("SELECT count(*) FROM rides").fetchone() == (1,)
