"""The Python API: `ridelake.open()` and what it returns. docs/python.md describes it.

Like the command line (`__main__`), this module names modules of all packages. It imports them when they are
used, so that `import ridelake` takes no time.
"""

import os
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from ridelake.errors import UsageError
from ridelake.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import psycopg
    import pyarrow.dataset as ds
    from psycopg.rows import TupleRow

    from lakehouse.capture.maintain import MaintenanceResult
    from lakehouse.capture.publish import PublishOptions
    from lakehouse.capture.sync import SyncResult
    from lakehouse.engines.parameters import Value
    from lakehouse.table.catalog import Lake
    from lakehouse.table.epoch import Epoch, TableState
    from lakehouse.verify import VerifyResult
    from olap.result import Answer, Comparison
    from oltp.batching import Batcher
    from oltp.pool import RetryPool
    from oltp.store import Store
    from ridelake.ride import Decision, RideRequest

AsOf = int | str | datetime | None
POOL_CONNECTIONS = 4


class LakeWarning(UserWarning):
    """The epoch was published, but a table is not in it, or is copied completely each time."""


def open(
    home: str | Path | None = None,
    *,
    dsn: str | None = None,
    lake: str | Path | None = None,
    catalog: str | None = None,
    spark_master: str | None = None,
) -> "Session":
    """Open a lake and its Postgres. The arguments are the options of the command line, and default to the
    same environment variables. Nothing is created or connected until it is needed.

    Raises UsageError for an invalid address."""
    return Session(
        Settings.read(
            os.environ,
            home=_text(home),
            dsn=dsn,
            lake=_text(lake),
            catalog=catalog,
            spark_master=spark_master,
        )
    )


class Session:
    """A lake and its Postgres. A context manager; `close` releases the epochs and the embedded server.

    An epoch that was read by `scan`, `dataset` or `duckdb` is kept by `maintain` until the session is
    closed. May be shared by threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._opened = ExitStack()
        self._close = weakref.finalize(self, self._opened.close)
        self._lock = threading.Lock()
        self._pinned: dict[int, Epoch] = {}
        self._server: Store | None = None
        self._store: RideStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._close.alive else ", closed"
        return f"<ridelake.Session {self.settings.lake.root}{state}>"

    def close(self) -> None:
        self._close()

    # ── Publish ──────────────────────────────────────────────────────────────────────────────────

    def snapshot(self, **options: "Unpack[PublishOptions]") -> "Epoch":
        """Publish all rows of all tables as the next epoch. `tables`: tables to add, as SCHEMA.NAME.
        `selection`: tables to follow from now on, also those that are created later. `without`: columns to
        exclude from now on, as TABLE.COLUMN. `verify`: compare with Postgres before publishing. `fast`: copy
        at full speed, also while other sessions use the server. See `PublishOptions` for all options.

        A table with a value that the lake cannot store is in `Epoch.left_out`, with a LakeWarning. Raises as
        `lakehouse.capture.publish.publish_snapshot` does."""
        from lakehouse.capture.publish import publish_snapshot

        with self._publishing(options, by_changes=False) as (store, lake):
            epoch = publish_snapshot(store, lake, **options)
        for sentence in epoch.missing():
            _warn(sentence)
        return epoch

    def sync(self, **options: "Unpack[PublishOptions]") -> "SyncResult":
        """Publish the changes since the newest epoch; `SyncResult.is_new` is False if there are none. The
        options are those of `snapshot`. A table that is new or not tracked is copied completely.

        Raises as `lakehouse.capture.publish.publish_changes` does."""
        from lakehouse.capture.sync import sync_once

        with self._publishing(options, by_changes=True) as (store, lake):
            synced = sync_once(store, lake, **options)
        for sentence in synced.epoch.missing() if synced.epoch else ():
            _warn(sentence)
        return synced

    def track(self, table: str) -> str:
        """Prepare a table for incremental epochs, as `ridelake track` does; returns its name."""
        from lakehouse.source.tracking import track

        return track(self._keep_server(), table)

    def untrack(self, table: str) -> str:
        """Remove from a table what `track` has added; returns its name."""
        from lakehouse.source.tracking import untrack

        return untrack(self._keep_server(), table)

    def verify(self) -> "VerifyResult":
        """Compare the newest epoch plus the changes since then with Postgres, row by row.

        Raises ProofFailed with the rows that differ, NotReady if there is no epoch, or if the changes of a
        table are unknown."""
        from lakehouse.commands.options import store_and_lake
        from lakehouse.verify import verify_now

        with store_and_lake(self.settings, begin=False) as (store, lake):
            self._keep_server()
            report = verify_now(store, lake)
        report.prove()
        return report

    def verify_files(self, epoch: int) -> int:
        """Compare the files of an epoch with their checksums; returns their number. Raises ProofFailed."""
        from lakehouse.verify import verify_files

        return verify_files(self.settings.lake, epoch)

    def maintain(self, keep_epochs: int = 100) -> "MaintenanceResult":
        """Compact small files, expire old epochs, delete orphan files. A loop of `sync` needs it about every
        50 epochs."""
        from lakehouse.capture.maintain import maintain
        from lakehouse.commands.options import store_and_lake

        with store_and_lake(self.settings, begin=False) as (store, lake):
            self._keep_server()
            return maintain(lake, store, keep_epochs=keep_epochs)

    # ── Read ─────────────────────────────────────────────────────────────────────────────────────

    def epochs(self) -> "list[Epoch]":
        """The published epochs, newest first."""
        from lakehouse.table.published import read_epochs

        return read_epochs(self.settings.lake)

    def sql(
        self,
        query: str,
        engine: str = "duckdb",
        *,
        params: "Mapping[str, Value] | None" = None,
        as_of: AsOf = None,
        fresh: bool = False,
        source: str | None = None,
        timeout: float | None = None,
    ) -> "Answer":
        """Run a query on the newest epoch. `params`: the value of each $name; the engine binds it. `as_of`:
        the number of an epoch, or a time, instead of the newest epoch. `fresh`: include the changes since
        the epoch. `source`: read one store, in a lake of several stores. `timeout`: seconds.

        Raises QueryRejected with the engine's message, TimedOut, NotReady if there is no epoch, and
        UsageError."""
        return self._ask(query, [engine], params, as_of, fresh, source, timeout, rounds_max=1)

    def compare(
        self,
        query: str,
        engines: Sequence[str] = ("postgres", "duckdb"),
        *,
        params: "Mapping[str, Value] | None" = None,
        as_of: AsOf = None,
        fresh: bool = False,
        source: str | None = None,
        timeout: float | None = None,
    ) -> "Comparison":
        """Run a query on several engines, compare the answers, and time interleaved runs.

        Raises ProofFailed if two answers differ, and as `sql` does."""
        from olap.ask import ROUNDS_MAX
        from olap.result import Comparison

        names = _names(engines)
        answer = self._ask(query, names, params, as_of, fresh, source, timeout, rounds_max=ROUNDS_MAX)
        return Comparison(answer)

    def scan(self, table: str, *, as_of: AsOf = None, fresh: bool = False) -> "pl.LazyFrame":
        """A lazy frame on a table of one epoch: the newest, or that of `as_of`."""
        from lakehouse.engines.polars import scan_table

        return scan_table(self.settings.lake, self._table(table, as_of, fresh))

    def dataset(self, table: str, *, as_of: AsOf = None, fresh: bool = False) -> "ds.Dataset":
        """A pyarrow dataset on a table of one epoch. A file with deleted rows is read into memory, because a
        dataset cannot leave rows out by their number; the others are read when the dataset is scanned."""
        from lakehouse.engines.pyarrow import table_dataset

        return table_dataset(self.settings, self._table(table, as_of, fresh))

    def duckdb(self, *, as_of: AsOf = None, fresh: bool = False) -> "duckdb.DuckDBPyConnection":
        """A DuckDB connection with a view for each table of one epoch. It can open only the files of the
        epoch: other files, extensions and the network are disabled. It is closed with the session."""
        from lakehouse.engines.duckdb import open_views

        epoch = self._epoch(as_of, fresh)
        with self._lock:
            connection, _ = self._opened.enter_context(open_views(self.settings, epoch))
        return connection

    # ── The ride store ───────────────────────────────────────────────────────────────────────────

    @property
    def store(self) -> "RideStore":
        """The ride store. Raises NotReady if there is none: run `ridelake seed`."""
        if self._store is None:
            server = self._keep_server()
            server.refuse_without_schema("run `ridelake seed`")
            self._store = RideStore(server, self._opened)
        return self._store

    # ── ──────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _publishing(self, options: "PublishOptions", *, by_changes: bool) -> "Iterator[tuple[Store, Lake]]":
        from lakehouse.commands.options import open_for_publishing

        _names(options.get("without", ()))
        tables, selection = _names(options.get("tables", ())), options.get("selection")
        opened = open_for_publishing(self.settings, tables, selection, _warn, by_changes=by_changes)
        with opened as (store, lake, _):
            self._keep_server()
            yield store, lake

    def _keep_server(self) -> "Store":
        """The database. An embedded server runs until the session is closed, instead of for one call."""
        from oltp.store import open_existing_store

        with self._lock:
            self._check_open()
            if self._server is None:
                self._server = self._opened.enter_context(open_existing_store(self.settings, rides=False))
        return self._server

    def _check_open(self) -> None:
        if not self._close.alive:
            raise UsageError("the session is closed: call ridelake.open() again")

    def _ask(
        self,
        query: str,
        names: Sequence[str],
        params: "Mapping[str, Value] | None",
        as_of: AsOf,
        fresh: bool,
        source: str | None,
        timeout: float | None,
        *,
        rounds_max: int,
    ) -> "Answer":
        from lakehouse.engines import open_engines
        from olap.query import run_query
        from olap.query_epoch import open_query_epoch
        from olap.question import ad_hoc_question, single_statement
        from olap.result import Answer

        self._check_open()
        question = ad_hoc_question(single_statement(query), dict(params or {}))
        with ExitStack() as opened:
            epoch = opened.enter_context(
                open_query_epoch(self.settings, names, as_of=_as_of(as_of), fresh=fresh, source=source)
            )
            if "postgres" in names or fresh:
                self._keep_server()
            engines = opened.enter_context(open_engines(names, self.settings, epoch))
            asked = run_query(question, engines, epoch, rounds_max=rounds_max, timeout_seconds=timeout)
        return Answer(asked, epoch)

    def _epoch(self, as_of: AsOf, fresh: bool) -> "Epoch":
        """The epoch, pinned until the session is closed."""
        from olap.query_epoch import open_query_epoch

        with self._lock, ExitStack() as opened:
            self._check_open()
            epoch = opened.enter_context(
                open_query_epoch(self.settings, ["duckdb"], as_of=_as_of(as_of), fresh=fresh)
            )
            assert epoch is not None  # only the engine postgres needs no epoch
            if fresh or epoch.number not in self._pinned:
                self._opened.push(opened.pop_all())
                if not fresh:
                    self._pinned[epoch.number] = epoch
        return epoch

    def _table(self, name: str, as_of: AsOf, fresh: bool) -> "TableState":
        epoch = self._epoch(as_of, fresh)
        return epoch.tables[epoch.find_table(name)]


class RideStore:
    """Books rides. A call is retried after a failure of the server. Each request is decided once."""

    def __init__(self, store: "Store", opened: ExitStack) -> None:
        self._store = store
        self._opened = opened
        self._lock = threading.Lock()
        self._pool: RetryPool | None = None

    def __repr__(self) -> str:
        return f"<ridelake.RideStore Postgres {self._store.server_version // 10_000}>"

    def connect(self) -> "psycopg.Connection[TupleRow]":
        """A new connection in autocommit. Raises CannotConnect."""
        return self._store.connect()

    def book(self, request: "RideRequest") -> "Decision":
        """Hold the fare, claim a driver and write the ride, or refuse. The decision is durable on return; a
        repeated request with the same id returns the same decision. Raises CannotConnect."""
        from oltp import booking

        return self._retrying().call(lambda connection: booking.book(connection, request))

    def batcher(self) -> "Batcher":
        """A new Batcher, a context manager: it sends concurrent requests as one statement. Share one among
        all threads and event loops."""
        from oltp.batching import Batcher

        return Batcher(self._retrying())

    def _retrying(self) -> "RetryPool":
        from oltp.pool import RetryPool

        with self._lock:
            if self._pool is None:
                self._pool = self._opened.enter_context(RetryPool(self._store, POOL_CONNECTIONS))
        return self._pool


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Raises UsageError for a string, whose letters would be taken for names."""
    if isinstance(given, str):
        raise UsageError(f"expected a list of names, not {given!r}: pass [{given!r}]")
    return tuple(given)


def _as_of(given: AsOf) -> str | None:
    return given.isoformat() if isinstance(given, datetime) else None if given is None else str(given)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, LakeWarning, stacklevel=3)
