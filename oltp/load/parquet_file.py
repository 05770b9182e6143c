"""Trips in Parquet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from oltp.load.trip_file import BATCH_ROWS, Batch
from ridelake.errors import BadInput


class ParquetFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = path.stat().st_size
        with _damage_named(path), pq.ParquetFile(path) as source:
            self.columns: Sequence[str] = source.schema_arrow.names
            self._rows = source.metadata.num_rows

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        rows_read = 0
        with _damage_named(self.path), pq.ParquetFile(self.path) as source:
            # pre_buffer would keep whole row groups in memory, and some files have only one
            for batch in source.iter_batches(BATCH_ROWS, columns=list(columns)):
                rows_read += batch.num_rows
                frame = pl.from_arrow(pa.Table.from_batches([batch]))
                assert isinstance(frame, pl.DataFrame)
                yield Batch(frame.select(columns), None, self._bytes * rows_read // max(1, self._rows))


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Raises BadInput with Arrow's message if the file is damaged."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise BadInput(f"{path} is a damaged Parquet file ({reason}): download it again") from error
