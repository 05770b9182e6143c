"""The query engines, each in one file, with the same interface and guarantees.

An engine is opened on one epoch and executes SQL. It reads only the files of the epoch (`postgres` reads the
current rows of the tables). It provides each table of the epoch by its name, and the views of `view_queries`:
`RideTable` (`oltp/ride_table.sql`), or with several stores the union of their tables. It cannot write tables
or files.

To add an engine:

1. Write `lakehouse/engines/NAME.py` with a class that implements `Engine` (below), and a context manager
   `opened(settings, epoch)` that yields an instance of it. `datafusion.py` is an example of 80 lines: its
   class derives from `CheckedEngine` (`sql_check.py`), which checks, translates and caches the queries.
2. Add an entry to `ENGINES` (below). `in_subprocess=True` runs the engine in a child process.

The tests run for every entry of `ENGINES`. CONTRIBUTING.md lists the other files: dependencies and docs.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from lakehouse.engines.parameters import NO_PARAMETERS, Parameters
from ridelake.errors import NotReady, UsageError
from ridelake.queries import load_script

if TYPE_CHECKING:  # listing the engines must not import pyarrow
    import pyarrow as pa

    from lakehouse.table.epoch import Epoch
    from ridelake.settings import Settings


class Engine(Protocol):
    """Executes SQL on an epoch. Read-only; not thread-safe, except `interrupt`."""

    @property
    def name(self) -> str: ...

    def version(self) -> str:
        """The version of the engine's library or server."""
        ...

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> "pa.Table":
        """The complete result, in memory. `$name` in the query is replaced by a value of `parameters`.

        Raises QueryRejected with the engine's own message, UsageError for a parameter without a value or
        a value without a parameter."""
        ...

    def interrupt(self) -> None:
        """Cancel the running `sql` call, from another thread: it raises QueryRejected within seconds. The
        engine can then execute the next query."""
        ...


@dataclass(frozen=True, slots=True)
class EnginePackage:
    """The package of an engine, and how it is run.

    `distribution`: its name on PyPI. `extra`: the extra of ridelake that installs it. `in_subprocess`: run
    in a separate process, because it cannot be cancelled or may crash. `cancels`: it can cancel a query.
    `driver`: the package is a driver of the engine, whose version differs."""

    distribution: str
    reads: str
    extra: str | None = None
    in_subprocess: bool = False
    cancels: bool = False
    driver: bool = False

    @property
    def here(self) -> bool:
        """Whether it is installed. The name of each package to import is its name on PyPI."""
        return find_spec(self.distribution) is not None

    def version(self) -> str | None:
        """The version of the package; None if it is not installed."""
        from importlib import metadata  # imported here, because it is slow to import

        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    @property
    def install(self) -> str:
        return f"pip install 'ridelake[{self.extra}]'" if self.extra else f"pip install {self.distribution}"


READS_EPOCH_FILES = "the files of an epoch"
ENGINES = {
    "postgres": EnginePackage("psycopg", "the rows in the store, as of now", driver=True),
    "duckdb": EnginePackage("duckdb", READS_EPOCH_FILES),
    "polars": EnginePackage("polars", READS_EPOCH_FILES, in_subprocess=True),
    "pyarrow": EnginePackage("pyarrow", READS_EPOCH_FILES),
    "datafusion": EnginePackage("datafusion", READS_EPOCH_FILES, "engines", in_subprocess=True),
    "chdb": EnginePackage("chdb", READS_EPOCH_FILES, "engines", in_subprocess=True, driver=True),
    "daft": EnginePackage("daft", READS_EPOCH_FILES, "engines", in_subprocess=True),
    "spark": EnginePackage(
        "pyspark", READS_EPOCH_FILES, "spark", in_subprocess=True, cancels=True, driver=True
    ),
}
ENGINE_NAMES = tuple(ENGINES)
BASE_ENGINES = tuple(name for name, package in ENGINES.items() if package.extra is None)
"""The engines that are installed with ridelake."""


def full_version(name: str, version: str | None) -> str:
    """`18.6 (psycopg 3.3.9)`: the version of the engine, and of the package if it is different."""
    package = ENGINES[name]
    if not package.driver or (driver := package.version()) in (None, version):
        return version or ""
    return f"{version or 'unknown'} ({package.distribution} {driver})"


def omitted_from_all(settings: "Settings") -> list[str]:
    """The engines that `--engine all` omits: engines that are not installed, and Spark, which is slow to
    start, unless a master is set."""
    return [
        name
        for name, package in ENGINES.items()
        if not package.here or (name == "spark" and settings.spark_master is None)
    ]


@contextmanager
def open_engine(name: str, settings: "Settings", epoch: "Epoch | None") -> Iterator[Engine]:
    """Open the engine of that name on the epoch; `postgres` needs no epoch.

    Raises UsageError for an unknown engine, NotReady if it is not installed or `epoch` is None."""
    with open_engines([name], settings, epoch) as (engine,):
        yield engine


@contextmanager
def open_engines(names: Sequence[str], settings: "Settings", epoch: "Epoch | None") -> Iterator[list[Engine]]:
    """Open several engines; those in separate processes start concurrently. Raises as `open_engine`."""
    for name in names:
        _refuse_unready(name, settings, epoch)
    with ExitStack() as opened:
        engines: list[Engine] = []
        for name in sorted(names, key=lambda name: not ENGINES[name].in_subprocess):
            engines.append(opened.enter_context(_opened(name, settings, epoch)))
        for engine in engines:
            if ENGINES[engine.name].in_subprocess:
                engine.ready()  # type: ignore[attr-defined]
        yield sorted(engines, key=lambda engine: names.index(engine.name))


def _refuse_unready(name: str, settings: "Settings", epoch: "Epoch | None") -> None:
    if name not in ENGINES:
        raise UsageError(f"there is no engine {name}: choose one of {', '.join(ENGINE_NAMES)}")
    package = ENGINES[name]
    if not package.here:
        raise NotReady(f"engine {name} is not installed: run `{package.install}`")
    if name == "postgres" and epoch is not None and epoch.stores:
        raise UsageError(
            f"postgres reads one store, and epoch {epoch.number} has {', '.join(epoch.stores)}: choose one "
            "with --source and its --dsn, or engines that read files (--engine)"
        )
    if epoch is None and name != "postgres":
        raise NotReady(f"there is no epoch for {name} to read: run `ridelake snapshot`")


def _opened(name: str, settings: "Settings", epoch: "Epoch | None") -> AbstractContextManager[Engine]:
    package = ENGINES[name]
    if package.in_subprocess:
        from lakehouse.engines.subprocess_engine import start_engine  # few engines need it

        assert epoch is not None
        return start_engine(name, settings, epoch, cancels=package.cancels)
    engine: AbstractContextManager[Engine] = import_module(f"lakehouse.engines.{name}").opened(
        settings, epoch
    )
    return engine


def view_queries(settings: "Settings", epoch: "Epoch") -> dict[str, str]:
    """The query of each view of the epoch, by its name: RideTable, if the epoch has its tables; with several
    stores, the union of their tables. The same for all engines."""
    if epoch.stores:
        from lakehouse.engines.store_views import union_queries  # imported here, because it loads pyarrow

        return union_queries(settings.lake, epoch)[0]
    return {"RideTable": ride_table_query()} if has_ride_table(epoch) else {}


def view_names(epoch: "Epoch") -> list[str]:
    """The names of the views. Of several stores, also of the unions that `store_views.py` leaves out."""
    if epoch.stores:
        ordinary = {name.removeprefix(f"{table.store}_") for name, table in epoch.tables.items()}
        return sorted(ordinary - epoch.tables.keys())
    return ["RideTable"] if has_ride_table(epoch) else []


def view_statements(settings: "Settings", epoch: "Epoch") -> list[str]:
    """The statements that create the views, for engines with the dialect of DuckDB."""
    quoted = {name.replace('"', '""'): query for name, query in view_queries(settings, epoch).items()}
    return [f'CREATE VIEW "{name}" AS {query}' for name, query in quoted.items()]


def has_ride_table(epoch: "Epoch") -> bool:
    """Whether the epoch has the store's tables that the view RideTable needs."""
    names = {table.source: name for name, table in epoch.tables.items()}
    return all(names.get(f"ridelake.{name}") == name for name in ("rides", "riders", "cities"))


def ride_table_view() -> str:
    """The statement that creates the view RideTable, the same for all engines."""
    return load_script("oltp", "ride_table.sql")


def ride_table_query() -> str:
    """The query of the view, for engines without views."""
    return ride_table_view().split(" AS\n", 1)[1]
