"""The rejected rows: one Parquet file for each input file.

It has all columns of the input, unchanged, and before them: `reason`; the `column` and the `value` that
caused the rejection, and what was `expected`; `file` and `row` (from 1, without the header). Its name
contains a hash of the path of the input file, so loading that file again replaces it.
"""

import hashlib
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ridelake.errors import OutOfResources, RidelakeError
from ridelake.resources import describe_shortage

OURS = ("reason", "column", "value", "expected", "file", "row")


class Quarantine:
    """Writes rows to a temporary file. `finish` completes it, `publish` renames it; without `publish` it is
    deleted at the end."""

    def __init__(self, folder: Path, source: Path) -> None:
        mark = hashlib.blake2b(str(source.resolve()).encode(), digest_size=4).hexdigest()
        self.path = folder / f"{source.name.split('.')[0]}-{mark}.parquet"
        self.rows = 0
        self._source = source
        # A random suffix, because a call may name a file twice.
        self._aside = self.path.with_suffix(f".{secrets.token_hex(4)}")
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        with suppress(OSError):
            self._aside.unlink(missing_ok=True)

    def add(self, rows: pl.DataFrame, reason: pl.Series, why: pl.DataFrame, row: pl.Series) -> None:
        """Add rejected rows. `why`: the column, value and expected of each row."""
        if rows.is_empty():
            return
        clash = {name: f"{name}_of_file" for name in rows.columns if name in OURS}
        ours = {
            "reason": reason,
            **{name: why[name] for name in ("column", "value", "expected")},
            "file": pl.Series([str(self._source)]).new_from_index(0, rows.height),
            "row": row,
        }
        table = pl.concat([pl.DataFrame(ours), rows.rename(clash)], how="horizontal").to_arrow()
        try:
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(self._aside, table.schema, compression="zstd")
            self._writer.write_table(table.cast(self._writer.schema))
        except (OSError, pa.ArrowException) as error:
            raise _no_room(self.path, error) from error
        self.rows += rows.height

    def finish(self) -> None:
        """Complete the temporary file. After this, only the rename in `publish` can fail."""
        try:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        except (OSError, pa.ArrowException) as error:
            raise _no_room(self.path, error) from error

    def publish(self) -> Path | None:
        """Rename the file and return its path. If no row was rejected, delete an older file and return
        None."""
        try:
            if self.rows == 0:
                self.path.unlink(missing_ok=True)
                return None
            self._aside.replace(self.path)
        except OSError as error:
            raise _no_room(self.path, error) from error
        return self.path


def _no_room(path: Path, error: Exception) -> RidelakeError:
    if message := describe_shortage(error, path.parent, "--quarantine"):
        return OutOfResources(message)
    return RidelakeError(
        f"cannot write the rejected rows to {path} ({error}): choose another folder with --quarantine"
    )
