"""Writers for the tables of an epoch: a draft, which can be published, or an overlay, which cannot."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.epoch import DataFile, Epoch, TableState
from lakehouse.extract.sorting import sort_run, sorted_runs
from lakehouse.layout import RUN_BYTES, RUN_ROWS, SEAL_BYTES, SEAL_ROWS, write_run
from lakehouse.source import TableSource
from lakehouse.storage import Storage


@dataclass(slots=True)
class TableWriter:
    """Writes new files of one table. Rows that may still change, and rows too few to be sealed, are collected
    for the table's open file. `add_run` may be called from several threads."""

    storage: Storage
    table: TableSource
    schema: pa.Schema  # of the files
    stem: str
    files: list[DataFile] = field(default_factory=list)
    _open: list[pa.Table] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_run(self, rows: pa.Table) -> None:
        """At most RUN_ROWS rows, in the table's order."""
        settled, unsettled = self._split(rows)
        if not _fills_a_file(settled):
            settled, unsettled = rows.slice(0, 0), rows
        file = self._write(settled, sealed=True) if settled.num_rows else None
        with self._lock:
            self.files += [file] if file else []
            self._open += [unsettled] if unsettled.num_rows else []

    def add_rows(self, rows: pa.Table) -> None:
        """Any number, in any order."""
        settled, unsettled = self._split(rows)
        if not _fills_a_file(settled):
            settled, unsettled = rows.slice(0, 0), rows
        for run in sorted_runs(settled, self.table.order_by, RUN_ROWS, RUN_BYTES):
            self.files.append(self._write(run, sealed=True))
        self._open += [unsettled] if unsettled.num_rows else []

    def finish(self, kept: Sequence[DataFile] = ()) -> tuple[DataFile, ...]:
        """Write the open file, if it has rows or the table has no other file. Returns all files of the table:
        `kept` and the new ones. `kept` must not contain an open file if there are rows for a new one."""
        rows = pa.concat_tables([*self._open, self.table.arrow_schema.empty_table()])
        if _fills_a_file(rows) and self.table.layout.settled is None:
            self._open.clear()
            self.add_rows(rows)
        elif rows.num_rows or not (kept or self.files):
            self.files.append(self._write(sort_run(rows, self.table.order_by), sealed=False))
        return (*kept, *self.files)

    def _split(self, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        if self.table.layout.settled is None:
            return rows, rows.slice(0, 0)
        settled = self.table.layout.settled(rows)
        return rows.filter(settled), rows.filter(pc.invert(settled))

    def _write(self, rows: pa.Table, *, sealed: bool) -> DataFile:
        return write_run(
            self.storage, self.stem, self.table.columns, self.schema, self.table.order_by, rows, sealed=sealed
        )


def _fills_a_file(rows: pa.Table) -> bool:
    """Whether the rows are enough for a separate sealed file."""
    return bool(rows.num_rows >= SEAL_ROWS or rows.nbytes >= SEAL_BYTES)


@dataclass(slots=True, kw_only=True)
class Sink(ABC):
    """Collects the tables of a new epoch. The files of the previous epoch are read from `reading`."""

    previous: Epoch | None
    reading: Storage
    tables: dict[str, TableState] = field(default_factory=dict)

    @abstractmethod
    def writer(self, table: TableSource) -> TableWriter:
        """A writer for the table's new files."""

    def before(self, table: str) -> TableState | None:
        return self.previous.tables.get(table) if self.previous else None

    @contextmanager
    def taking(self, table: TableSource) -> Iterator[None]:
        """A context in which one table is read and written."""
        yield

    def put(
        self, table: TableSource, files: tuple[DataFile, ...], changed: int = 0, deleted: int = 0
    ) -> None:
        """Set the table's files in this epoch. Its Iceberg metadata is written later."""
        self.tables[table.name] = TableState(
            table.qualified, table.relation, table.shape, files, 0, "", changed, deleted, table.without
        )

    def keep(self, name: str) -> None:
        """Use the table's files of the previous epoch."""
        state = self.before(name)
        assert state is not None
        self.tables[name] = replace(state, changed=0, deleted=0)
