"""Compare the lake with Postgres row by row, before an epoch is published or at any time.

Before publishing: the files of the epoch are compared with the rows of Postgres in the snapshot that they
were read from. At any time: the newest epoch with the changes since then is compared with one snapshot of
Postgres.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow

from lakehouse.source.changes import Tombstones, read_changes, set_since
from lakehouse.source.copy import computed_row_errors
from lakehouse.source.snapshot import open_source_snapshot
from lakehouse.source.tables import TableSource, existing, tombstones_deleted_before
from lakehouse.table.catalog import Lake
from lakehouse.table.columns import RowsNotComputed
from lakehouse.table.deletes import deleted_rows
from lakehouse.table.epoch import DataFile, DeleteFile, Epoch, TableState
from lakehouse.table.published import newest_epoch, numbered_epoch, pin_epoch
from lakehouse.table.s3 import bucket_errors
from lakehouse.table.storage import Storage
from lakehouse.verify.compare import RowDifference, TableComparison, compare_table
from oltp.store import Store, has_tracking
from ridelake.errors import NotReady, ProofFailed
from ridelake.settings import LakeAddress

TRIES = 10
NOT_TRACKED = "it is not tracked"


@dataclass(frozen=True, slots=True, repr=False)
class VerifyResult:
    """`tail_rows`: for each table, the number of changed rows that are not in the epoch's files yet.
    `not_compared`: the other tables of the lake, and why each is not compared. Most are not tracked, so that
    their changes since the epoch are unknown."""

    epoch: int
    comparisons: tuple[TableComparison, ...]
    tail_rows: tuple[int, ...]
    not_compared: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<VerifyResult epoch {self.epoch}: {self.rows:,} rows {'equal' if self.equal else 'DIFFER'}>"

    @property
    def rows(self) -> int:
        return sum(comparison.rows for comparison in self.comparisons)

    @property
    def equal(self) -> bool:
        return all(comparison.equal for comparison in self.comparisons)

    def prove(self) -> None:
        """Check that all tables are equal. Raises ProofFailed with the rows that differ, if there are any."""
        raise_if_different(self.comparisons)

    def as_dict(self) -> dict[str, Any]:
        """The document of `--json`."""
        return {
            "epoch": self.epoch,
            "rows": self.rows,
            "equal": self.equal,
            "tables": [
                asdict(comparison) | {"equal": comparison.equal, "tail_rows": tail}
                for comparison, tail in zip(self.comparisons, self.tail_rows, strict=True)
            ],
            "not_compared": dict(self.not_compared),
        }


def raise_if_different(comparisons: Iterable[TableComparison]) -> None:
    """Check that the tables are equal. Raises ProofFailed with the rows that differ, if there are any."""
    different = [comparison for comparison in comparisons if not comparison.equal]
    if different:
        rows = [_difference_text(one) for comparison in different for one in comparison.differences[:5]]
        counts = ", ".join(f"{one.rows_different:,} of {one.table}" for one in different)
        raise ProofFailed(f"the lake differs from Postgres in these rows: {counts}. {'; '.join(rows)}")


def verify_at_token(
    connection: Connection[TupleRow],
    lake: LakeAddress,
    sources: Iterable[TableSource],
    tables: dict[str, TableState],
) -> None:
    """Must run in the transaction of the token. Raises ProofFailed with the rows that differ, RowsNotComputed
    if the server cannot compute rows that it has computed before."""

    def compare(source: TableSource) -> TableComparison:
        with computed_row_errors(connection, source):
            return _compare(connection, lake, source, tables[source.lake_name])

    raise_if_different(map(compare, sources))


def verify_now(store: Store, lake: Lake) -> VerifyResult:
    """Compare the newest epoch and the changes since then with Postgres. Raises NotReady if there is no
    epoch, or if the changes of a table are unknown; UsageError as `publish_changes` does. A difference is not
    raised: see `VerifyResult.prove`."""
    for _ in range(TRIES):
        newest = _newest_seen(lake)
        try:
            return _verify(store, lake, newest)
        except NotReady:
            # The next epoch may have been published, and older tombstones deleted.
            if _newest_seen(lake).token == newest.token:
                raise
    raise NotReady(
        f"cannot verify: a new epoch was published during each of {TRIES} attempts; run the command again"
    )


def _newest_seen(lake: Lake) -> Epoch:
    """The newest epoch of the store. Raises NotReady if there is none."""
    if (epoch := lake.seen(newest_epoch(lake.address))) is None:
        raise NotReady(f"no epoch of {lake.store} yet in {lake.address.root}: run `ridelake sync`")
    return epoch


def _verify(store: Store, lake: Lake, newest: Epoch) -> VerifyResult:
    with (
        pin_epoch(lake.address, newest),
        bucket_errors(lake.address),
        store.connect() as connection,
    ):
        sources = [state.source for state in newest.tables.values()]
        names = existing(connection, sources)
        left = {
            one.source: f"it is not in epoch {newest.number}: {one.reason}"
            for one in newest.left_out.values()
        }
        left |= {name: "it was dropped or renamed since then" for name in sources if name not in names}
        compared: list[tuple[TableComparison, int]] = []
        with open_source_snapshot(
            store, connection, names, newest.token, newest.without, newest.forms, newest.names, names
        ) as snapshot:
            tracked = _tracked(connection, newest, snapshot.sources)
            left |= {source.qualified: NOT_TRACKED for source in snapshot.sources if source not in tracked}
            tombstones = set_since(connection, newest.token)
            for source in tracked:
                try:
                    with computed_row_errors(connection, source):
                        state = newest.tables[source.lake_name]
                        compared.append(_with_changes(connection, lake.address, source, state, tombstones))
                except RowsNotComputed as error:
                    left[source.qualified] = str(error)
    return VerifyResult(newest.number, tuple(c for c, _ in compared), tuple(n for _, n in compared), left)


def _with_changes(
    connection: Connection[TupleRow],
    lake: LakeAddress,
    source: TableSource,
    state: TableState,
    tombstones: Tombstones,
) -> tuple[TableComparison, int]:
    """Compare the table's files and the changes since then; the second value is their number."""
    tail = read_changes(connection, source, tombstones, state)
    minus_keys = pa.concat_tables([tail.changed.select(source.key), tail.deleted])
    files = None if tail.emptied else state
    return _compare(connection, lake, source, files, minus_keys, tail.changed), tail.changed.num_rows


def _tracked(
    connection: Connection[TupleRow], newest: Epoch, sources: Sequence[TableSource]
) -> list[TableSource]:
    """The tables whose changes since the epoch are known. Raises NotReady if there are none, or if a tracked
    table has unknown changes."""
    cleared = tombstones_deleted_before(connection)
    has_any = has_tracking(connection)
    found: list[TableSource] = []
    unknown: str | None = None
    for source in sources:
        state = newest.tables[source.lake_name]
        is_tracked = has_any and source.tracked_since is not None
        if source.can_be_taken_by_changes_since(newest.token, state, cleared):
            found.append(source)
            continue
        why = "was altered or tracked again since then" if is_tracked else "is not tracked"
        unknown = (
            f"cannot determine the changes of {source.qualified} since epoch {newest.number}: the table "
            f"{why}; run `ridelake snapshot --verify`, which compares all rows in one snapshot"
        )
        if is_tracked:
            raise NotReady(unknown)
    if not found and unknown:
        raise NotReady(unknown)
    return found


def _compare(
    connection: Connection[TupleRow],
    lake: LakeAddress,
    source: TableSource,
    state: TableState | None,
    minus_keys: pa.Table | None = None,
    plus_rows: pa.Table | None = None,
) -> TableComparison:
    return compare_table(
        connection,
        source.schema,
        source.name,
        source.columns,
        state.locations if state else (),
        deleted=deleted_rows(lake, state) if state else {},
        minus_keys=minus_keys,
        plus_rows=plus_rows,
        lake=lake,
        kind=source.kind,
        partitions=source.partitions,
    )


def _difference_text(difference: RowDifference) -> str:
    key = ", ".join(difference.key)
    columns = ", ".join(f"{name} {expected} / {found}" for name, expected, found in difference.columns)
    return f"{difference.table} ({key}) {difference.kind}" + (
        f": {columns} (Postgres / lake)" if columns else ""
    )


def verify_files(address: LakeAddress, number: int) -> int:
    """Check that the files of an epoch exist and have their checksums; return their number. Raises
    ProofFailed with the names of the damaged files, UsageError if there is no such epoch."""
    storage = Storage.of(address)
    epoch = numbered_epoch(address, number)

    def damage(file: DataFile | DeleteFile) -> str | None:
        try:
            if not storage.exists(file.location):
                return f"{file.location} is missing"
            if storage.bytes_and_sha256(file.location) != (file.bytes, file.sha256):
                return f"{file.location} does not match its checksum"
        except PermissionError:
            return f"{file.location} cannot be read: permission denied"
        return None

    with bucket_errors(address), ThreadPoolExecutor(2) as threads:
        if damaged := [text for text in threads.map(damage, epoch.stored_files) if text]:
            raise ProofFailed(f"epoch {number} is damaged: {'; '.join(damaged)}")
    return len(epoch.stored_files)
