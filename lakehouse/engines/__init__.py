"""Engines: one small file each, one promise.

An engine is opened over one epoch and answers SQL. It reads the epoch's pinned files and no others
(`postgres` reads the rows, as of now), presents each table of the epoch under its name, and the view
`RideTable` (`oltp/ride_table.sql`). It cannot write, neither tables nor files.

A new engine is one file here with a context manager `opened(settings, epoch)`, and a line in `ENGINES`.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module, resources
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from ridelake.errors import NotReady, UsageError

if TYPE_CHECKING:  # what only lists the engines need not load Arrow
    import pyarrow as pa

    from lakehouse.engines.parameters import Parameters
    from lakehouse.epoch import Epoch
    from ridelake.settings import Settings


NO_PARAMETERS: "Parameters" = MappingProxyType({})


class Engine(Protocol):
    """Something that answers SQL over an epoch. Read-only; used by one thread at a time."""

    @property
    def name(self) -> str: ...

    def version(self) -> str:
        """Of the engine's library or server, for the record."""
        ...

    def sql(self, query: str, parameters: "Parameters" = NO_PARAMETERS) -> "pa.Table":
        """The whole answer, in memory. `$name` in the query stands for a value of `parameters`.

        Raises QueryRejected with the engine's own message, UsageError for a parameter without a value or
        a value without a parameter."""
        ...

    def interrupt(self) -> None:
        """End the running `sql` call, from another thread: it raises QueryRejected within seconds. The
        engine answers the next query as before."""
        ...


@dataclass(frozen=True, slots=True)
class Package:
    """Where an engine comes from, and how it is run.

    `distribution`: as pip knows it. `extra`: of ridelake, that installs it. `apart`: in a process of its
    own, because it cannot be cancelled, or may take ours along. `remote`: it reads lakes on S3. `driver`: the
    package is a driver of the engine, which has a version of its own."""

    distribution: str
    reads: str
    extra: str | None = None
    apart: bool = False
    cancels: bool = False
    remote: bool = True
    driver: bool = False

    @property
    def here(self) -> bool:
        """Whether it is installed; each is imported by the name that pip knows."""
        return find_spec(self.distribution) is not None

    def version(self) -> str | None:
        """None if it is not installed."""
        from importlib import metadata  # takes longer than all else that a list of engines needs

        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    @property
    def install(self) -> str:
        return f"pip install 'ridelake[{self.extra}]'" if self.extra else f"pip install {self.distribution}"


FILES = "the files of an epoch"
ENGINES = {
    "postgres": Package("psycopg", "the rows in the store, as of now", driver=True),
    "duckdb": Package("duckdb", FILES),
    "polars": Package("polars", FILES, apart=True),
    "pyarrow": Package("pyarrow", FILES),
    "datafusion": Package("datafusion", FILES, "engines", apart=True, remote=False),
    "chdb": Package("chdb", FILES, "engines", apart=True, remote=False, driver=True),
    "daft": Package("daft", FILES, "engines", apart=True, remote=False),
    "spark": Package("pyspark", FILES, "spark", apart=True, cancels=True, remote=False, driver=True),
}
ENGINE_NAMES = tuple(ENGINES)
BASE_ENGINES = tuple(name for name, package in ENGINES.items() if package.extra is None)
"""Those that come with ridelake."""


def full_version(name: str, version: str | None) -> str:
    """`18.6 (psycopg 3.3.9)`: of the engine, and of the package if that has another."""
    package = ENGINES[name]
    if not package.driver or (driver := package.version()) in (None, version):
        return version or ""
    return f"{version or 'unknown'} ({package.distribution} {driver})"


def left_out_of_all(settings: "Settings") -> list[str]:
    """Whom `--engine all` does not mean: who is not installed or cannot read this lake, and Spark, which
    takes a while to start, unless a master is named."""
    return [
        name
        for name, package in ENGINES.items()
        if not package.here
        or (settings.lake.remote and not package.remote)
        or (name == "spark" and settings.spark_master is None)
    ]


@contextmanager
def open_engine(name: str, settings: "Settings", epoch: "Epoch | None") -> Iterator[Engine]:
    """The engine of that name over the epoch; `postgres` needs none.

    Raises UsageError for an unknown engine, NotReady if it is not installed or there is no epoch for it."""
    with open_engines([name], settings, epoch) as (engine,):
        yield engine


@contextmanager
def open_engines(names: Sequence[str], settings: "Settings", epoch: "Epoch | None") -> Iterator[list[Engine]]:
    """Several at once: those in processes of their own start together. Raises as `open_engine`."""
    for name in names:
        _refuse_unready(name, settings, epoch)
    with ExitStack() as opened:
        engines: list[Engine] = []
        for name in sorted(names, key=lambda name: not ENGINES[name].apart):
            engines.append(opened.enter_context(_opened(name, settings, epoch)))
        for engine in engines:
            if ENGINES[engine.name].apart:
                engine.ready()  # type: ignore[attr-defined]
        yield sorted(engines, key=lambda engine: names.index(engine.name))


def _refuse_unready(name: str, settings: "Settings", epoch: "Epoch | None") -> None:
    if name not in ENGINES:
        raise UsageError(f"there is no engine {name}: choose one of {', '.join(ENGINE_NAMES)}")
    package = ENGINES[name]
    if not package.here:
        raise NotReady(f"engine {name} is not installed: `{package.install}`")
    if epoch is None and name != "postgres":
        raise NotReady(f"no epoch yet for {name} to read: run `ridelake snapshot`")
    if settings.lake.remote and not package.remote:
        far = ", ".join(name for name, package in ENGINES.items() if package.remote)
        raise NotReady(f"{name} reads lakes in a folder, and this one is {settings.lake.root}: ask {far}")


def _opened(name: str, settings: "Settings", epoch: "Epoch | None") -> AbstractContextManager[Engine]:
    package = ENGINES[name]
    if package.apart:
        from lakehouse.engines.apart import started  # who asks DuckDB need not load it

        assert epoch is not None
        return started(name, settings, epoch, cancels=package.cancels)
    opened: AbstractContextManager[Engine] = import_module(f"lakehouse.engines.{name}").opened(
        settings, epoch
    )
    return opened


def has_ride_table(epoch: "Epoch") -> bool:
    """Whether the tables that RideTable is made of are there, and the store's."""
    wanted = {"rides", "riders", "cities"}
    return {f"ridelake.{name}" for name in wanted} <= {table.source for table in epoch.tables.values()}


def ride_table_view() -> str:
    """The statement that makes the view RideTable, the same for all engines."""
    return resources.files("oltp").joinpath("ride_table.sql").read_text()


def ride_table_query() -> str:
    """The query inside it, for an engine that has no views."""
    return ride_table_view().split(" AS\n", 1)[1]
