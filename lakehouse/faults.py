"""Error messages for a lake that cannot be written."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError

from lakehouse.s3 import refusing_a_bad_bucket
from ridelake.errors import CannotConnect, OutOfResources, UsageError
from ridelake.resources import shortage
from ridelake.settings import LakeAddress

ELSEWHERE = "choose another folder with --lake or RIDELAKE_LAKE"
FOLDER_FAULTS = {
    errno.EROFS: f"it is on a read-only file system: {ELSEWHERE}",
    errno.EACCES: f"you may not write there: {ELSEWHERE}",
    errno.EPERM: f"you may not write there: {ELSEWHERE}",
    errno.ENOTDIR: f"a file is in its place: {ELSEWHERE}",
    errno.EEXIST: f"a file is in its place: {ELSEWHERE}",
}

# SQLite's error codes for the same causes.
SQLITE_FAULTS = {
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


@contextmanager
def refusing_a_bad_lake(address: LakeAddress) -> Iterator[None]:
    """Convert errors of the folder, the bucket or the catalog into messages for the user. Raises UsageError,
    OutOfResources or CannotConnect."""
    try:
        with refusing_a_bad_bucket(address):
            yield
    except FileNotFoundError as error:
        if not address.remote and not address.folder.exists():
            raise UsageError(
                f"the lake {address.root} cannot be created ({error.strerror or error}): {ELSEWHERE}"
            ) from error
        reason = str(error).split(". Detail")[0]
        raise UsageError(
            f"a file or folder of the lake is missing ({reason}): run `ridelake verify EPOCH` to list the "
            f"missing files, or `ridelake snapshot` to publish all rows again; or {ELSEWHERE}"
        ) from error
    except OSError as error:
        if short := shortage(error, address.root, "--lake"):
            raise OutOfResources(short) from error
        fault = FOLDER_FAULTS.get(error.errno or 0)
        if fault is None:
            raise
        raise UsageError(f"the lake {address.root} cannot be written, {fault}") from error
    except DBAPIError as error:
        if address.catalog_url is not None and isinstance(error, OperationalError):
            raise catalog_away(error) from error
        if short := shortage(error, address.catalog_file, "--lake"):
            raise OutOfResources(short) from error
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the primary result code
        if code == sqlite3.SQLITE_NOTADB:
            raise UsageError(f"{address.catalog_file} is not a catalog: {ELSEWHERE}") from error
        fault = FOLDER_FAULTS.get(SQLITE_FAULTS.get(code, 0))
        if fault is None:
            raise
        raise UsageError(f"the lake {address.root} cannot be written, {fault}") from error


def catalog_away(error: OperationalError) -> CannotConnect:
    reason = str(error.orig).strip().splitlines()[0]
    return CannotConnect(f"cannot reach the lake's catalog: {reason}; check --catalog or RIDELAKE_CATALOG")
