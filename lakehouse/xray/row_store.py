"""The current heap page of a ride in Postgres.

The page is read with pageinspect, which requires a superuser. If it is not installed, it is created in a
transaction that is rolled back. For any other role, the tuples of the page are found by ctid and
pg_column_size.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from psycopg import Connection, IsolationLevel, Rollback
from psycopg.rows import TupleRow

from lakehouse.xray.heap_page import (
    HEADER,
    POINTER_BYTES,
    TUPLE_HEADER,
    Attribute,
    HeapPage,
    Span,
    Tuple,
    aligned,
    parse_page,
)
from lakehouse.xray.heap_value import Value, decode
from oltp.store import Store, transaction
from ridelake.errors import NotReady

ALIGNMENT_BYTES = 8  # MAXALIGN: the alignment of a tuple and of its data


@dataclass(frozen=True, slots=True)
class RideInHeap:
    """`index_pages`: from the root of the primary key to the leaf; None if not measured. `values`: of the
    ride, decoded from its bytes; empty if the role may not read them."""

    page: HeapPage
    ride: Tuple
    heap_bytes: int
    index_pages: int | None
    values: Mapping[str, Value]

    @property
    def heap_pages(self) -> int:
        return self.heap_bytes // self.page.page_bytes


def ride_in_heap(store: Store, ride_id: int) -> RideInHeap:
    """Raises NotReady if the ride is not in Postgres."""
    with store.connect() as connection:
        may, schema = _row(connection, "may_read_pages.sql")
        with _snapshot(connection, create=may and schema is None):
            if schema is not None:
                connection.execute("SELECT set_config('search_path', %s, true)", (f'ridelake, "{schema}"',))
            found = connection.execute(_sql("place.sql"), {"ride_id": ride_id}).fetchone()
            if found is None:
                raise NotReady(
                    f"ride {ride_id} is in the newest epoch but no longer in Postgres: run `ridelake "
                    "snapshot`, or choose another ride with --ride"
                )
            block, number, heap_bytes, page_bytes = found
            attributes = [Attribute(*row) for row in _attributes(connection)]
            if may:
                content, index_pages = _row(connection, "raw_page.sql", {"block": block})
                page = parse_page(block, content, attributes)
            else:
                index_pages, page = None, _page_by_sizes(connection, block, page_bytes, attributes)
    ride = page.tuple_at(number)
    return RideInHeap(page, ride, heap_bytes, index_pages, _values(page, ride, attributes))


def _values(page: HeapPage, ride: Tuple, attributes: list[Attribute]) -> dict[str, Value]:
    if page.content is None:
        return {}
    return {
        attribute.name: decode(page.content, ride.columns[attribute.name], attribute)
        for attribute in attributes
        if not attribute.dropped
    }


@contextmanager
def _snapshot(connection: Connection[TupleRow], *, create: bool) -> Iterator[None]:
    """One snapshot, so that visible rows do not move. A created extension is rolled back."""
    with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=not create):
        if create:
            connection.execute("CREATE EXTENSION pageinspect")
        yield
        if create:
            raise Rollback


def _attributes(connection: Connection[TupleRow]) -> list[tuple[Any, ...]]:
    return [
        (name, type_, length, alignment, {int(oid): word for oid, word in (labels or {}).items()}, dropped)
        for name, type_, length, alignment, labels, dropped in connection.execute(_sql("attributes.sql"))
    ]


def _page_by_sizes(
    connection: Connection[TupleRow], block: int, page_bytes: int, attributes: list[Attribute]
) -> HeapPage:
    """Compute the page from the sizes of its tuples. Rides have only columns of fixed length, so the nulls of
    a row determine the position of each value. Postgres places tuples from the end of the page."""
    rows = connection.execute(
        _sql("sizes_of_tuples.sql"), {"first": f"({block},0)", "after": f"({block + 1},0)"}
    ).fetchall()
    upper, tuples = page_bytes, []
    for number, size, nulls in rows:
        upper -= (size + ALIGNMENT_BYTES - 1) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
        tuples.append(_tuple_by_size(number, Span(upper, size), nulls, attributes))
    numbers = {number for number, _, _ in rows}
    last = max(numbers)
    return HeapPage(
        block,
        page_bytes,
        HEADER.size + POINTER_BYTES * last,
        upper,
        tuple("normal" if number in numbers else "unused" for number in range(1, last + 1)),
        tuple(tuples),
        None,
    )


def _tuple_by_size(number: int, span: Span, nulls: list[str], attributes: list[Attribute]) -> Tuple:
    bitmap_bytes = (len(attributes) + 7) // 8 if nulls else 0
    header = TUPLE_HEADER.size + bitmap_bytes
    header = (header + ALIGNMENT_BYTES - 1) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
    place = 0
    columns: dict[str, Span | None] = {}
    for attribute in attributes:
        if attribute.dropped:
            continue
        if attribute.name in nulls:
            columns[attribute.name] = None
            continue
        place = aligned(place, attribute)
        columns[attribute.name] = Span(span.offset + header + place, attribute.length)
        place += attribute.length
    return Tuple(number, span, header, columns)


def _row(connection: Connection[TupleRow], file: str, values: Mapping[str, Any] | None = None) -> TupleRow:
    found = connection.execute(_sql(file), values).fetchone()
    assert found is not None
    return found


def _sql(file: str) -> bytes:
    return files("lakehouse").joinpath("xray", file).read_bytes()
