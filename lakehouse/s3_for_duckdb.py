"""S3 for DuckDB: a read-only file system in Python. DuckDB's own S3 support is an extension to download.

It opens only the files that it was created for, whatever the query contains.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
from fsspec import AbstractFileSystem

from lakehouse.s3 import refusing_a_bad_bucket, s3_filesystem
from ridelake.settings import S3, LakeAddress

T = TypeVar("T")

# The files never change, so any fixed time is correct.
UNCHANGED_SINCE = datetime(2000, 1, 1, tzinfo=UTC)


def let_read(
    connection: duckdb.DuckDBPyConnection, address: LakeAddress, locations: Iterable[str]
) -> "PinnedFiles":
    """Allow the connection to read those locations that are on S3."""
    remote = frozenset(location for location in locations if location.startswith(S3))
    pinned = PinnedFiles(address, remote)
    connection.register_filesystem(pinned)
    return pinned


class PinnedFiles(AbstractFileSystem):  # type: ignore[misc]
    """See the module."""

    protocol = "s3"
    cachable = False

    def __init__(self, address: LakeAddress, locations: frozenset[str]) -> None:
        super().__init__()
        self._address = address
        self._storage = s3_filesystem(address)
        self._failure: OSError | None = None
        self._locations = locations

    def attempt(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            self._failure = self._failure or error
            raise

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """While DuckDB runs: raise an error of the S3 server itself, not DuckDB's error with a traceback."""
        try:
            yield
        except duckdb.Error:
            failure, self._failure = self._failure, None
            if failure is None:
                raise
            with refusing_a_bad_bucket(self._address):
                raise failure from None

    def open(self, path: str, mode: str = "rb", **more: Any) -> "PinnedFile":
        if path not in self._locations or mode != "rb":
            raise PermissionError(f"{path} is not a file of the epoch, or is opened for writing ({mode})")
        return PinnedFile(self, self.attempt(lambda: self._storage.open_input_file(path.removeprefix(S3))))

    def glob(self, path: str, **more: Any) -> list[str]:
        return [path] if path in self._locations else []

    def exists(self, path: str, **more: Any) -> bool:
        return path in self._locations

    isfile = exists

    def size(self, path: str) -> int:
        with self.open(path) as file:
            return file.size()

    def modified(self, path: str) -> datetime:
        return UNCHANGED_SINCE


class PinnedFile:
    """DuckDB seeks and then reads one file in several threads, so each thread has its own position."""

    def __init__(self, owner: PinnedFiles, file: pa.NativeFile) -> None:
        self._owner = owner
        self._file = file
        self._places: dict[int, int] = {}

    def __enter__(self) -> "PinnedFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def size(self) -> int:
        return int(self._file.size())

    def tell(self) -> int:
        return self._places.get(threading.get_ident(), 0)

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset + (0, self.tell(), self.size())[whence]
        self._places[threading.get_ident()] = place
        return place

    def read(self, size: int = -1) -> bytes:
        place = self.tell()
        wanted = size if size >= 0 else self.size() - place
        block: bytes = self._owner.attempt(lambda: self._file.read_at(wanted, place))
        self._places[threading.get_ident()] = place + len(block)
        return block

    def close(self) -> None:
        self._file.close()
