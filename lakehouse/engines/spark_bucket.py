"""The tables of a bucket as views of a Spark session: for each query, with the columns that it names."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot
from pyspark import cloudpickle
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructType
from sqlglot import exp

from lakehouse.engines import spark_source
from lakehouse.engines.spark_source import RemoteFile, source_class
from lakehouse.table.deletes import deleted_rows, without_rows
from lakehouse.table.epoch import Epoch, TableState
from lakehouse.table.s3 import Credentials, credentials, open_file, server_arguments
from ridelake.settings import S3, LakeAddress

# The executors get the module's classes themselves, because they need not have ridelake.
cloudpickle.register_pickle_by_value(spark_source)  # type: ignore[no-untyped-call]

PUSHDOWN = "spark.sql.python.filterPushdown.enabled"


@dataclass(frozen=True)
class BucketTable:
    """A table, and the name of its data source. `unfiltered`: its rows, by their columns."""

    state: TableState
    schema: StructType
    source: str
    unfiltered: dict[tuple[str, ...], DataFrame] = field(default_factory=dict)


class BucketTables:
    """Creates the views that a query uses. `views`: the queries of the epoch's views, by name."""

    def __init__(
        self, session: SparkSession, lake: LakeAddress, epoch: Epoch, views: Mapping[str, str]
    ) -> None:
        self._session = session
        self._lake = lake
        self._states = {name.lower(): (name, table) for name, table in epoch.tables.items()}
        self._tables: dict[str, BucketTable] = {}
        self._views = {name.lower(): (name, query) for name, query in views.items()}
        self._numbers = count()
        self._credentials: Credentials | None = None
        session.conf.set(PUSHDOWN, "true")

    def create_views(self, query: str) -> None:
        """Create or replace the views that the query, in Spark's SQL, uses."""
        if (found := credentials()) != self._credentials:
            self._credentials = found
            self._tables.clear()  # their data sources have the old ones
        used = _used_names(query)
        views = dict[str, str]()
        for lower in set(used.tables) & self._views.keys() - self._states.keys():
            name, whole = self._views[lower]
            views[name] = _narrowed(whole, frozenset() if used.all_columns else used.names)
            inside = _used_names(views[name])
            for _ in range(used.tables[lower]):
                used = used.plus(inside)
        for name in set(used.tables) & set(self._states):
            self._create_view(name, used)
        for name, narrowed in views.items():
            view = exp.to_identifier(name, quoted=True).sql("spark")
            self._session.sql(narrowed).createOrReplaceTempView(view)

    def _create_view(self, lower: str, used: "UsedNames") -> None:
        name, state = self._states[lower]
        if (table := self._tables.get(lower)) is None:
            table = self._tables[lower] = self._register(state)
        wanted = (one for one in table.schema.names if used.all_columns or one.lower() in used.names)
        columns = tuple(wanted) or (table.schema.names[0],)  # count(*) needs one
        # Spark 4.3 applies the filters of one scan of a relation to its other scans, in this query and later.
        if used.tables[lower] == 1 and not used.is_repeated:
            rows = self._rows(table, columns, filters=True)
        elif (found := table.unfiltered.get(columns)) is not None:
            rows = found
        else:
            rows = table.unfiltered[columns] = self._rows(table, columns, filters=False)
        rows.createOrReplaceTempView(exp.to_identifier(name, quoted=True).sql("spark"))

    def _register(self, state: TableState) -> BucketTable:
        with open_file(self._lake, state.locations[0]) as file:
            schema = from_arrow_schema(pq.read_schema(file), prefer_timestamp_ntz=True)
        deleted = deleted_rows(self._lake, state)
        files = [
            RemoteFile(
                file.location.removeprefix(S3),
                file.bytes,
                pa.array(deleted[file.location]) if file.location in deleted else None,
            )
            for file in state.files
            if file.location.startswith(S3)
        ]
        source = f"ridelake_{next(self._numbers)}"
        server = server_arguments(self._lake, self._credentials)
        self._session.dataSource.register(source_class(source, schema, files, server))
        return BucketTable(state, schema, source)

    def _rows(self, table: BucketTable, columns: Sequence[str], *, filters: bool) -> DataFrame:
        reader: Any = self._session.read.format(table.source)
        reader = reader.option("columns", json.dumps(columns)).option("filters", json.dumps(filters))
        parts: list[DataFrame] = (
            [reader.load()] if any(file.location.startswith(S3) for file in table.state.files) else []
        )
        schema = StructType([table.schema[column] for column in columns])
        # The files of an overlay are on this machine only.
        deleted = deleted_rows(self._lake, table.state)
        for location in table.state.locations:
            if not location.startswith(S3):
                rows = pq.read_table(location)
                rows = without_rows(rows, deleted[location]) if location in deleted else rows
                rows = rows.select(columns).cast(to_arrow_schema(schema, timezone="UTC"))
                parts.append(self._session.createDataFrame(rows, schema=schema))
        return reduce(DataFrame.union, parts)


@dataclass(frozen=True, slots=True)
class UsedNames:
    """The names in a query, in lower case. `tables`: how often each is read. `all_columns`: it may use
    columns that it does not name. `is_repeated`: a part of it may be executed several times."""

    names: frozenset[str]
    tables: Counter[str]
    all_columns: bool
    is_repeated: bool

    def plus(self, other: "UsedNames") -> "UsedNames":
        tables = self.tables + other.tables
        return replace(self, names=self.names | other.names, tables=tables)


@lru_cache(maxsize=64)
def _used_names(query: str) -> UsedNames:
    tree = sqlglot.parse_one(query, dialect="spark")
    stars = (star for star in tree.find_all(exp.Star) if not isinstance(star.parent, exp.Count))
    natural = (join for join in tree.find_all(exp.Join) if join.method.upper() == "NATURAL")
    tables = Counter(table.name.lower() for table in tree.find_all(exp.Table))
    return UsedNames(
        frozenset(one.name.lower() for one in tree.find_all(exp.Identifier)),
        tables,
        all_columns=any(True for _ in (*stars, *natural)),
        is_repeated=any(tables[cte.alias.lower()] > 1 for cte in tree.find_all(exp.CTE))
        or any(_is_in_expression(query) for query in tree.find_all(exp.Query)),
    )


def _is_in_expression(query: exp.Query) -> bool:
    """Whether it is a subquery in an expression, such as EXISTS. Spark may read the tables of the outer query
    again for it."""
    parent = query.parent
    while isinstance(parent, exp.Subquery):
        parent = parent.parent
    return not isinstance(parent, exp.From | exp.Join | exp.CTE | exp.SetOperation | None)


def _narrowed(query: str, names: frozenset[str]) -> str:
    """The query with only the result columns that have these names, or with all columns if none has. In a
    UNION, all parts have the same names."""
    tree = sqlglot.parse_one(query, dialect="spark")
    for select in [tree] if isinstance(tree, exp.Select) else list(tree.find_all(exp.Select)):
        wanted = [column for column in select.expressions if column.alias_or_name.lower() in names]
        select.set("expressions", wanted or select.expressions)
    return tree.sql(dialect="spark")
