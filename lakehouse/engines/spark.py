"""Spark on the files of an epoch: on the local machine, or on a cluster that can read the same files. The
files of a bucket are read by `spark_source.py`.

The driver binds to loopback unless the cluster is remote. Files in a query are disabled (`runSQLOnFiles`),
functions that call Java are removed from the session, and queries are checked by `sql_check.py`, because a
SELECT can run a program (TRANSFORM … USING).
"""

import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.sql import DataFrame, SparkSession, functions
from pyspark.sql.pandas.types import from_arrow_schema
from sqlglot import exp

from lakehouse.engines import view_queries
from lakehouse.engines.parameters import Parameters
from lakehouse.engines.spark_bucket import BucketTables
from lakehouse.engines.spark_source import UNREADABLE
from lakehouse.engines.sql_check import CheckedEngine, exact_average
from lakehouse.table.epoch import Epoch, TableState
from ridelake.errors import CannotConnect, NotReady, QueryRejected, first_line
from ridelake.settings import Settings

CONFIG = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.timeType.enabled": "true",
    "spark.sql.runSQLOnFiles": "false",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.adaptive.enabled": "true",
    # Fewer than the default of 200, because tables are small. Adaptive execution merges small ones.
    "spark.sql.shuffle.partitions": "8",
}
CONNECT = "sc://"
DEFAULT_PYTHON = "python3"  # for the processes that read a bucket
UNREAD = re.compile(f"{UNREADABLE}[^\n]*")
CANCEL_AGAIN_SECONDS = 0.1
LOOPBACK = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
CALLS_JAVA = ("reflect", "java_method", "try_reflect")
OF_PYTHON_OR_FILES = re.compile("python|input_file", re.IGNORECASE)

# Longer than any column name of Postgres, which has at most 63 bytes.
FILE, ROW = "name of the file".ljust(64), "number of the row".ljust(64)

# Hadoop interprets a path as a glob pattern.
PATTERN = re.compile(r"([\\\[\]*?{},])")


def iso_day_of_week(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Extract) and node.name.upper() == "ISODOW":
        node.set("this", exp.var("DAYOFWEEK_ISO"))
    return node


class Spark(CheckedEngine):
    """A Spark session on the files of one epoch."""

    name = "spark"
    dialect = "spark"
    rules = (exact_average, iso_day_of_week)

    def __init__(self, session: SparkSession, tables: list[str], *, far: bool) -> None:
        """`far`: the session uses Spark Connect, which has no SparkContext."""
        super().__init__(tables)
        self.bucket: BucketTables | None = None  # the tables, if they are in a bucket
        self._session = session
        self._far = far
        self._running = threading.Event()

    def version(self) -> str:
        return str(self._session.version)

    def is_harmless(self, function: str) -> bool:
        return function.lower() not in CALLS_JAVA and not OF_PYTHON_OR_FILES.search(function)

    def run(self, text: str, parameters: Parameters, *, explain: bool) -> pa.Table:
        self._running.set()
        try:
            if self.bucket is not None:
                self.bucket.create_views(text)
            frame = self._session.sql(f"EXPLAIN {text}" if explain else text, args=dict(parameters))
            return frame.toArrow()
        except (PySparkException, Py4JError) as error:
            message = (isinstance(error, PySparkException) and error.getMessage()) or str(error).strip()
            if unread := UNREAD.search(message):
                raise CannotConnect(
                    f"spark: {unread[0].strip()}; check that the machines of the cluster reach the S3 server"
                ) from error
            raise QueryRejected(f"spark: {message}") from error
        finally:
            self._running.clear()

    def interrupt(self) -> None:
        """Repeat the cancellation, because a query that is being planned has no job yet."""
        while self._running.is_set():
            if self._far:
                self._session.interruptAll()
            else:
                self._session.sparkContext.cancelAllJobs()
            time.sleep(CANCEL_AGAIN_SECONDS)


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[Spark]:
    master = settings.spark_master or "local[*]"
    session = _session(master)
    far = master.startswith(CONNECT)
    try:
        if not far:
            session.sparkContext.setLogLevel("ERROR")
            _remove_functions(session, CALLS_JAVA)
        views = view_queries(settings, epoch)
        engine = Spark(session, [*epoch.tables, *views], far=far)
        written = {name: engine.written(query) for name, query in views.items()}
        if settings.lake.remote:
            engine.bucket = BucketTables(session, settings.lake, epoch, written)
        else:
            for name, table in epoch.tables.items():
                _rows(session, table).createOrReplaceTempView(_quoted(name))
            for name, query in written.items():
                session.sql(query).createOrReplaceTempView(_quoted(name))
        yield engine
    finally:
        session.stop()


def _rows(session: SparkSession, table: TableState) -> DataFrame:
    # With a given schema, Spark does not start a job to infer it.
    schema = from_arrow_schema(pq.read_schema(table.locations[0]), prefer_timestamp_ntz=True)
    whole = [_literal(file.location) for file in table.files if not file.deleted]
    masked = [_literal(file.location) for file in table.files if file.deleted]
    parts = [session.read.schema(schema).parquet(*whole)] if whole else []
    if masked:
        deleted = session.read.schema("file_path STRING, pos LONG").parquet(
            *(_literal(file.location) for file in table.deletes)
        )
        # By the name, because a lake can be moved; a name is unique.
        deleted = deleted.selectExpr(f"element_at(split(file_path, '/'), -1) AS `{FILE}`", f"pos AS `{ROW}`")
        rows = session.read.schema(schema).parquet(*masked)
        rows = rows.selectExpr("*", f"_metadata.file_name AS `{FILE}`", f"_metadata.row_index AS `{ROW}`")
        parts.append(rows.join(functions.broadcast(deleted), [FILE, ROW], "left_anti").drop(FILE, ROW))
    return reduce(DataFrame.union, parts)


def _quoted(name: str) -> str:
    return exp.to_identifier(name, quoted=True).sql("spark")


def _literal(location: str) -> str:
    """The path without glob patterns."""
    return PATTERN.sub(r"\\\1", location)


def _session(master: str) -> SparkSession:
    builder: Any = SparkSession.builder
    if master.startswith(CONNECT):
        builder = builder.remote(master)
    else:
        builder = builder.master(master).appName("ridelake")
        builder = builder.config("spark.sql.warehouse.dir", str(Path(tempfile.gettempdir()) / "warehouse"))
        builder = builder.config("spark.local.dir", tempfile.gettempdir())
        is_local = master.startswith("local") or urlsplit(master).hostname in ("127.0.0.1", "localhost")
        for key, value in (LOOPBACK if is_local else {}).items():
            builder = builder.config(key, value)
    for key, value in CONFIG.items():
        if not master.startswith(CONNECT) or key.startswith("spark.sql.session"):
            builder = builder.config(key, value)
    try:
        session: SparkSession = builder.getOrCreate()
    except (PySparkRuntimeError, ImportError) as error:
        if "JAVA_GATEWAY_EXITED" in str(error):
            raise NotReady(
                "spark needs Java 17 or newer: install it (Debian: `apt install openjdk-17-jre-headless`) "
                "or set JAVA_HOME"
            ) from error
        raise NotReady(f"spark cannot connect to {master} with the installed packages: {error}") from error
    except Exception as error:
        raise CannotConnect(
            f"spark cannot connect to {master}: {first_line(error)}; check --spark-master"
        ) from error
    if not master.startswith(CONNECT) and session.sparkContext.pythonExec == DEFAULT_PYTHON:
        session.sparkContext.pythonExec = sys.executable  # PYSPARK_PYTHON is not set
    return session


def _remove_functions(session: SparkSession, functions: tuple[str, ...]) -> None:
    """Remove the functions from the session, so that no spelling of their names finds them."""
    java: Any = session._jvm
    registry = session._jsparkSession.sessionState().functionRegistry()
    place = [java.scala.Option.apply(part) for part in ("builtin", "system")]
    for function in functions:
        identifier = java.org.apache.spark.sql.catalyst.FunctionIdentifier(function, *place)
        if not registry.dropFunction(identifier):
            raise RuntimeError(f"Spark has no function {function} to remove")
