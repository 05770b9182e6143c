"""Queries of a lake of several stores: of the union of all stores, and of one store."""

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from bare_database import run
from bucket import S3Lake, endpoint, s3_lake  # noqa: F401  (fixtures)
from installed_engines import EVERY_ENGINE
from terminal import ridelake

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.engines.store_views import union_queries
from lakehouse.source.tables import store_tables
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import newest_epoch
from olap.answer import difference
from olap.ask import answer_of
from olap.question import questions
from oltp.store import Store
from ridelake import open as opened_lake
from ridelake.errors import UsageError
from ridelake.settings import LakeAddress, Settings

FILE_ENGINES = [one for one in EVERY_ENGINE if one.values[0] != "postgres"]
COLUMNS = "id int PRIMARY KEY, price numeric(10, 2), at timestamptz DEFAULT '2026-07-01T00:00Z'"
BERLIN = [
    f"CREATE TABLE public.orders ({COLUMNS}, note text)",
    "INSERT INTO public.orders (id, price, note) SELECT n, n, 'b' FROM generate_series(1, 40) AS n",
    "CREATE TABLE public.typed (id int PRIMARY KEY, n int)",
    "CREATE TABLE public.sourced (id int PRIMARY KEY, source text)",
    "CREATE TABLE public.cased (id int PRIMARY KEY, \"Name\" text)",
    "CREATE TABLE public.\"only Berlin\" (id int PRIMARY KEY)",
    "INSERT INTO public.\"only Berlin\" VALUES (7)",
    "CREATE TABLE public.held (id int PRIMARY KEY, day date)",
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.mixed (id int PRIMARY KEY)",
    "CREATE TABLE shop.renamed (id int PRIMARY KEY)",
    "CREATE TABLE shop.held_elsewhere (id int PRIMARY KEY, day date)",
]  # fmt: skip
PARIS = [
    f"CREATE TABLE public.orders ({COLUMNS}, tags int[], stamps timestamp[], day date)",
    "INSERT INTO public.orders (id, price, tags, day) VALUES (1, 0.5, '{1,2}', '2026-07-02')",
    "CREATE TABLE public.typed (id int PRIMARY KEY, n text)",
    "CREATE TABLE public.sourced (id int PRIMARY KEY, source text)",
    "CREATE TABLE public.cased (id int PRIMARY KEY, name text)",
    "CREATE TABLE public.berlin_orders (id int PRIMARY KEY)",
    "CREATE TABLE public.held (id int PRIMARY KEY, day date)",
    "INSERT INTO public.held VALUES (1, 'infinity')",
    "CREATE SCHEMA shop",
    "CREATE TABLE public.mixed (id int PRIMARY KEY)",
    "CREATE TABLE shop.renamed (id int PRIMARY KEY)",
    "CREATE TABLE public.renamed (id int PRIMARY KEY)",
    "CREATE TABLE public.held_elsewhere (id int PRIMARY KEY, day date)",
    "INSERT INTO public.held_elsewhere VALUES (1, 'infinity')",
]


@pytest.fixture(scope="module")
def two_stores(seeded_store_once: Store, other_seeded_store_once: Store) -> tuple[Store, Store]:
    run(seeded_store_once, *BERLIN)
    track(seeded_store_once, "public.orders")
    run(other_seeded_store_once, *PARIS, "UPDATE rides SET fare_cents = 2 * fare_cents WHERE ride_id % 3 = 0")
    return seeded_store_once, other_seeded_store_once


@pytest.fixture(scope="module")
def settings(two_stores: tuple[Store, Store], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake of both stores. A file of `orders` has deleted rows."""
    return published(two_stores, LakeAddress.at(tmp_path_factory.mktemp("stores") / "lake"))


def published(stores: tuple[Store, Store], address: LakeAddress) -> Settings:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lakehouse.capture.writer.SEAL_ROWS", 20)
        lakes = [Lake.create(address, name) for name in ("berlin", "paris")]
        both = [f"public.{name}" for name in ("orders", "typed", "sourced", "cased", "held")]
        names = (['public."only Berlin"', "shop.mixed", "shop.renamed", "shop.held_elsewhere"],
                 ["public.berlin_orders", "public.mixed", "public.renamed", "shop.renamed",
                  "public.held_elsewhere"])  # fmt: skip
        for store, lake, tables in zip(stores, lakes, names, strict=True):
            more = [*store_tables(), *both, *tables]
            publish_snapshot(store, lake, tables=more, nested="typed")
        run(stores[0], "UPDATE public.orders SET note = 'changed' WHERE id = 3")
        publish_changes(stores[0], lakes[0])
    assert newest_epoch(address).tables["berlin_orders"].deletes
    return Settings(home=Path("unused"), lake=address)


@pytest.fixture(scope="module")
def epoch(settings: Settings) -> Epoch:
    return newest_epoch(settings.lake)


@pytest.mark.parametrize("name", FILE_ENGINES)
def test_every_engine_has_the_rows_of_all_stores_with_their_source(
    name: str, settings: Settings, epoch: Epoch
):
    with open_engine(name, settings, epoch) as engine:
        counts = engine.sql("SELECT source, count(*) AS n FROM rides GROUP BY source ORDER BY source")
        assert counts.to_pylist() == [{"source": "berlin", "n": 2_000}, {"source": "paris", "n": 2_000}]
        table = engine.sql("SELECT * FROM orders WHERE id IN (1, 3) ORDER BY source, id")
        found = engine.sql("SELECT sum(price) AS total, count(note) AS notes, count(day) AS days FROM orders")
        alone = engine.sql('SELECT source, id FROM "only Berlin"').to_pylist()
        own = engine.sql("SELECT count(*) AS n FROM berlin_orders").to_pylist()
    rows = table.to_pylist()
    assert [row["source"] for row in rows] == ["berlin", "berlin", "paris"]
    assert [row["note"] for row in rows] == ["b", "changed", None]
    assert [row["tags"] for row in rows] == [None, None, [1, 2]]
    types = {name: table.schema.field(name).type for name in ("tags", "stamps")}
    assert all(pa.types.is_list(one) or pa.types.is_large_list(one) for one in types.values()), types
    assert types["stamps"].value_type.tz is None, "a timestamp without a time zone has none in the answer"
    assert [row["price"] for row in rows] == [Decimal("1.00"), Decimal("3.00"), Decimal("0.50")]
    assert list(rows[0]) == ["source", "id", "price", "at", "note", "tx", "tags", "stamps", "day"]
    assert rows[2]["tx"] is None, "tx must be NULL, because paris does not track the table"
    assert found.to_pylist() == [{"total": Decimal("820.50"), "notes": 40, "days": 1}]
    assert alone == [{"source": "berlin", "id": 7}]
    assert own == [{"n": 40}]


def test_incompatible_tables_have_no_union(settings: Settings, epoch: Epoch):
    queries, omitted = union_queries(settings.lake, epoch)
    assert omitted == {
        "typed": "column n has different types in berlin, paris",
        "sourced": "berlin_sourced has a column source itself",
        "cased": "column Name is named name in paris_cased",
        "berlin_orders": "the name is that of another table or view",
        "held": "paris has no public.held in this epoch",
        "mixed": "it is not the same table in all stores, but public.mixed and shop.mixed",
        "renamed": "it is not the same table in all stores, but public.renamed and shop.renamed",
        "shop.renamed": "the table shop.renamed of berlin is named berlin_renamed",
        "held_elsewhere": "paris has no public.held_elsewhere in this epoch",
    }
    assert {"rides", "orders", "only Berlin"} <= queries.keys()
    assert not queries.keys() & (epoch.tables.keys() | omitted.keys())


def test_a_query_of_a_missing_union_gets_the_reason(settings: Settings):
    flags = ["--lake", settings.lake.root]
    done = ridelake("sql", *flags, "SELECT * FROM typed")
    assert done.returncode == 1
    assert "there is no table typed of all stores: column n has different types" in done.stderr
    done = ridelake("sql", *flags, "SELECT count(*) FROM RideTable")
    assert done.returncode == 1
    assert "there is no table RideTable of all stores: " in done.stderr
    assert "choose one with --source" in done.stderr
    done = ridelake("sql", *flags, "SELECT count(*) AS n FROM ridelake.rides")
    assert (done.returncode, done.stdout) == (0, "n\n4000\n")
    assert "note" not in done.stderr


@pytest.mark.parametrize("name", FILE_ENGINES)
def test_every_question_is_answered_for_one_store(
    name: str, settings: Settings, epoch: Epoch, two_stores, tmp_path: Path
):
    """The answers equal those of a lake with only that store."""
    alone = Settings(home=tmp_path, lake=LakeAddress.at(tmp_path / "alone"))
    ordinary = publish_snapshot(two_stores[1], Lake.create(alone.lake))
    with (
        open_engine(name, settings, epoch.of("paris")) as engine,
        open_engine("duckdb", alone, ordinary) as reference,
    ):
        assert len(questions()) > 30
        for question in questions().values():
            answers = [answer_of(one, question) for one in (reference, engine)]
            assert difference(*answers, ordered=question.ordered, names=("alone", name)) is None, (
                question.name
            )


def test_a_question_needs_the_name_of_one_store(settings: Settings, two_stores: tuple[Store, Store]):
    flags = ["--lake", settings.lake.root]
    done = ridelake("ask", "average_price", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ridelake: question average_price: it needs the tables of one store: add --source berlin or "
        "--source paris\n"
    )
    done = ridelake(
        "ask", "average_price", *flags, "--source", "berlin", "--engine", "duckdb,polars", "--json"
    )
    assert done.returncode == 0
    assert [one["engine"] for one in json.loads(done.stdout)["engines"]] == ["duckdb", "polars"]
    both = ["--engine", "postgres,duckdb", "--dsn", two_stores[0].conninfo]
    assert ridelake("ask", "average_price", *flags, "--source", "berlin", *both).returncode == 0
    assert "paris" in ridelake("ask", *flags).stderr
    assert "driver_ranking" in ridelake("ask", *flags, "--source", "berlin").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "berlin=host=x password=secret"], "--source must be the name of a store here, without"),
        (["--source", "rome"], "has no store rome: its stores are berlin, paris"),
        (["--engine", "postgres"], "postgres reads one store, and epoch 3 has berlin, paris: choose one"),
        (["--engine", "postgres", "--source", "berlin"], "postgres reads the store berlin itself: pass its"),
        (["--fresh"], "--fresh reads one store: choose it with --source, and pass its database with --dsn"),
        (["--fresh", "--source", "berlin"], "--fresh reads the store berlin itself: pass its database"),
    ],
)
def test_an_option_for_one_store_is_refused_in_one_line(
    settings: Settings, arguments: list[str], message: str
):
    done = ridelake("sql", "SELECT 1", "--lake", settings.lake.root, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
    assert "secret" not in done.stderr


def test_postgres_answers_for_the_store_of_its_database_only(
    settings: Settings, two_stores: tuple[Store, Store]
):
    flags = ["--lake", settings.lake.root, "--source", "paris", "--engine", "postgres"]
    query = "SELECT count(*) AS rides FROM rides"
    assert ridelake("sql", *flags, "--dsn", two_stores[1].conninfo, query).stdout == "rides\n2000\n"
    wrong = ridelake("sql", *flags, "--dsn", two_stores[0].conninfo, query)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "this lake was taken from another database of the server" in wrong.stderr
    assert wrong.stderr.endswith(": check --dsn\n")


def test_fresh_rows_of_one_store(settings: Settings, two_stores: tuple[Store, Store]):
    run(two_stores[0], "INSERT INTO public.orders (id) VALUES (999)")
    try:
        flags = ["--lake", settings.lake.root, "--source", "berlin", "--fresh"]
        query = "SELECT max(id) AS id FROM orders"
        done = ridelake("sql", *flags, "--dsn", two_stores[0].conninfo, query)
        assert done.stdout == "id\n999\n", done.stderr
        wrong = ridelake("sql", *flags, "--dsn", two_stores[1].conninfo, query)
        assert wrong.returncode == 2
        assert "this lake was taken from another database of the server" in wrong.stderr
    finally:
        run(two_stores[0], "DELETE FROM public.orders WHERE id = 999")


@pytest.mark.slow
def test_engine_all_on_a_union_uses_the_engines_over_files(settings: Settings):
    query = "SELECT source, sum(fare_cents) AS c FROM rides GROUP BY source ORDER BY source"
    done = ridelake("sql", "--lake", settings.lake.root, "--engine", "all", "--why", "--json", query)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["token"] is None
    assert {"duckdb", "polars"} <= {one["engine"] for one in report["engines"]}
    assert "postgres" not in {one["engine"] for one in report["engines"]}


def test_a_lake_of_one_store_has_no_source(seeded_store: Store, tmp_path: Path):
    address = LakeAddress.at(tmp_path / "lake")
    publish_snapshot(seeded_store, Lake.create(address))
    done = ridelake("sql", "--lake", address.root, "--source", "berlin", "SELECT 1")
    assert (done.returncode, done.stderr) == (
        2, "ridelake: epoch 1 has no store berlin: its lake has one store\n"
    )  # fmt: skip
    with pytest.raises(UsageError, match="its lake has one store"):
        newest_epoch(address).of("berlin")


def test_the_python_api_reads_all_stores_or_one(settings: Settings):
    with opened_lake(lake=settings.lake.root) as lake:
        assert lake.sql("SELECT count(*) FROM rides").rows() == [(4_000,)]
        assert lake.sql("SELECT count(*) FROM rides", source="paris").rows() == [(2_000,)]
        both = lake.compare("SELECT count(*) FROM RideTable", ["duckdb", "polars"], source="paris")
        assert len(both.answer) == 1
        assert lake.duckdb().sql("SELECT DISTINCT source FROM rides").fetchall()
        with pytest.raises(UsageError, match="has no store rome"):
            lake.sql("SELECT 1", source="rome")
        with pytest.raises(UsageError, match="the lake has the stores berlin, paris"):
            lake.verify()


@pytest.mark.slow
@pytest.mark.parametrize("name", FILE_ENGINES)
def test_the_union_is_read_from_a_bucket(name: str, s3_lake: S3Lake, two_stores: tuple[Store, Store]):  # noqa: F811
    for store, source in zip(two_stores, ("berlin", "paris"), strict=True):
        lake = Lake.create(s3_lake.address, source)
        publish_snapshot(store, lake, tables=["public.orders", "ridelake.rides"], nested="typed")
    settings = replace(s3_lake.settings, dsn=None)
    with open_engine(name, settings, newest_epoch(s3_lake.address)) as engine:
        found = engine.sql("SELECT source, count(*) AS n FROM orders GROUP BY source ORDER BY source")
        both = engine.sql(
            "SELECT o.source, o.note, o.day, t.note AS other FROM orders AS o JOIN orders AS t"
            " ON t.source = o.source AND t.id = o.id WHERE o.id = 4 OR o.source = 'paris' ORDER BY o.source"
        )
        rides = engine.sql("SELECT count(*) AS n FROM rides WHERE source = 'paris'")
    assert found.to_pylist() == [{"source": "berlin", "n": 40}, {"source": "paris", "n": 1}]
    assert both.to_pylist() == [
        {"source": "berlin", "note": "b", "day": None, "other": "b"},
        {"source": "paris", "note": None, "day": date(2026, 7, 2), "other": None},
    ]
    assert rides.to_pylist() == [{"n": 2_000}]
