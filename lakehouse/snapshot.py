"""A snapshot: all tables at one moment, published as the next epoch.

    BEGIN REPEATABLE READ READ ONLY
      token                     which transactions this moment has seen
      COPY cities … ledger      each in its order, to Parquet, on disk
    COMMIT
    wait for the log            nothing is published that a crash of Postgres could take back
    stage, then move            all tables and the epoch, in one commit

Until the last step nobody sees anything of it, and whatever stops it before takes its files along.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import chain
from pathlib import Path

import psycopg
import pyarrow as pa
from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier
from pyiceberg.table import Table

from lakehouse.catalog import Lake, refusing_a_bad_folder
from lakehouse.columns import arrow_schema, read_columns
from lakehouse.commit import Staged, open_table, stage, with_field_ids
from lakehouse.epoch import Epoch, Token
from lakehouse.extract import extract
from lakehouse.layout import ROW_GROUP_ROWS, TABLES, DataFile, write_files
from oltp.store import Store, transaction
from ridelake.errors import CannotConnect, RidelakeError, UsageError

# The log writer flushes five times a second; a server that needs longer than this is in trouble.
FLUSH_SECONDS_MAX = 30.0

# For the sort of the rides. The server's own default of 4 MB sorts half a million of them on disk.
SORT_MEMORY = "128MB"


def ignore_rows(count: int) -> None:
    pass


@dataclass(slots=True)
class Draft:
    """What a snapshot has written so far."""

    lake: Lake
    number: int
    stems: list[Path] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)  # as they were when the snapshot began
    files: dict[str, list[DataFile]] = field(default_factory=dict)
    staged: list[Staged] = field(default_factory=list)

    def discard(self) -> None:
        """Remove it, unless it is published after all: an interruption can fall behind the commit."""
        metadata = [Path(one.metadata_location) for one in self.staged]
        if metadata and self.lake.has(self.number, metadata):
            return
        for stem in self.stems:
            for path in stem.parent.glob(f"{stem.name}-*.parquet"):
                path.unlink(missing_ok=True)
        for path in chain.from_iterable(one.written for one in self.staged):
            path.unlink(missing_ok=True)


def take_snapshot(store: Store, lake: Lake, on_rows: Callable[[int], None] = ignore_rows) -> Epoch:
    """Publish the store as it is now. `on_rows` is told of rows as they are read.

    Raises LostRace if another snapshot is published meanwhile, UsageError if the lake's folder cannot
    be written or the server is a standby, CannotConnect if the server goes away. Nothing of it is
    visible then."""
    started = time.perf_counter()
    try:
        with refusing_a_bad_folder(lake.folder), _draft(lake) as draft, store.connect() as connection:
            _refuse_standby(connection)
            with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
                token = _begin(connection)
                for name, order_by in TABLES.items():
                    _write_table(connection, draft, name, order_by, on_rows)
            _wait_until_flushed(connection, token.lsn)
            _stage_all(draft, token)
            return lake.publish(draft.number, token, draft.files, draft.staged, time.perf_counter() - started)
    except psycopg.Error as error:
        said = str(error).strip().split("\n", 1)[0]
        raise CannotConnect(
            f"Postgres broke off the snapshot ({said}): nothing is published, run it again"
        ) from error


def estimate_rows(store: Store) -> int:
    """What the server's statistics say of all tables; for a progress bar."""
    with store.connect() as connection:
        found = connection.execute(
            "SELECT sum(greatest(reltuples, 0))::bigint FROM pg_class WHERE oid = ANY (%s::regclass[])",
            (list(TABLES),),
        ).fetchone()
    return int(found[0]) if found and found[0] else 0


@contextmanager
def _draft(lake: Lake) -> Iterator[Draft]:
    draft = Draft(lake, lake.newest_number() + 1)
    try:
        yield draft
    except BaseException:  # Ctrl-C too
        draft.discard()
        raise


def _refuse_standby(connection: Connection[TupleRow]) -> None:
    """On a standby pg_current_snapshot() does not know what is running on the primary, so that the token
    would promise more than the epoch holds."""
    if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
        raise UsageError(
            "that server is a standby, whose snapshots are not exact: point --dsn at the primary"
        )


def _begin(connection: Connection[TupleRow]) -> Token:
    """Take the snapshot. The locks come first, and hold off only TRUNCATE and ALTER: a table that is
    truncated after the snapshot and before its COPY would be read as empty."""
    tables = SQL(", ").join(Identifier(name) for name in TABLES)
    connection.execute(SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(tables))
    connection.execute("SELECT set_config('work_mem', %s, true)", (SORT_MEMORY,))
    found = connection.execute(files("lakehouse").joinpath("token.sql").read_bytes()).fetchone()
    assert found is not None
    return Token(*found)


def _write_table(
    connection: Connection[TupleRow],
    draft: Draft,
    name: str,
    order_by: tuple[str, ...],
    on_rows: Callable[[int], None],
) -> None:
    columns = read_columns(connection, name)
    schema = arrow_schema(columns)
    table = open_table(draft.lake.catalog, draft.lake.folder, name, schema)
    folder = draft.lake.folder / name / "data"
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{draft.number:05d}-{secrets.token_hex(4)}"  # two snapshots at once try the same number
    draft.stems.append(stem)
    draft.tables[name] = table
    draft.files[name] = []
    file_schema = with_field_ids(table, schema)
    # Closing ends the COPY, also when it is the file that fails; the transaction could not be left inside it.
    with closing(extract(connection, name, columns, order_by, ROW_GROUP_ROWS)) as batches:
        for file in write_files(stem, columns, file_schema, order_by, _counted(batches, on_rows)):
            draft.files[name].append(file)


def _counted(batches: Iterable[pa.RecordBatch], on_rows: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        on_rows(len(batch))


def _wait_until_flushed(connection: Connection[TupleRow], lsn: str) -> None:
    """With synchronous_commit off, rows can be seen before they are safe; a crash would take them back
    from Postgres, and leave them in the lake for ever."""
    query = files("lakehouse").joinpath("flushed.sql").read_bytes()
    give_up = time.monotonic() + FLUSH_SECONDS_MAX
    while connection.execute(query, {"lsn": lsn}).fetchone() != (True,):
        if time.monotonic() > give_up:
            raise RidelakeError(
                "Postgres does not flush its log, so the snapshot would not be safe: run it again"
            )
        time.sleep(0.005)


def _stage_all(draft: Draft, token: Token) -> None:
    """Write every table's Iceberg metadata; all of it is on disk before anything points at it."""
    properties = {"ridelake.epoch": str(draft.number), "pg.snapshot": token.snapshot, "pg.lsn": token.lsn}
    for name, table in draft.tables.items():
        paths = [file.path for file in draft.files[name]]
        draft.staged.append(stage(draft.lake.catalog, table, paths, properties))
    folders = {draft.lake.folder}
    for path in chain.from_iterable(one.written for one in draft.staged):
        _to_disk(path)
        folders |= {path.parent, path.parent.parent}
    for stem in draft.stems:
        folders.add(stem.parent)
    for folder in folders:
        _to_disk(folder)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
