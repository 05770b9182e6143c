"""Explain an error or an empty answer: the engine's message, its position, and one hint."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlglot
from sqlglot import exp

from lakehouse.engines.parameters import NO_PARAMETERS, Parameters
from olap.ask import interruptible
from ridelake.errors import RidelakeError

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.table.epoch import Epoch

    Relations = Mapping[str, pa.Schema]
    from lakehouse.engines import Engine
    from olap.question import Question


NAME_SIMILARITY_MIN = (
    0.7  # a ratio of difflib; accepts fare_cent for fare_cents, not Stanford for transfer_id
)

_ENGINE_HINT = re.compile(
    r"did you mean|candidate|perhaps you meant|\bhint\b|valid columns|similar", re.IGNORECASE
)
_QUOTED = re.compile(r"""["'`]([^"'`\n]+)["'`]""")
_BARE = re.compile(
    r"(?:column|table|relation|identifier|field|view)(?: with)?(?: named?)? (\w+(?:\.\w+)*)", re.IGNORECASE
)
# The format of sqlparser (Polars, DataFusion), which reports the position without showing the line.
_PLACE = re.compile(r" at Line: (\d+), Column: (\d+)")
_UNKNOWN = re.compile(
    r"not (?:be )?(?:found|exist)|no such|unable to find|unknown|unresolved|no field", re.IGNORECASE
)


def error_sentence(message: str) -> str:
    """The error message of the engine, up to `LINE 1:` or an empty line."""
    lines = message.splitlines()
    end = next((n for n, line in enumerate(lines) if not line.strip() or line.startswith("LINE ")), None)
    return " ".join(lines[:end])


def error_position(message: str, query: str) -> str:
    """`LINE 1: …` with a caret below, from the engine or from the position in its message; else empty."""
    lines = message.splitlines()
    begin = next((n for n, line in enumerate(lines) if line.startswith("LINE ")), len(lines))
    if begin < len(lines) or (found := _PLACE.search(message)) is None:
        return "\n".join(lines[begin:])
    number, column = int(found[1]), int(found[2])
    query_lines = query.splitlines()
    if not (1 <= number <= len(query_lines) and 1 <= column <= len(query_lines[number - 1]) + 1):
        return ""
    head = f"LINE {number}: "
    return f"{head}{query_lines[number - 1]}\n{' ' * (len(head) + column - 1)}^"


def missing_table(query: str, epoch: "Epoch") -> str | None:
    """The reason why a table of the query was omitted from the epoch; None if no table was."""
    for name, reason in zip(epoch.left_out, epoch.missing(), strict=True):
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", query, re.IGNORECASE):
            return reason
    return None


def error_hint(message: str, query: str, relations: "Callable[[], Relations]") -> str | None:
    """A hint for a misspelt name or a wrong quote; None if the engine gave one itself or none is found.
    `relations` is called only if the error is about a name."""
    if found := re.search(r'column "([^"]+)" not found', message):
        if f'"{found[1]}"' in query:
            return f"write text in single quotes: '{found[1]}'"
        if text := re.fullmatch("[‘’“”](.*)[‘’“”]", found[1]):
            return f"these quotes are typographic; write '{text[1]}'"
    if _ENGINE_HINT.search(message) or not _UNKNOWN.search(message):
        return None
    named = [
        name for name in _QUOTED.findall(message) + _BARE.findall(message) if name.lower() in query.lower()
    ]
    if not named:
        return None
    known = relations()
    tables = {name.lower(): name for name in known}
    columns = {name.lower(): name for schema in known.values() for name in schema.names}
    for name in named:
        last = name.rsplit(".", 1)[-1].lower()
        if last in tables or last in columns:
            continue
        nearest = difflib.get_close_matches(last, [*columns, *tables], n=1, cutoff=NAME_SIMILARITY_MIN)
        if nearest:
            return f"did you mean {columns.get(nearest[0]) or tables[nearest[0]]}?"
        if f'"{name}"' in query:
            return f"write text in single quotes: '{name}'"
        return r"\d in the shell (`ridelake sql`) lists the tables, \d TABLE its columns"
    return None


SECONDS_MAX = 2.0  # per query on a column, so that a hint does not delay the prompt
CONDITIONS_MAX = 5
LISTED_VALUES_MAX = 10
READ_VALUES_MAX = 5_000  # distinct values of a text column that are searched for a close match
VALUE_SIMILARITY_MIN = 0.6


@dataclass(frozen=True, slots=True)
class QueryCondition:
    """A condition on one column of one table."""

    table: exp.Table
    column: exp.Column
    condition: exp.Expr
    shown: str


def is_empty(answer: pa.Table) -> bool:
    """Whether there are no rows, or one row of nulls and zeros, as aggregates return for no rows."""
    if answer.num_rows == 0:
        return True
    return answer.num_rows == 1 and all(not value for value in answer.to_pylist()[0].values())


def empty_answer_hints(question: "Question", engine: "Engine") -> Iterator[str]:
    """A sentence for each condition that no row matches. Empty if the query cannot be parsed or the engine
    takes too long."""
    try:
        tree = sqlglot.parse_one(question.sql_for(engine.name), dialect=_dialect(engine))
        for condition in list(_conditions(tree, engine))[:CONDITIONS_MAX]:
            if sentence := _remark(condition, question.parameters, engine):
                yield sentence
    except (sqlglot.errors.SqlglotError, RecursionError, RidelakeError):
        return


def _conditions(tree: exp.Expr, engine: "Engine") -> Iterator[QueryCondition]:
    """The conditions that every row must match: the parts of WHERE that are joined by AND."""
    cte_names = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for select in tree.find_all(exp.Select):
        where = select.args.get("where")
        if where is None:
            continue
        sources = [select.args.get("from_"), *(join.this for join in select.args.get("joins") or ())]
        tables = [
            source.this if isinstance(source, exp.From) else source
            for source in sources
            if source is not None
        ]
        if not all(isinstance(table, exp.Table) and table.name.lower() not in cte_names for table in tables):
            continue
        for part in where.this.flatten() if isinstance(where.this, exp.And) else (where.this,):
            if found := _condition(part, tables, engine):
                yield found


def _condition(part: exp.Expr, tables: Sequence[exp.Table], engine: "Engine") -> QueryCondition | None:
    part = part.unnest()
    columns = {(column.table.lower(), column.name.lower()) for column in part.find_all(exp.Column)}
    if len(columns) != 1 or part.find(exp.Query, exp.AggFunc, exp.Window) or not part.find(exp.Predicate):
        return None
    column = next(iter(part.find_all(exp.Column)))
    for table in tables:
        if column.table and column.table.lower() != table.alias_or_name.lower():
            continue
        plain = table.copy()
        plain.set("alias", None)
        if len(tables) > 1 and not column.table and column.name.lower() not in _columns(plain, engine):
            continue
        unqualified = part.transform(
            lambda node: exp.column(node.this.copy()) if isinstance(node, exp.Column) else node
        )
        return QueryCondition(plain, exp.column(column.this.copy()), unqualified, part.sql(_dialect(engine)))
    return None


def _columns(table: exp.Table, engine: "Engine") -> set[str]:
    query = exp.select("*").from_(table).limit(0)
    names: list[str] = engine.sql(query.sql(_dialect(engine))).schema.names
    return {name.lower() for name in names}


def _remark(condition: QueryCondition, parameters: Parameters, engine: "Engine") -> str | None:
    used = {node.name for node in condition.condition.find_all(exp.Placeholder, exp.Parameter)}
    values = {name: value for name, value in parameters.items() if name in used}
    one = exp.alias_(exp.Literal.number(1), "one")
    if _query(engine, exp.select(one).from_(condition.table).where(condition.condition).limit(1), values):
        return None
    return (
        f"no row matches {_with_values(condition.shown, values)}; {_column_values(condition, values, engine)}"
    )


def _column_values(condition: QueryCondition, values: Parameters, engine: "Engine") -> str:
    column = condition.column
    name = column.sql(_dialect(engine))
    distinct = exp.select(column).distinct().from_(condition.table).where(column.is_(exp.null()).not_())
    found = _query(engine, distinct.limit(LISTED_VALUES_MAX + 1))
    if not found:
        return f"{name} is null in every row"
    if len(found) <= LISTED_VALUES_MAX:
        return f"{name} is one of {', '.join(map(str, sorted(found)))}"
    if not isinstance(found[0], str):
        (low,) = _query(engine, exp.select(exp.Min(this=column).as_("low")).from_(condition.table))
        (high,) = _query(engine, exp.select(exp.Max(this=column).as_("high")).from_(condition.table))
        return f"{name} ranges from {low} to {high}"
    wanted = [
        *(literal.name for literal in condition.condition.find_all(exp.Literal) if literal.is_string),
        *(value for value in values.values() if isinstance(value, str)),
    ]
    known = {value.lower(): value for value in _query(engine, distinct.limit(READ_VALUES_MAX))}
    near = [
        known[match]
        for text in wanted
        for match in difflib.get_close_matches(text.lower(), known, n=3, cutoff=VALUE_SIMILARITY_MIN)
    ]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"{name} has values such as {', '.join(sorted(found)[:3])}"


def _query(engine: "Engine", query: exp.Select, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
    text = query.sql(_dialect(engine))
    answer = interruptible(engine, lambda: engine.sql(text, parameters), SECONDS_MAX)
    values: list[Any] = answer.column(0).to_pylist()
    return values


def _dialect(engine: "Engine") -> str:
    return "postgres" if engine.name == "postgres" else "duckdb"


def _with_values(shown: str, values: Parameters) -> str:
    for name, value in values.items():
        shown = shown.replace(f"${name}", f"'{value}'" if isinstance(value, str) else str(value))
    return shown
