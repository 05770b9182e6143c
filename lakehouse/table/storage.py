"""The storage of a lake's files: a folder, or a bucket of an S3 server, with the same interface.

A local file and its directory entry are flushed to disk once `settle` has returned. An object store
guarantees this when the upload returns.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import fs

from lakehouse.table.s3 import bucket_errors, no_bucket, s3_filesystem
from ridelake.errors import CannotConnect, OutOfResources, UsageError, first_line
from ridelake.resources import describe_shortage
from ridelake.settings import S3, LakeAddress

if TYPE_CHECKING:
    from sqlalchemy.exc import OperationalError

# fsync waits for the disk, which is faster with several requests in its queue.
FSYNC_THREADS = 8
DELETE_THREADS = 8
HASH_BYTES = 1 << 20


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


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An entry of a listing."""

    location: str
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Storage:
    """Reads and writes files of a lake. Locations are absolute paths or s3:// URLs."""

    address: LakeAddress
    filesystem: fs.FileSystem

    @classmethod
    def of(cls, address: LakeAddress) -> "Storage":
        return cls(address, s3_filesystem(address) if address.remote else fs.LocalFileSystem())

    def path(self, location: str) -> str:
        """The location in the form that pyarrow's filesystem expects."""
        return location.removeprefix(S3) if self.address.remote else location

    def make_folder(self, location: str) -> None:
        if not self.address.remote:
            self.filesystem.create_dir(self.path(location), recursive=True)

    def create(self, location: str) -> pa.NativeFile:
        """Open a new file for writing."""
        return self.filesystem.open_output_stream(self.path(location))

    def open(self, location: str) -> pa.NativeFile:
        return self.filesystem.open_input_file(self.path(location))

    def bytes_and_sha256(self, location: str) -> tuple[int, str]:
        """Size and checksum of the stored file."""
        digest, size = hashlib.sha256(), 0
        with self.filesystem.open_input_stream(self.path(location)) as stream:
            while block := stream.read(HASH_BYTES):
                digest.update(block)
                size += len(block)
        return size, digest.hexdigest()

    def write_whole(self, location: str, content: bytes) -> None:
        """Write a small file atomically."""
        if self.address.remote:
            with ThreadPoolExecutor(1) as thread:  # Ctrl-C must not interrupt it: half would be stored
                thread.submit(self._upload, location, content).result()
            return
        path, draft = Path(location), Path(f"{location}.{secrets.token_hex(4)}")  # unique, if two write it
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _fsync(str(path.parent))

    def _upload(self, location: str, content: bytes) -> None:
        with self.create(location) as stream:
            stream.write(content)

    def try_writing(self) -> None:
        """Create and delete a file. Raises OSError if that fails."""
        if self.address.remote:
            probe = self.address.join("epochs", f"probe-{secrets.token_hex(4)}")
            self.write_whole(probe, b"write test")
            self.delete([probe])
            return
        (self.address.folder / "epochs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.address.folder):
            pass

    def refuse_without_bucket(self) -> None:
        """Check that the bucket exists. Raises UsageError if it does not exist or cannot be read,
        CannotConnect if the server does not respond."""
        with bucket_errors(self.address):
            if self.filesystem.get_file_info(self.address.bucket).type == fs.FileType.NotFound:
                raise no_bucket(self.address)

    def exists(self, location: str) -> bool:
        return bool(self.filesystem.get_file_info(self.path(location)).type != fs.FileType.NotFound)

    def delete(self, locations: Iterable[str]) -> None:
        """Delete files; missing files are ignored."""
        if not self.address.remote:
            for location in locations:
                self._delete(location)
            return
        with ThreadPoolExecutor(DELETE_THREADS) as threads:
            list(threads.map(self._delete, locations))

    def _delete(self, location: str) -> None:
        with suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(location))

    def files_under(self, *folder: str) -> Iterator[StoredFile]:
        """All files under a folder of the lake, at any depth."""
        selector = fs.FileSelector(
            self.path(self.address.join(*folder)), allow_not_found=True, recursive=True
        )
        for info in self.filesystem.get_file_info(selector):
            if info.type == fs.FileType.File:
                yield StoredFile(f"{S3 if self.address.remote else ''}{info.path}", info.mtime)

    def settle(self, locations: Iterable[str]) -> None:
        """Flush the files and their folders to disk."""
        if self.address.remote:
            return
        paths = set(locations)
        folders = {str(Path(path).parent) for path in paths}
        folders |= {str(Path(folder).parent) for folder in folders} | {self.address.root}
        with ThreadPoolExecutor(FSYNC_THREADS) as threads:
            for batch in (paths, folders):  # folders after their files
                list(threads.map(_fsync, batch))


def _fsync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def file_lock(path: Path | str, operation: int = fcntl.LOCK_EX) -> Iterator[bool]:
    """Hold the kernel's lock on a file or a folder; yields whether it was acquired, which another process
    prevents if `operation` has LOCK_NB. The kernel releases it when the process ends. Raises
    FileNotFoundError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def lake_errors(address: LakeAddress) -> Iterator[None]:
    """Convert errors of the folder, the bucket or the catalog into messages for the user. Raises UsageError,
    OutOfResources or CannotConnect."""
    from sqlalchemy.exc import DBAPIError, OperationalError  # imported here, because it takes 0.5 s to import

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
            raise _catalog_unreachable(error) from error
        if short := describe_shortage(error, address.catalog_file, "--lake"):
            raise OutOfResources(short) from error
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the primary result code
        if code == sqlite3.SQLITE_NOTADB:
            raise UsageError(f"{address.catalog_file} is not a catalog: {OTHER_FOLDER_HINT}") from error
        fault = FOLDER_ERRORS.get(SQLITE_ERRORS.get(code, 0))
        if fault is None:
            raise
        raise UsageError(f"the lake {address.root} cannot be written, {fault}") from error


def _catalog_unreachable(error: "OperationalError") -> CannotConnect:
    reason = first_line(error.orig or error)
    return CannotConnect(f"cannot reach the lake's catalog: {reason}; check --catalog or RIDELAKE_CATALOG")
