"""What the scans of files in a query took, as far as the engine itself tells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.engines import ride_table_query

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch
    from olap.question import Question
    from olap.why import Part


@dataclass(frozen=True, slots=True)
class Scans:
    """Of all scans together; None: the engine does not tell. See `olap.why.Touched`."""

    bytes: "int | None" = None
    files: "Part | None" = None
    row_groups: "Part | None" = None
    columns: "Part | None" = None
    rows_past_filters: int | None = None


def scans_of(engine: "Engine", question: "Question", rows: int, epoch: "Epoch") -> Scans:
    """Raises QueryRejected for what the engine cannot explain, ProofFailed if it answers otherwise now."""
    if engine.name == "duckdb":
        from olap.why.duckdb import profiled

        return profiled(engine, question, rows, epoch)
    if engine.name == "polars":
        from olap.why.polars import explained

        return explained(engine, question)
    return Scans()


def tables_of(query: str, epoch: "Epoch") -> set[str] | None:
    """The tables of the epoch that the query names, by itself or through RideTable; None for SQL that cannot
    be taken apart."""
    import sqlglot
    from sqlglot import exp

    def named(text: str, dialect: str) -> set[str]:
        return {table.name.lower() for table in sqlglot.parse_one(text, dialect=dialect).find_all(exp.Table)}

    known = {name.lower(): name for name in epoch.tables}
    try:
        names = named(query, "duckdb")
        if "ridetable" in names - set(known):
            names |= named(ride_table_query(), "postgres")
    except sqlglot.errors.SqlglotError:
        return None
    return {known[name] for name in names & set(known)}


def walk(node: Any, children: str) -> Iterator[Any]:
    """A node of a plan and all below it."""
    yield node
    for child in node.get(children, ()):
        yield from walk(child, children)


def texts(value: Any) -> Sequence[str]:
    """A profile has one text where there is one, and a list where there are more."""
    return value if isinstance(value, list) else [value] if value else []
