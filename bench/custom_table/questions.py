"""Queries on any table, derived from the column types. They are built as syntax trees, so that any name is
quoted correctly."""

import pyarrow as pa
from sqlglot import exp

from lakehouse.table.columns import DECIMAL_DIGITS_MAX, SourceColumn
from olap.question import Question, ad_hoc_question

GROUPS_MIN, GROUPS_MAX = 2, 1_000


def middle_key(table: str, key: SourceColumn, rows: int) -> Question:
    """The key of the row in the middle of the table."""
    tree = exp.select(_column(key)).from_(_table(table)).order_by(_column(key))
    return _question(tree.offset(rows // 2).limit(1))


def look_up(table: str, key: SourceColumn, value: int | str) -> Question:
    """The row with this key."""
    wanted = exp.EQ(this=_column(key), expression=exp.Placeholder(this="key"))
    return _question(exp.select("*").from_(_table(table)).where(wanted), {"key": value})


def scan(table: str, columns: list[SourceColumn], rows: int) -> Question:
    """One aggregate for each column, which has to read all values of the column."""
    selected = [exp.alias_(_summary(column, rows), f"c{number}") for number, column in enumerate(columns)]
    return _question(exp.select(*selected).from_(_table(table)))


def grouped(table: str, by: SourceColumn, measure: SourceColumn | None) -> Question:
    """The number of rows of each group, and the sum of `measure`."""
    selected: list[exp.Expr] = [exp.alias_(_column(by), "g"), exp.alias_(exp.Count(this=exp.Star()), "n")]
    if measure is not None:
        selected.append(exp.alias_(exp.Sum(this=_column(measure)), "total"))
    return _question(exp.select(*selected).from_(_table(table)).group_by(_column(by)))


def count_distinct(table: str, columns: list[SourceColumn]) -> Question:
    selected = [
        exp.alias_(exp.Count(this=exp.Distinct(expressions=[_column(column)])), f"c{number}")
        for number, column in enumerate(columns)
    ]
    return _question(exp.select(*selected).from_(_table(table)))


def may_group(column: SourceColumn) -> bool:
    return not column.in_key and not pa.types.is_floating(column.arrow_type)


def has_exact_sum(column: SourceColumn, rows: int) -> bool:
    """Whether the sum of this many rows does not depend on their order and fits into 38 digits, the limit of
    DuckDB."""
    arrow = column.arrow_type
    if pa.types.is_decimal(arrow):
        return bool(arrow.precision + len(str(rows)) <= DECIMAL_DIGITS_MAX)
    return bool(pa.types.is_integer(arrow))


def _summary(column: SourceColumn, rows: int) -> exp.Expr:
    """An aggregate that is exact and reads the column. MIN and MAX are not used: the footer of a file answers
    them. Each expression has the same result in Postgres and DuckDB; a cast of char(n) or bytea to text has
    not."""
    found, arrow = _column(column), column.arrow_type
    if has_exact_sum(column, rows):
        return exp.Sum(this=found)
    if pa.types.is_boolean(arrow):
        return _how_many(found)
    if pa.types.is_decimal(arrow):
        return _how_many(exp.GT(this=found, expression=exp.Literal.number(0)))
    if pa.types.is_binary(arrow):
        return exp.Sum(this=exp.Anonymous(this="octet_length", expressions=[found]))
    if column.pg_type == "bpchar":
        trimmed = exp.Anonymous(this="rtrim", expressions=[found, exp.Literal.string(" ")])
        return exp.Sum(this=exp.Length(this=trimmed))
    if pa.types.is_floating(arrow):
        return _how_many(exp.GT(this=found, expression=exp.Literal.number(1)))
    if pa.types.is_timestamp(arrow) or pa.types.is_date(arrow):
        day = exp.Extract(this=exp.var("DAY"), expression=found)
        return _how_many(exp.GT(this=day, expression=exp.Literal.number(15)))
    return exp.Sum(this=exp.Length(this=exp.cast(found, "VARCHAR")))


def _how_many(condition: exp.Expr) -> exp.Expr:
    return exp.Count(this=exp.case().when(condition, exp.Literal.number(1)))


def _column(column: SourceColumn) -> exp.Column:
    return exp.column(exp.to_identifier(column.name, quoted=True))


def _table(name: str) -> exp.Table:
    return exp.Table(this=exp.to_identifier(name, quoted=True))


def _question(tree: exp.Expr, parameters: dict[str, int | str] | None = None) -> Question:
    # DuckDB's dialect writes a placeholder as $name, as `parameters.py` expects.
    return ad_hoc_question(tree.sql(dialect="duckdb"), parameters or {})
