"""The file scans of a query, as far as the engine reports them."""

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
    """Sums over all scans; None: not reported by the engine. See `olap.why.Touched`."""

    bytes: "int | None" = None
    files: "Part | None" = None
    row_groups: "Part | None" = None
    columns: "Part | None" = None
    rows_past_filters: int | None = None


def scans_of(engine: "Engine", question: "Question", rows: int, epoch: "Epoch") -> Scans:
    """Raises QueryRejected if the engine cannot explain the query, ProofFailed if the answer has changed."""
    if engine.name == "duckdb":
        from olap.why.duckdb import profiled

        return profiled(engine, question, rows, epoch)
    if engine.name == "polars":
        from olap.why.polars import explained

        return explained(engine, question)
    return Scans()


def tables_of(query: str, epoch: "Epoch") -> set[str] | None:
    """The tables of the epoch that the query uses, directly or through RideTable; None if the SQL cannot be
    parsed."""
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
    """A plan node and all its descendants."""
    yield node
    for child in node.get(children, ()):
        yield from walk(child, children)


def texts(value: Any) -> Sequence[str]:
    """A list of strings; DuckDB's profile has a plain string instead of a list of one."""
    return value if isinstance(value, list) else [value] if value else []
