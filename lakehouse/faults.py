"""What is wrong with a lake that cannot be written, in a sentence."""

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

# SQLite has its own words for the same faults.
SQLITE_FAULTS = {
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


@contextmanager
def refusing_a_bad_lake(address: LakeAddress) -> Iterator[None]:
    """Say what is wrong with a folder or bucket that cannot be written, or with a catalog, and what to do."""
    try:
        with refusing_a_bad_bucket(address):
            yield
    except FileNotFoundError as error:
        if not address.remote and not address.folder.exists():
            raise UsageError(
                f"the lake {address.root} cannot be created ({error.strerror or error}): {ELSEWHERE}"
            ) from error
        said = str(error).split(". Detail")[0]
        raise UsageError(
            f"a file or folder of the lake is not there ({said}): `ridelake verify EPOCH` says what an "
            f"epoch lacks, `ridelake snapshot` begins anew from all rows; or {ELSEWHERE}"
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
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the upper bits say more than we need
        if code == sqlite3.SQLITE_NOTADB:
            raise UsageError(f"{address.catalog_file} is not a catalog: {ELSEWHERE}") from error
        fault = FOLDER_FAULTS.get(SQLITE_FAULTS.get(code, 0))
        if fault is None:
            raise
        raise UsageError(f"the lake {address.root} cannot be written, {fault}") from error


def catalog_away(error: OperationalError) -> CannotConnect:
    said = str(error.orig).strip().splitlines()[0]
    return CannotConnect(f"cannot reach the lake's catalog: {said}: correct --catalog or RIDELAKE_CATALOG")
