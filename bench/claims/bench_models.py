"""Claims about data models: normalised tables or one wide table, tables or documents. All are in Postgres, so
that only the model differs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import cycle
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import TupleRow

from bench.env import BenchEnv, scratch_schema
from bench.figure import Axis, Chart, Figure, Series, assert_equal, verdict_of
from bench.textbook import ClaimId
from ridelake.queries import load_queries

QUERIES = load_queries("bench.claims")

NORMALISED, FLAT = "the normalised model", "the wide table"
DOCUMENTS, TABLES = "the document model", "the relational model"
FETCH, UPDATE, SUM = "fetch one whole", "change one field", "sum over all"
TASKS = {
    FETCH: {DOCUMENTS: "fetch_document", TABLES: "fetch_rows"},
    UPDATE: {DOCUMENTS: "tip_document", TABLES: "tip_rows"},
    SUM: {DOCUMENTS: "sum_documents", TABLES: "sum_rows"},
}
STORED = {DOCUMENTS: ["documents"], TABLES: ["rides", "payments", "riders", "drivers", "zones"]}
BOOKS_PER_PUBLISHER = 200
BANANA, PINEAPPLE = "Banana Press", "Pineapple Press"
RIDES_COMPARED = 200

Answer = list[TupleRow]


def bench_normalised(figure: Figure, env: BenchEnv) -> None:
    figure.title = "What does it cost to rename a publisher and to list the books?"
    books = figure.rows = figure.scale.rides
    with scratch_schema(env.store) as connection:
        _make_books(connection, books)
        listing = {
            NORMALISED: partial(_answer, connection, QUERIES["list_books"], {}),
            FLAT: partial(_answer, connection, QUERIES["list_books_flat"], {}),
        }
        renaming = {
            NORMALISED: partial(_rename, connection, QUERIES["rename_publisher"]),
            FLAT: partial(_rename, connection, QUERIES["rename_publisher_flat"]),
        }
        work = {
            name: statement_counts(connection, QUERIES[file], {"old": BANANA, "new": PINEAPPLE})
            for name, file in ((NORMALISED, "rename_publisher"), (FLAT, "rename_publisher_flat"))
        }
        _equal_by(listing)
        for variant in renaming.values():
            variant()  # restores the names
        listed = figure.interleaved(listing, assert_equal, label="listing")
        renamed = figure.interleaved(renaming, lambda renamed: _equal_by(listing), label="renaming")
        _equal_by(listing)
        sizes = {
            NORMALISED: _bytes_of(connection, ["books", "publishers"]),
            FLAT: _bytes_of(connection, ["flat_books"]),
        }
    figure.checked("both list the same books, publishers and prices before, between and after the updates")
    rename, join = figure.ratio(renamed.ratio(FLAT, NORMALISED)), figure.ratio(listed.ratio(NORMALISED, FLAT))
    figure.table(
        f"{books:,} books, {BOOKS_PER_PUBLISHER} per publisher",
        [
            {
                "model": name,
                "rename, ms": renamed.median_seconds(name) * 1000 / 2,  # there and back
                "rows changed": work[name].rows,
                "bytes of WAL": work[name].wal_bytes,
                "listing, ms": listed.median_seconds(name) * 1000,
                "bytes stored": sizes[name],
            }
            for name in (NORMALISED, FLAT)
        ],
    )
    figure.set_verdict(ClaimId.NORMALISED, verdict_of(rename.low > 1, join.low > 1))


def _make_books(connection: Connection[TupleRow], books: int) -> None:
    values = {"books": books, "publishers": books // BOOKS_PER_PUBLISHER}
    connection.execute(QUERIES["books"])
    for name in ("fill_publishers", "fill_books", "fill_flat_books"):
        connection.execute(QUERIES[name], values)
    connection.execute("VACUUM (ANALYZE) publishers, books, flat_books")


def _rename(connection: Connection[TupleRow], statement: LiteralString) -> None:
    """Rename and restore, so that every round starts from the same state."""
    for old, new in ((BANANA, PINEAPPLE), (PINEAPPLE, BANANA)):
        connection.execute(statement, {"old": old, "new": new})


def bench_documents(figure: Figure, env: BenchEnv) -> None:
    figure.title = "Is a ride better stored as a document or in tables?"
    with scratch_schema(env.store) as connection:
        connection.execute(QUERIES["documents"])
        connection.execute("VACUUM (ANALYZE) documents, rides, payments, riders, drivers, zones")
        drawn = connection.execute(QUERIES["some_rides"], {"rides": RIDES_COMPARED}).fetchall()
        changes = [{"ride_id": ride_id, "tip_cents": ride_id % 500} for (ride_id,) in drawn]
        _equal_rides(connection, changes)
        all_times = {
            task: figure.interleaved(
                {
                    model: _with_next_values(connection, QUERIES[file], changes)
                    for model, file in statements.items()
                },
                assert_equal if task == SUM else _no_comparison,
                label=task,
            )
            for task, statements in TASKS.items()
        }
        work = {
            (task, model): statement_counts(connection, QUERIES[file], changes[0])
            for task, statements in TASKS.items()
            for model, file in statements.items()
        }
        for change in changes:  # also the rides that no round has updated
            for file in TASKS[UPDATE].values():
                connection.execute(QUERIES[file], change)
        _equal_rides(connection, changes)
        sizes = {model: _bytes_of(connection, tables) for model, tables in STORED.items()}
    figure.rows = figure.scale.rides
    figure.checked(
        f"{len(changes)} rides are equal as documents and as rows, value by value, before and after the "
        "updates; the sums over all rides are equal"
    )
    figure.table(
        f"{figure.rows:,} rides",
        [
            {
                "task": task,
                "model": model,
                "ms": all_times[task].median_seconds(model) * 1000,
                "pages": done.pages,
                "bytes of WAL": done.wal_bytes,
                "bytes stored": sizes[model],
            }
            for (task, model), done in work.items()
        ],
    )
    bars = [
        Series(model, [*TASKS], [all_times[task].median_seconds(model) * 1000 for task in TASKS])
        for model in STORED
    ]
    figure.chart(Chart("bars", "One ride, and all of them", Axis("task"), Axis("ms", log=True), bars))
    ratios = {task: figure.ratio(times.ratio(DOCUMENTS, TABLES)) for task, times in all_times.items()}
    figure.set_verdict(ClaimId.DOCUMENT, verdict_of(ratios[FETCH].high < 1, ratios[SUM].low > 1))


@dataclass(frozen=True, slots=True)
class StatementCounts:
    """`pages`: pages of 8 KiB accessed by the whole statement. `wal_bytes`: bytes written to the WAL."""

    rows: int
    pages: int
    wal_bytes: int


def statement_counts(
    connection: Connection[TupleRow], statement: LiteralString, values: Mapping[str, object]
) -> StatementCounts:
    """Execute the statement once and return its counts."""
    explained = "EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) " + statement
    row = connection.execute(explained, values).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    changes = plan["Node Type"] == "ModifyTable"
    node = plan["Plans"][0] if changes else plan
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return StatementCounts(int(node["Actual Rows"]), pages, plan["WAL Bytes"])


def _with_next_values(
    connection: Connection[TupleRow], statement: LiteralString, values: list[dict[str, Any]]
) -> Callable[[], Answer]:
    """A query that uses the next values at each call."""
    following = cycle(values)
    return lambda: _answer(connection, statement, next(following))


def _answer(connection: Connection[TupleRow], statement: LiteralString, values: Mapping[str, Any]) -> Answer:
    cursor = connection.execute(statement, values)
    return cursor.fetchall() if cursor.description else []


def _equal_rides(connection: Connection[TupleRow], rides: list[dict[str, Any]]) -> None:
    for ride in rides:
        ((document,),) = _answer(connection, QUERIES["fetch_document"], ride)
        (row,) = _answer(connection, QUERIES["fetch_rows"], ride)
        assert leaves(document) == sorted(map(_text, row)), f"ride {ride['ride_id']} differs"


def leaves(document: Mapping[str, Any]) -> list[str]:
    """The values of a document at any depth, as text, sorted."""
    found: list[str] = []
    for value in document.values():
        found += leaves(value) if isinstance(value, Mapping) else [_text(value)]
    return sorted(found)


def _text(value: object) -> str:
    """JSON has no timestamps: Postgres writes them as ISO 8601 text, as does Python."""
    if isinstance(value, str) and value[:2] == "20" and "T" in value:
        return datetime.fromisoformat(value).isoformat()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _no_comparison(answers: dict[str, Answer]) -> None:
    """Accept all answers; the rides are compared before and after the timing."""


def _equal_by(variants: Mapping[str, Callable[[], Answer]]) -> None:
    assert_equal({name: variant() for name, variant in variants.items()})


def _bytes_of(connection: Connection[TupleRow], tables: list[str]) -> int:
    """Including their indexes."""
    row = connection.execute(
        "SELECT sum(pg_total_relation_size(name::regclass))::bigint FROM unnest(%s::text[]) AS name",
        (tables,),
    ).fetchone()
    assert row is not None
    return int(row[0])
