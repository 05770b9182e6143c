"""Types of extensions, and xml, on the embedded server and on Postgres 15."""

from collections.abc import Mapping, Sequence

import pytest
from bare_database import rows_of, run
from keys_table import running, server_folder
from old_pair import DEBIAN_15
from own_tables import asked

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.verify import verify_now
from oltp.store import Store


def test_types_of_extensions_are_text_as_postgres_writes_them(bare: Store, lake: Lake):
    follow_extensions(bare, lake, EXTENSIONS)


@pytest.mark.slow
def test_types_of_extensions_and_xml_of_postgres_15_are_text_as_postgres_writes_them(lake: Lake):
    """The embedded server is compiled without xml."""
    if not (DEBIAN_15 / "pg_ctl").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    with server_folder() as (folder, run_as):
        run_as(
            DEBIAN_15 / "initdb", "-D", folder / "old", "--username=ridelake", "--no-sync", "--encoding=UTF8"
        )
        with running(DEBIAN_15, folder / "old", run_as) as server:
            xml = {"xml": ["<a>&lt;é</a>", '<?xml version="1.0"?><b/>', "text"]}
            follow_extensions(server, lake, EXTENSIONS | xml)


# Extension or type → texts of its values. Texts that are equal in Postgres, such as A and a, stay different.
EXTENSIONS = {
    "hstore": ['"a"=>"1", "b"=>NULL', "", '"é ,"=>"\\""'],
    "citext": ["Straße", "STRASSE", "a\nb"],
    "ltree": ["Top.Science", "", "a.b_c.1"],
    "cube": ["(0.1, 2),(3, 4)", "(1)", "()"],
    "isbn": ["978-0-393-04002-9", "0-306-40615-2", "9780393040029"],
    "seg": ["1.50", "~2.0 .. <3", "5.0(+-)0.3"],
}


def follow_extensions(store: Store, lake: Lake, values: Mapping[str, Sequence[str]]) -> None:
    """Publish a table with a column, an array and a composite of each type. Then publish changes."""
    names = [*values]
    columns = ", ".join(f"{name}_ shop.{name}" if name != "xml" else "xml_ xml" for name in names)
    arrays = ", ".join(f"{name}s shop.{name}[]" for name in names if name != "xml")
    run(store, "CREATE SCHEMA shop")
    for name in ("isn" if name == "isbn" else name for name in names if name != "xml"):
        run(store, f"CREATE EXTENSION {name} WITH SCHEMA shop")
    run(
        store,
        "CREATE TYPE shop.marked AS (word shop.citext, pairs shop.hstore)",
        f"CREATE TABLE shop.t (id int PRIMARY KEY, {columns}, {arrays}, marked shop.marked)",
    )
    track(store, "shop.t")
    with store.connect() as connection:
        for number, row in enumerate(zip(*values.values(), strict=True)):
            marks = ", ".join(["%s"] * len(row))
            filled = ", ".join(f"{name}_" for name in names)
            query = f"INSERT INTO shop.t (id, {filled}) VALUES ({number}, {marks})"
            connection.execute(query.encode(), row)
        connection.execute("INSERT INTO shop.t (id) VALUES (9)")
    arrays = ", ".join(f"{name}s = ARRAY[{name}_, NULL]" for name in names if name != "xml")
    publish_snapshot(store, lake, tables=["shop.t"], nested="typed", verify=True)
    run(
        store,
        f"UPDATE shop.t SET {arrays}, marked = (citext_, hstore_) WHERE id > 0",
        "DELETE FROM shop.t WHERE id = 2",
    )
    verify_now(store, lake).prove()
    publish_changes(store, lake, verify=True)
    every = list(asked(lake, "SELECT * EXCLUDE (id, tx) FROM t")[0])
    texts = ", ".join(f"format('%s', {name})" for name in every)
    blank = ", ".join(f"coalesce({name}, '')" for name in every)
    expected = rows_of(store, f"SELECT {texts} FROM shop.t ORDER BY id")
    found = asked(lake, f"SELECT {blank} FROM t ORDER BY id")
    assert [tuple(row.values()) for row in found] == expected
    assert len(expected) == 3
