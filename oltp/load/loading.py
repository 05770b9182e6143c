"""The second pass: writes accepted rows into the store, and rejected rows into the quarantine."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.history import known_requests, settle, store_trips
from oltp.load.checking import CheckedFile
from oltp.load.explanation import add_examples, explain
from oltp.load.quarantine import Quarantine
from oltp.load.rules import CODE, GOOD, Reason, as_trips
from oltp.load.trip_file import Batch
from oltp.load.values import read_values
from oltp.store import Store, transaction
from ridelake.errors import BadInput
from ridelake.progress import Progress, progress

NAMES = {code: str(reason) for reason, code in CODE.items()}


@dataclass(frozen=True, slots=True)
class FileReport:
    """read = loaded + sum(rejected). `quarantine`: the file with the rejected rows, or None. `examples`: for
    each reason, texts about a few rows of the file."""

    file: Path
    kind: str
    period: str
    read: int
    loaded: int
    rejected: dict[str, int]
    quarantine: Path | None
    examples: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of one call. A row that is already in the store counts as rejected, for that reason."""

    files: list[FileReport]
    seconds: float

    @property
    def read(self) -> int:
        return sum(file.read for file in self.files)

    @property
    def loaded(self) -> int:
        return sum(file.loaded for file in self.files)

    @property
    def rejected(self) -> dict[str, int]:
        counts = sum((Counter(file.rejected) for file in self.files), Counter[str]())
        return {str(reason): counts[reason] for reason in Reason if counts[reason]}

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "read": self.read,
            "loaded": self.loaded,
            "rejected": self.rejected,
            "seconds": round(self.seconds, 3),
            "files": [
                asdict(file) | {"file": str(file.file), "period": file.period or None} for file in self.files
            ],
        }


def load_files(
    store: Store, checked: Sequence[CheckedFile], quarantine: Path, *, seed: int = 1
) -> LoadReport:
    """Store the accepted rows of all files in one transaction. After the commit, publish the rejected rows in
    the folder `quarantine`. `seed`: for the choice of riders and drivers. Raises BadInput if a file has
    changed."""
    started = perf_counter()
    with ExitStack() as stack:
        asides = [stack.enter_context(Quarantine(quarantine, file.path)) for file in checked]
        connection = stack.enter_context(store.connect())
        shown = stack.enter_context(progress("loading, rows", sum(file.rows for file in checked)))
        with transaction(connection):
            counts = [
                _load(connection, file, aside, seed, shown)
                for file, aside in zip(checked, asides, strict=True)
            ]
        places = [aside.publish() for aside in asides]
        shown.step("VACUUM and ANALYZE")
        settle(connection)
    reports = [
        FileReport(file.path, file.layout.kind, file.period, file.rows, loaded, rejected, place, examples)
        for file, (loaded, rejected, examples), place in zip(checked, counts, places, strict=True)
    ]
    return LoadReport(reports, perf_counter() - started)


def _load(
    connection: Connection[TupleRow], checked: CheckedFile, aside: Quarantine, seed: int, shown: Progress
) -> tuple[int, dict[str, int], dict[str, list[str]]]:
    """Load one file. Returns the number of loaded rows, the rejected ones by reason, and examples of
    these."""
    rows_read, loaded, there = 0, 0, 0
    examples: dict[str, list[str]] = {}
    for batch in checked.file.batches(checked.file.columns):
        verdict = checked.verdicts.slice(rows_read, batch.rows.height)
        if len(verdict) < batch.rows.height:
            raise _changed(checked)
        good = verdict == GOOD
        trips = as_trips(read_values(batch, checked.layout).filter(good))
        known = known_requests(connection, trips["request_id"])
        new = trips.filter(~pl.col("request_id").is_in(known.implode()))
        there += trips.height - new.height
        if not new.is_empty():
            loaded += store_trips(connection, new, seed=seed)

        row = pl.int_range(rows_read + 1, rows_read + 1 + batch.rows.height, eager=True)
        why = verdict.filter(~good).replace_strict(NAMES, return_dtype=pl.String)
        bad = Batch(
            batch.rows.filter(~good), None if batch.malformed is None else batch.malformed.filter(~good), 0
        )
        explained = explain(bad, checked.layout, why, checked.period)
        aside.add(bad.rows, why, explained, row.filter(~good))
        add_examples(examples, why, explained, row.filter(~good))
        rows_read += batch.rows.height
        shown.advance(batch.rows.height)
    if rows_read != checked.rows:
        raise _changed(checked)
    aside.finish()

    counts = Counter(
        {NAMES[code]: count for code, count in checked.verdicts.value_counts().rows() if code != GOOD}
    )
    counts[Reason.ALREADY_LOADED] = there
    return loaded, {str(reason): counts[reason] for reason in Reason if counts[reason]}, examples


def _changed(checked: CheckedFile) -> BadInput:
    return BadInput(f"{checked.path} changed while it was read: load it again when it is complete")
