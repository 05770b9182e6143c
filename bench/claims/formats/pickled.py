"""Pickle: a program that rebuilds Python objects. Never read a pickle from an untrusted source.

`runs_code` shows why: reading a pickle executes the code in it.
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
    """The rows of all pickles in the file, in the order in which they were appended."""
    with path.open("rb") as file:
        end = path.stat().st_size
        while file.tell() < end:
            yield from pickle.load(file)


class _Command:
    """An object whose pickle calls a function: here `Path.touch`, which is harmless."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._witness,)


def runs_code(folder: Path) -> bool:
    """Whether reading a pickle calls the function named in it."""
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
