"""Error messages for a lake that cannot be written."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError

from lakehouse.table.s3 import bucket_errors
from ridelake.errors import CannotConnect, OutOfResources, UsageError
from ridelake.resources import describe_shortage
from ridelake.settings import LakeAddress

OTHER_FOLDER_HINT = "choose another folder with --lake or RIDELAKE_LAKE"
FOLDER_ERRORS = {
    errno.EROFS: f"it is on a read-only file system: {OTHER_FOLDER_HINT}",
    errno.EACCES: f"you may not write there: {OTHER_FOLDER_HINT}",
    errno.EPERM: f"you may not write there: {OTHER_FOLDER_HINT}",
    errno.ENOTDIR: f"a file is in its place: {OTHER_FOLDER_HINT}",
    errno.EEXIST: f"a file is in its place: {OTHER_FOLDER_HINT}",
}

# SQLite's error codes for the same causes.
SQLITE_ERRORS = {
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


@contextmanager
def lake_errors(address: LakeAddress) -> Iterator[None]:
    """Convert errors of the folder, the bucket or the catalog into messages for the user. Raises UsageError,
    OutOfResources or CannotConnect."""
    try:
        with bucket_errors(address):
            yield
    except FileNotFoundError as error:
        if not address.remote and not address.folder.exists():
            raise UsageError(
                f"the lake {address.root} cannot be created ({error.strerror or error}): {OTHER_FOLDER_HINT}"
            ) from error
        reason = str(error).split(". Detail")[0]
        raise UsageError(
            f"a file or folder of the lake is missing ({reason}): run `ridelake verify EPOCH` to list the "
            f"missing files, or `ridelake snapshot` to publish all rows again; or {OTHER_FOLDER_HINT}"
        ) from error
    except OSError as error:
        if short := describe_shortage(error, address.root, "--lake"):
            raise OutOfResources(short) from error
        fault = FOLDER_ERRORS.get(error.errno or 0)
        if fault is None:
            raise
        raise UsageError(f"the lake {address.root} cannot be written, {fault}") from error
    except DBAPIError as error:
        if address.catalog_url is not None and isinstance(error, OperationalError):
            raise catalog_unreachable(error) from error
        if short := describe_shortage(error, address.catalog_file, "--lake"):
            raise OutOfResources(short) from error
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the primary result code
        if code == sqlite3.SQLITE_NOTADB:
            raise UsageError(f"{address.catalog_file} is not a catalog: {OTHER_FOLDER_HINT}") from error
        fault = FOLDER_ERRORS.get(SQLITE_ERRORS.get(code, 0))
        if fault is None:
            raise
        raise UsageError(f"the lake {address.root} cannot be written, {fault}") from error


def catalog_unreachable(error: OperationalError) -> CannotConnect:
    reason = str(error.orig).strip().splitlines()[0]
    return CannotConnect(f"cannot reach the lake's catalog: {reason}; check --catalog or RIDELAKE_CATALOG")
