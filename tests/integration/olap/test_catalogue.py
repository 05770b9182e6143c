"""The list of questions, and tables with schema names."""

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bare_database import bare_database, run
from terminal import answer, place_options, refusal, ridelake

from lakehouse.capture.publish import publish_changes
from lakehouse.engines import BASE_ENGINES, ENGINE_NAMES
from lakehouse.table.catalog import Lake
from olap.question import questions
from oltp.cluster.server import Cluster
from ridelake.settings import LakeAddress, Settings


@pytest.fixture(scope="module")
def shop(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Options for a lake of two user tables."""
    folder = tmp_path_factory.mktemp("shop")
    with bare_database(cluster) as store:
        run(
            store,
            "CREATE SCHEMA shop",
            'CREATE SCHEMA "Big Sales"',
            "CREATE TABLE shop.orders (id int PRIMARY KEY, customer int, note text)",
            'CREATE TABLE "Big Sales"."Customers" (id int PRIMARY KEY, name text)',
            "INSERT INTO shop.orders VALUES (1, 1, 'shop.orders'), (2, 1, 'x')",
            """INSERT INTO "Big Sales"."Customers" VALUES (1, 'Ada')""",
        )
        address = LakeAddress.at(folder / "lake")
        publish_changes(store, Lake.create(address), tables=["shop.orders", '"Big Sales"."Customers"'])
        yield ["--home", str(folder), "--lake", address.root, "--dsn", store.conninfo]


JOINED = """SELECT c.name, COUNT(*) AS orders FROM shop.orders AS o
    JOIN "Big Sales" . "Customers" AS c ON c.id = o.customer -- shop.orders
    WHERE o.note = 'shop.orders' GROUP BY c.name"""


@pytest.mark.parametrize("engine", BASE_ENGINES)
def test_a_table_is_found_by_its_qualified_name(shop: list[str], engine: str):
    assert answer("sql", JOINED, "--engine", engine, *shop).splitlines()[1] == "Ada,1"
    qualified = "SELECT shop.orders.id FROM SHOP.Orders ORDER BY 1"
    assert answer("sql", qualified, "--engine", engine, *shop).splitlines()[1:] == ["1", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", [name for name in ENGINE_NAMES if name not in BASE_ENGINES])
def test_the_other_engines_find_a_table_by_its_qualified_name(shop: list[str], engine: str):
    assert answer("sql", JOINED, "--engine", engine, *shop).splitlines()[1] == "Ada,1"


@pytest.mark.slow
def test_ridetable_is_found_by_its_qualified_name(settings_once: Settings):
    where = place_options(settings_once)
    for query in ("SELECT COUNT(*) FROM ridelake.RideTable", "SELECT COUNT(*) FROM ridelake.rides"):
        done = ridelake("sql", query, "--engine", "all", "--format", "none", *where)
        assert done.returncode == 0, done.stderr


def test_a_lake_without_ride_tables_has_no_questions(shop: list[str]):
    done = ridelake("ask", *shop)
    assert (done.returncode, done.stdout) == (0, "")
    assert 'epoch 1 has "Big Sales"."Customers", shop.orders but not the ride store' in done.stderr
    assert json.loads(answer("ask", "--json", *shop)) == []
    assert answer("ask", "--format", "csv", *shop) == "name,group,purpose,parameters\n"
    assert "which the questions need" in refusal("ask", "average_price", *shop)


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_the_list_shows_each_purpose_on_its_own_line(tmp_path: Path, columns: int):
    done = ridelake("ask", "--home", tmp_path, environment=os.environ | {"COLUMNS": str(columns)})
    lines = done.stdout.splitlines()
    assert len(lines) < 150 or columns < 80
    for question in questions().values():
        (place,) = [number for number, line in enumerate(lines) if line.split()[:1] == [question.name]]
        described = " ".join(" ".join(lines[place:]).split())
        assert question.summary in described
    assert [line.split(":")[0] for line in lines if line.startswith(("Look", "Ana"))] == [
        "Look-ups",
        "Analyses",
    ]


def test_the_list_is_available_in_every_format(tmp_path: Path):
    expected = {name: question.summary for name, question in questions().items()}

    def out(format_: str) -> str:
        return answer("ask", "--format", format_, "--home", tmp_path)

    rows = list(csv.DictReader(io.StringIO(out("csv"))))
    assert list(rows[0]) == ["name", "group", "purpose", "parameters"]
    assert {row["name"]: row["purpose"] for row in rows} == expected
    assert {row["group"] for row in rows} == {"look-up", "analysis"}
    assert rows == json.loads(out("json"))
    assert rows == [json.loads(line) for line in out("jsonl").splitlines()]
    assert out("markdown").count("\n") == len(expected) + 2
    assert (out("none"), out("table")) == ("", answer("ask", "--home", tmp_path))
    answer("ask", "-o", tmp_path / "list.parquet", "--home", tmp_path)
    assert pq.read_table(tmp_path / "list.parquet").to_pylist() == rows
    assert answer("ask", "--format", "csv", "--limit", "2", "--home", tmp_path).count("\n") == 3
