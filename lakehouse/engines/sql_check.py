"""Check and translate a query as a syntax tree, for engines with another dialect or no read-only mode.

`CheckedEngine` is the base class of these engines.

The tree is checked, and the engine gets SQL generated from the tree, so the checked query is the one that is
executed. The query must be one SELECT. It may use the tables of the epoch and its own CTEs, but no table
functions. Of the functions that sqlglot does not know, it may use those that the engine lists as harmless.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import ClassVar, cast

import pyarrow as pa
import sqlglot
from sqlglot import exp

from lakehouse.engines.parameters import NO_PARAMETERS, Parameters
from ridelake.errors import QueryRejected

# The dialect of `ridelake sql`, which is close to that of Postgres.
DIALECT = "duckdb"

EXPLAIN = re.compile(r"\s*explain\b\s*", re.IGNORECASE)
READING = re.compile(r"read_|scan_", re.IGNORECASE)


class CheckedEngine(ABC):
    """An engine that executes SQL generated from the checked tree. A subclass sets `name`, `dialect` and
    `rules`, and implements `version` and `run`."""

    name: ClassVar[str]
    dialect: ClassVar[str]  # the name of the dialect in sqlglot
    rules: ClassVar[tuple[Callable[[exp.Expr], exp.Expr], ...]] = ()  # applied to each node, in this order
    binds_parameters: ClassVar[bool] = True  # False: `translated` depends on their values

    def __init__(self, tables: Collection[str]) -> None:
        """`tables`: the names that a query may use."""
        self._tables = tables
        self._written = lru_cache(maxsize=64)(self.written)

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def run(self, text: str, parameters: Parameters, *, explain: bool) -> pa.Table:
        """Execute SQL of the engine's dialect. Raises QueryRejected."""

    def is_harmless(self, function: str) -> bool:
        """Whether a query may use a function that sqlglot does not know."""
        return False

    def translated(self, tree: exp.Expr, parameters: Parameters) -> exp.Expr:
        """The tree in the engine's dialect."""
        for rule in self.rules:
            tree = tree.transform(rule)
        return tree

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        explain, query = split_explain(query)
        is_cached = self.binds_parameters or not parameters
        text = self._written(query) if is_cached else self.written(query, parameters)
        return self.run(text, parameters, explain=explain)

    def written(self, query: str, parameters: Parameters = NO_PARAMETERS) -> str:
        """The query in the engine's dialect. Raises QueryRejected unless it meets the conditions of the
        module."""
        tree = parse_checked(self.name, query, self._tables, self.is_harmless)
        return self.translated(tree, parameters).sql(dialect=self.dialect)

    def interrupt(self) -> None:  # noqa: B027 (not abstract: most engines do not need it)
        """Not used unless the engine can cancel a query: `subprocess_engine.py` kills the process."""


def split_explain(query: str) -> tuple[bool, str]:
    """Whether the query begins with EXPLAIN, and the rest of it."""
    found = EXPLAIN.match(query)
    return found is not None, query[found.end() :] if found else query


def parse_checked(
    engine: str, query: str, tables: Collection[str], harmless: Callable[[str], bool] = lambda _: False
) -> exp.Query:
    """The query's tree. Raises QueryRejected unless it meets the conditions of the module."""
    try:
        statements = [tree for tree in sqlglot.parse(query, dialect=DIALECT) if tree is not None]
    except (sqlglot.errors.SqlglotError, RecursionError) as error:
        raise QueryRejected(f"{engine}: {_message(error)}") from error
    if len(statements) != 1:
        raise QueryRejected(f"{engine}: expected one statement, got {len(statements)}")
    tree = statements[0]
    if not isinstance(tree, exp.Query):
        word = tree.name if isinstance(tree, exp.Command) else type(tree).__name__
        raise QueryRejected(
            f"{engine}: {word.upper()} is not allowed, because an epoch is read-only: use SELECT"
        )
    _refuse_names(engine, tree, tables)
    for function in tree.find_all(exp.Func):
        _refuse_function(engine, function, harmless)
    for node in tree.find_all(exp.DML, exp.DDL, exp.Command, exp.Into, exp.Lock, exp.QueryTransform):
        if not isinstance(node, exp.Query):
            raise QueryRejected(
                f"{engine}: {type(node).__name__.upper()} is not allowed, because an epoch is read-only: "
                "remove it"
            )
    return tree


def _refuse_names(engine: str, tree: exp.Query, tables: Collection[str]) -> None:
    known = {name.lower() for name in tables} | {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier) or table.db:
            raise QueryRejected(
                f"{engine}: {table.sql(DIALECT)} is not a table of the epoch: use one of "
                f"{', '.join(sorted(tables))}"
            )
        if table.name.lower() not in known:
            raise QueryRejected(
                f"{engine}: there is no table {table.name}; there are {', '.join(sorted(tables))}"
            )


def _refuse_function(engine: str, function: exp.Func, harmless: Callable[[str], bool]) -> None:
    """Check that a function is harmless. Raises QueryRejected unless sqlglot knows the function,
    or the engine lists it as harmless."""
    named = isinstance(function, exp.Anonymous | exp.AnonymousAggFunc)
    name = function.name if named else function.sql_name()
    if READING.match(name) or (named and not harmless(name)):
        raise QueryRejected(f"{engine}: the function {name} is not allowed: use another function")


# Rules of translation: each takes a node of the tree and returns its replacement.


def basic_sql(node: exp.Expr) -> exp.Expr:
    """For engines with little SQL: f(x) FILTER (WHERE c) becomes f(CASE WHEN c THEN x ELSE NULL END),
    CASE x WHEN 1 becomes CASE WHEN x = 1, and every CASE gets an ELSE."""
    if isinstance(node, exp.Filter):
        aggregate, condition = node.this.copy(), node.expression.this
        value = exp.Literal.number(1) if isinstance(aggregate.this, exp.Star) else aggregate.this
        cases = exp.Case().when(condition, value).else_(exp.Null())
        aggregate.set("this", cases.transform(basic_sql))  # `transform` does not visit new nodes
        return cast(exp.Expr, aggregate)
    if isinstance(node, exp.Case):
        if node.this:
            for branch in node.args["ifs"]:
                branch.set("this", exp.EQ(this=node.this.copy(), expression=branch.this))
            node.set("this", None)
        if node.args.get("default") is None:
            node.set("default", exp.Null())
    return node


def exact_average(node: exp.Expr) -> exp.Expr:
    """For engines that truncate the average of a decimal: cast the argument to DOUBLE."""
    if isinstance(node, exp.Avg) and not isinstance(node.this, exp.Distinct):
        node.set("this", exp.cast(node.this, "DOUBLE"))
    return node


def exact_decimal(node: exp.Expr) -> exp.Expr:
    """For engines in which 0.01 is a double: cast it to a decimal, as in standard SQL, so that results are
    exact."""
    if (
        isinstance(node, exp.Literal)
        and not node.is_string
        and re.fullmatch(r"\d*\.\d+", node.name)
        and isinstance(node.parent, exp.Mul | exp.Add | exp.Sub)
    ):
        whole, _, digits = node.name.partition(".")
        return exp.cast(exp.Literal.string(f"{whole or 0}.{digits}"), f"DECIMAL(38, {len(digits)})")
    return node


def unqualified_names(node: exp.Expr) -> exp.Expr:
    """For engines that name a result column `rides.city_id`: add the alias `city_id`."""
    if isinstance(node, exp.Select):
        named = [
            exp.alias_(one, one.name, quoted=one.this.quoted) if _is_qualified(one) else one
            for one in node.expressions
        ]
        node.set("expressions", named)
    return node


def _is_qualified(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and bool(node.table) and isinstance(node.this, exp.Identifier)


def _message(error: Exception) -> str:
    """sqlglot's message without terminal colors."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or "the query is nested too deeply"
