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
            # pre_buffer would hold whole row groups, and some writers make one group of a file
            for batch in source.iter_batches(BATCH_ROWS, columns=list(columns)):
                rows_read += batch.num_rows
                frame = pl.from_arrow(pa.Table.from_batches([batch]))
                assert isinstance(frame, pl.DataFrame)
                yield Batch(frame.select(columns), None, self._bytes * rows_read // max(1, self._rows))


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """What Arrow says of a broken file, in one line. Does not catch what the reader of the batches raises."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise BadInput(f"{path} is not whole as a Parquet file ({said}): download it again") from error
