"""Pickle: a program that makes Python's objects again. Never read one from somebody you do not trust.

`runs_code` shows why: to read the file is to run what its writer has put into it.
"""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from bench.claims.formats.file_format import FileFormat, Row, rows_to_table


def _write(rows: Sequence[Row], schema: pa.Schema, path: Path) -> None:
    with path.open("ab") as file:
        pickle.dump(list(rows), file, protocol=pickle.HIGHEST_PROTOCOL)


def _read(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    return rows_to_table(_rows(path), schema, columns)


def _rows(path: Path) -> Iterator[Row]:
    """Of one pickle behind the other, as they were appended."""
    with path.open("rb") as file:
        end = path.stat().st_size
        while file.tell() < end:
            yield from pickle.load(file)


class _Command:
    """Something that is pickled as a call: here of a harmless function, `Path.touch`."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._witness,)


def runs_code(folder: Path) -> bool:
    """Whether a call that the file names was made while it was read."""
    witness = folder / "witness"
    letter = pickle.dumps(_Command(witness))
    assert not witness.exists()
    pickle.loads(letter)
    return witness.exists()


PICKLE = FileFormat(
    "Pickle",
    "pickle",
    layout="rows",
    is_text=False,
    describes="names and types",
    splits=False,
    appends=True,
    magic=b"\x80",
    write=_write,
    read=_read,
)
