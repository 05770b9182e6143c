"""Read the published epochs from the catalog of a lake.

This must not take longer than a query on an epoch, so with a SQLite catalog the module imports only the
standard library: importing pyiceberg takes 1 s, SQLAlchemy almost 0.5 s.
"""

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from lakehouse.table.epoch import Epoch
from lakehouse.table.epoch_json import tables_from_json, tokens_from_column
from ridelake.errors import NotReady, RidelakeError, UsageError, first_line, grant_hint
from ridelake.settings import LakeAddress

if TYPE_CHECKING:
    from sqlalchemy import URL

FORMAT = 3
"""The version of the catalog's tables and of the manifests. The next epoch of a lake of OLD_FORMAT, which has
no delete files, changes it to this version. Other versions are rejected."""
OLD_FORMAT = 2
STORES_FORMAT = 4
"""The version of a lake of several stores, so that versions of ridelake that do not know them reject it."""

# A publisher locks the catalog for some milliseconds. After this time (seconds) it is assumed to be stopped.
BUSY_SECONDS = 30.0

# A manifest is written some milliseconds after the commit. After this time its publisher was killed.
MANIFEST_SECONDS = 5.0
MANIFEST_POLL_SECONDS = 0.005

EPOCHS_QUERY = (
    "SELECT number, kind, published_at, token, tables, seconds, verified FROM epochs"
    " WHERE number = coalesce(:number, number) ORDER BY number DESC LIMIT :limit"
)


def read_epochs(address: LakeAddress, number: int | None = None, limit: int = -1) -> list[Epoch]:
    """The published epochs of the lake, newest first; only epoch `number` if it is given. Empty if there are
    no epochs. Raises UsageError if the file is not a catalog, or is one of another version."""
    if (file := address.catalog_file) is None:
        rows = _remote_rows(address, number, limit)
    elif not _is_file(address, file):
        return []
    else:
        try:
            rows = _rows(file, number, limit)
        except sqlite3.Error as error:
            if "no such table" in str(error):
                return []  # a catalog that is being created
            raise UsageError(
                f"{file} cannot be read as a catalog ({error}): choose another folder with --lake"
            ) from error
    return [_epoch(address, row) for row in rows]


def _remote_rows(address: LakeAddress, number: int | None, limit: int) -> list[Sequence[Any]]:
    """The rows from a catalog other than SQLite. Raises CannotConnect, UsageError."""
    from sqlalchemy import NullPool, create_engine, text
    from sqlalchemy.exc import ProgrammingError

    from lakehouse.table.storage import lake_errors

    query = EPOCHS_QUERY.replace(":number,", "CAST(:number AS integer),")
    bound: Mapping[str, Any] = {"number": number, "limit": limit if limit >= 0 else None}
    with lake_errors(address):
        engine = create_engine(catalog_url(address, BUSY_SECONDS), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                check_format(connection.execute(text("SELECT format FROM lake")).fetchall())
                return list(connection.execute(text(query), bound).fetchall())
        except ProgrammingError as error:
            reason = first_line(error.orig or error)
            if "permission denied" in reason:
                hint = grant_hint(reason)
                raise UsageError(f"the lake's catalog cannot be read: {reason}; {hint}") from error
            return []  # the tables do not exist yet


def catalog_url(address: LakeAddress, timeout_seconds: float) -> "URL":
    """The URL of the lake's catalog. Raises UsageError if --catalog is not a database URL, or if no driver
    for it is installed."""
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if address.catalog_file is not None:
        query = {"timeout": str(timeout_seconds)}
        return URL.create("sqlite", database=str(address.catalog_file), query=query)
    try:
        url = make_url(address.catalog_url or "")
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")  # the driver that ridelake installs
        url.get_dialect().import_dbapi()
    except ValueError as error:  # its text has the part of the URL after a colon, which can be a password
        raise UsageError(
            "--catalog must be a SQLAlchemy URL such as postgresql://user@host:5432/name, and its port is "
            "not a number: write @, : and / in a password as %40, %3A and %2F"
        ) from error
    except (ArgumentError, ModuleNotFoundError) as error:
        raise UsageError(
            f"--catalog must be a SQLAlchemy URL such as postgresql://user@host/name ({first_line(error)})"
        ) from error
    return url


def _is_file(address: LakeAddress, file: Path) -> bool:
    """Whether the catalog exists. Raises UsageError or CannotConnect if its lake cannot be reached."""
    try:
        if file.is_file():
            return True
        if address.remote:
            from lakehouse.table.storage import Storage  # imported here, because it loads pyarrow

            Storage.of(address).refuse_without_bucket()
        for folder in (file, *file.parents):
            if folder.exists():
                if folder != file and not folder.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file")
                break
    except OSError as error:
        raise UsageError(
            f"the lake {address.root} cannot be read ({error.strerror or error}): "
            "choose another folder with --lake or --home"
        ) from error
    return False


def _rows(file: Path, number: int | None, limit: int, mode: str = "ro") -> list[Sequence[Any]]:
    try:
        with closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", BUSY_SECONDS, uri=True)
        ) as connection:
            check_format(connection.execute("SELECT format FROM lake").fetchall())
            return connection.execute(EPOCHS_QUERY, {"number": number, "limit": limit}).fetchall()
    except sqlite3.OperationalError as error:
        # A publisher was killed, and SQLite must roll its transaction back, which needs write access.
        if mode == "ro" and error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return _rows(file, number, limit, "rw")
        raise


def check_format(found: Sequence[Sequence[Any]]) -> None:
    """Check the format of the lake. Raises UsageError unless this version supports it."""
    if found and found[0][0] not in (FORMAT, OLD_FORMAT, STORES_FORMAT):
        than = "a newer" if found[0][0] > FORMAT else "an older"
        raise UsageError(
            f"this lake has format {found[0][0]} of {than} version of ridelake; this version supports the "
            f"formats {OLD_FORMAT} to {STORES_FORMAT}: use that version, or choose another folder with "
            "--lake and run `ridelake snapshot`"
        )


def _epoch(address: LakeAddress, row: Sequence[Any]) -> Epoch:
    number, kind, published_at, token, found, seconds, verified = row
    tables, left_out = tables_from_json(address, _loaded(found))
    tokens, moved = tokens_from_column(_loaded(token))
    return Epoch(
        number=number,
        kind=kind,
        published_at=datetime.fromisoformat(published_at),
        tokens=tokens,
        tables=tables,
        seconds=seconds,
        verified=None if verified is None else bool(verified),
        left_out=left_out,
        moved=moved,
    )


def _loaded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def newest_epoch(address: LakeAddress) -> Epoch:
    """The newest epoch of the lake. Raises NotReady if there is no epoch."""
    for epoch in read_epochs(address, limit=1):
        return epoch
    raise NotReady(no_epoch_message(address))


def no_epoch_message(address: LakeAddress) -> str:
    """The message if there is no epoch: the lake is new, or its catalog is missing."""
    if not address.remote and any(address.folder.glob("epochs/*.json")):
        where = address.catalog_file or "the catalog of --catalog"
        return (
            f"the lake {address.root} has epochs that {where} does not list: pass the catalog they were "
            "published with (--catalog), or choose another folder with --lake"
        )
    return f"no epoch yet in {address.root}: run `ridelake snapshot`"


def check_files_exist(address: LakeAddress, epoch: Epoch) -> None:
    """Check that all files of the epoch exist. Raises RidelakeError if a file of the epoch was deleted, which
    each engine reports differently."""
    if address.remote:
        return
    for file in epoch.stored_files:
        if not Path(file.location).exists():
            raise RidelakeError(
                f"epoch {epoch.number} is damaged: {file.location} is missing; restore the file, or publish "
                "all rows to another folder with `ridelake snapshot --lake DIR`"
            )


def numbered_epoch(address: LakeAddress, number: int) -> Epoch:
    """The epoch with this number. Raises NotReady if there are no epochs, UsageError if there is no epoch
    `number`."""
    for epoch in read_epochs(address, number):
        return epoch
    raise UsageError(
        f"there is no epoch {number}, the newest is {newest_epoch(address).number}: see `ridelake epochs`"
    )


def epoch_as_of(address: LakeAddress, when: str, store: str | None = None) -> Epoch:
    """The epoch of that number, or the newest that was taken at or before that time (ISO 8601, UTC if it has
    no offset). `store`: compare the time of its token only. Raises UsageError if `when` is neither, or if
    there is no such epoch."""
    if when.isascii() and when.isdecimal() and len(when) <= 9:
        return numbered_epoch(address, int(when))
    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        raise UsageError(
            f"--as-of must be an epoch number or a time such as 2026-07-01T12:00:00+00:00, not {when!r}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    for epoch in read_epochs(address):
        taken_at = epoch.tokens[store].taken_at if store and store in epoch.tokens else epoch.taken_at
        if datetime.fromisoformat(taken_at) <= moment:
            return epoch
    newest_epoch(address)
    raise UsageError(f"no epoch was published at or before {when}: see `ridelake epochs`")


@contextmanager
def pin_epoch(address: LakeAddress, epoch: Epoch, *, wait: bool = True) -> Iterator[None]:
    """Keep `ridelake maintain` from expiring the epoch until the end of the block. It locks the manifest; the
    kernel releases the lock when the process ends. A remote lake has no locks; there, `maintain` does not
    expire an epoch in its first hour. `wait`: for a `maintain` that is expiring the epoch. Raises NotReady if
    the epoch has just been expired, BlockingIOError if it is being expired and `wait` is False."""
    descriptor = None if address.remote else _locked_manifest(address, epoch, wait=wait)
    try:
        if not read_epochs(address, epoch.number):
            raise NotReady(f"epoch {epoch.number} has just been expired; run the command again")
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked_manifest(address: LakeAddress, epoch: Epoch, *, wait: bool) -> int | None:
    """The file descriptor of the epoch's manifest, with a shared lock. A publisher writes the manifest just
    after its commit, so it is waited for. None if the publisher was killed in between, or if the epoch was
    expired; the catalog shows which."""
    manifest, until = address.manifest(epoch.number), monotonic() + MANIFEST_SECONDS
    while True:
        try:
            descriptor = os.open(manifest, os.O_RDONLY)
        except FileNotFoundError:
            age = (datetime.now(UTC) - epoch.published_at).total_seconds()
            is_late = age > MANIFEST_SECONDS or monotonic() > until
            if is_late or not read_epochs(address, epoch.number):
                return None
            sleep(MANIFEST_POLL_SECONDS)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == Path(manifest).stat().st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was replaced or deleted meanwhile: a lock on the old file protects nothing
