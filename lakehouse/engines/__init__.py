"""Engines: one small file each, one promise.

An engine is opened over one epoch and answers SQL. It reads the epoch's pinned files and no others
(`postgres` reads the rows, as of now), presents each table of the epoch under its name, and the view
`RideTable` (`oltp/ride_table.sql`). It cannot write, neither tables nor files.

A new engine is one file here with a context manager `opened(settings, epoch)`, and a line in `ENGINES`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata, resources
from typing import TYPE_CHECKING, Protocol

from ridelake.errors import NotReady, UsageError

if TYPE_CHECKING:  # what only lists the engines need not load Arrow
    import pyarrow as pa

    from lakehouse.epoch import Epoch
    from ridelake.settings import Settings


class Engine(Protocol):
    """Something that answers SQL over an epoch. Read-only; used by one thread at a time."""

    @property
    def name(self) -> str: ...

    def version(self) -> str:
        """Of the engine's library or server, for the record."""
        ...

    def sql(self, query: str) -> "pa.Table":
        """The whole answer, in memory. Raises QueryRejected with the engine's own message."""
        ...

    def interrupt(self) -> None:
        """Cancel the running `sql` call from another thread, as soon as the engine can."""
        ...


@dataclass(frozen=True, slots=True)
class Package:
    """Where an engine comes from."""

    distribution: str  # as pip knows it
    reads: str

    def version(self) -> str | None:
        """None if it is not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    @property
    def install(self) -> str:
        return f"pip install {self.distribution}"


ENGINES = {
    "postgres": Package("psycopg", "the rows in the store, as of now"),
    "duckdb": Package("duckdb", "the files of an epoch"),
    "polars": Package("polars", "the files of an epoch"),
}
ENGINE_NAMES = tuple(ENGINES)


@contextmanager
def open_engine(name: str, settings: "Settings", epoch: "Epoch | None") -> Iterator[Engine]:
    """The engine of that name over the epoch; `postgres` needs none.

    Raises UsageError for an unknown engine, NotReady if it is not installed or there is no epoch for it."""
    if name not in ENGINES:
        raise UsageError(f"there is no engine {name}: choose one of {', '.join(ENGINE_NAMES)}")
    if epoch is None and name != "postgres":
        raise NotReady(f"no epoch yet for {name} to read: run `ridelake snapshot`")
    try:
        module = import_module(f"lakehouse.engines.{name}")
    except ModuleNotFoundError as error:
        raise NotReady(f"engine {name} is not installed: `{ENGINES[name].install}`") from error
    with module.opened(settings, epoch) as engine:
        yield engine


def ride_table_view() -> str:
    """The statement that makes the view RideTable, the same for all engines."""
    return resources.files("oltp").joinpath("ride_table.sql").read_text()


def ride_table_query() -> str:
    """The query inside it, for an engine that has no views."""
    return ride_table_view().split(" AS\n", 1)[1]
