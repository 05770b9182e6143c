"""Daft on the files of an epoch.

Daft's SQL can read any file that a query names, and this cannot be disabled, so queries are checked by
`sql_check.py`. It lacks FILTER, CASE x WHEN, COUNT(*) OVER and ISODOW, which are rewritten. If an alias is
named `rides`, it interprets `rides.x` as a field of that column.
"""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import reduce

import daft
import pyarrow as pa
from daft.io import IOConfig, S3Config
from sqlglot import exp

from lakehouse.engines import view_queries
from lakehouse.engines.parameters import Parameters, with_literals
from lakehouse.engines.sql_check import CheckedEngine, basic_sql, exact_average
from lakehouse.table.deletes import deleted_keys, deleted_rows
from lakehouse.table.epoch import Epoch, TableState
from lakehouse.table.s3 import ANSWER_SECONDS, ATTEMPTS, CONNECT_SECONDS, s3_filesystem
from ridelake.errors import QueryRejected
from ridelake.settings import S3, LakeAddress, Settings

# Daft interprets a path as a glob pattern.
PATTERN = re.compile(r"([\\\[\]*?{}!])")


class Daft(CheckedEngine):
    """A Daft session on the files of one epoch."""

    name = "daft"
    dialect = "postgres"
    rules = (basic_sql, exact_average)
    binds_parameters = False

    def __init__(self, frames: dict[str, daft.DataFrame]) -> None:
        super().__init__(frames)
        self._frames = frames

    def version(self) -> str:
        return daft.__version__

    def translated(self, tree: exp.Expr, parameters: Parameters) -> exp.Expr:
        _refuse_a_lost_order(tree)
        basic = super().translated(with_literals(tree, parameters), parameters)
        return _unambiguous(basic).transform(_translated_node)

    def run(self, text: str, parameters: Parameters, *, explain: bool) -> pa.Table:
        try:
            frame = daft.sql(text, register_globals=False, **self._frames)
            if explain:
                plan = io.StringIO()
                frame.explain(show_all=True, file=plan)
                return pa.table({"plan": plan.getvalue().splitlines()})
            return frame.to_arrow()
        except Exception as error:  # Daft's errors have no common base class
            raise QueryRejected(f"daft: {str(error).strip()}") from error


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[Daft]:
    lake = settings.lake
    config = _io_config(lake) if lake.remote else None
    frames = {
        name: _rows(table, deleted_keys(lake, table, deleted_rows(lake, table)), config)
        for name, table in epoch.tables.items()
    }
    engine = Daft(frames)
    for name, query in view_queries(settings, epoch).items():
        frames[name] = daft.sql(engine.written(query), register_globals=False, **frames)
    yield engine


def _io_config(lake: LakeAddress) -> IOConfig:
    """Daft's default is to try 25 times."""
    s3 = S3Config(
        region_name=s3_filesystem(lake).region,
        endpoint_url=lake.s3_endpoint,
        use_ssl=lake.s3_endpoint is None or lake.s3_endpoint.startswith("https://"),
        connect_timeout_ms=round(CONNECT_SECONDS * 1000),
        read_timeout_ms=round(ANSWER_SECONDS * 1000),
        num_tries=ATTEMPTS,
    )
    return IOConfig(s3=s3)


def _rows(table: TableState, deleted: Mapping[str, pa.Table], config: IOConfig | None) -> daft.DataFrame:
    """The rows of the table. Daft has no row numbers of files, so deleted rows are removed by their keys."""
    whole = [location for location in table.locations if location not in deleted]
    remote = [_literal(location) for location in whole if location.startswith(S3)]
    local = [_literal(location) for location in whole if not location.startswith(S3)]
    parts = [daft.read_parquet(some, io_config=config) for some in (remote, local) if some]
    for location, keys in deleted.items():
        rows = daft.read_parquet(_literal(location), io_config=config)
        parts.append(rows.join(daft.from_arrow(keys), on=list(table.key), how="anti"))
    return reduce(daft.DataFrame.concat, parts)


def _literal(location: str) -> str:
    """The path without glob patterns."""
    return PATTERN.sub(r"\\\1", location)


def _refuse_a_lost_order(tree: exp.Expr) -> None:
    """Refuse a query whose order Daft ignores. Raises QueryRejected for queries whose ORDER BY Daft 0.7 does
    not apply to the final result. For example, it sorts before it computes a window function of the same
    SELECT."""
    for query in tree.find_all(exp.SetOperation):
        if query.args.get("order") or query.args.get("limit") or query.args.get("offset"):
            raise QueryRejected(
                "daft: ORDER BY and LIMIT of a UNION apply to its last part only: put the UNION in a WITH, "
                "and order outside of it"
            )
    for select in tree.find_all(exp.Select):
        if (distinct := select.args.get("distinct")) is not None and distinct.args.get("on"):
            raise QueryRejected("daft: the ORDER BY of a DISTINCT ON is lost: use ROW_NUMBER() in a WITH")
        if select.args.get("order") and any(column.find(exp.Window) for column in select.expressions):
            raise QueryRejected(
                "daft: an ORDER BY in a SELECT with a window function is lost: compute the window in a WITH, "
                "and order outside of it"
            )


def _translated_node(node: exp.Expr) -> exp.Expr:
    if (
        isinstance(node, exp.Window)
        and isinstance(node.this, exp.Count)
        and isinstance(node.this.this, exp.Star)
    ):
        node.set("this", exp.Sum(this=exp.Literal.number(1)))
    if isinstance(node, exp.If) and isinstance(node.parent, exp.Case):  # a NULL condition selects ELSE
        node.set("this", exp.func("COALESCE", node.this, exp.false()))
    if isinstance(node, exp.Extract) and node.name.upper() == "ISODOW":
        return exp.paren(exp.func("day_of_week", node.expression) + 1)  # Daft: Monday is 0
    if isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal) and node.unit:
        return exp.Interval(this=exp.Literal.string(f"{node.this.name} {node.unit.name.lower()}s"))
    if isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.TIMESTAMPTZ:
        return exp.func(
            "replace_time_zone", _utc_clock(node.this.transform(_translated_node)), exp.Literal.string("UTC")
        )
    return node


def _utc_clock(moment: exp.Expr) -> exp.Expr:
    """A time as a timestamp in UTC without zone: Daft's CAST does not support zones."""
    if isinstance(moment, exp.Literal):
        with suppress(ValueError):
            read = datetime.fromisoformat(moment.name)
            utc = read.astimezone(UTC).replace(tzinfo=None) if read.tzinfo else read
            moment = exp.Literal.string(utc.isoformat(" "))
    return exp.cast(moment, "TIMESTAMP")


def _unambiguous(tree: exp.Expr) -> exp.Expr:
    """Rename tables that have the same name as an alias of the query."""
    taken = {alias.alias.lower() for alias in tree.find_all(exp.Alias)}
    for table in tree.find_all(exp.Table, exp.Subquery):
        if table.alias_or_name.lower() in taken:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(f"the_{table.alias_or_name}")))
    for column in tree.find_all(exp.Column):
        if column.table.lower() in taken:
            column.set("table", exp.to_identifier(f"the_{column.table}"))
    return tree
