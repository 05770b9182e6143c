"""The same rides in eight formats: size, speed, lost values and properties of the file."""

import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from bench.claims.formats import FORMATS, FileFormat
from bench.claims.formats.fidelity import identical, lost
from bench.claims.formats.file_format import Row, is_readable
from bench.claims.formats.pickled import runs_code
from bench.claims.formats.protobuf import message_class
from bench.claims.formats.rides import rides_table
from bench.claims.words import Saying
from bench.figure import Axis, Cell, Chart, Contest, Figure, Series, Verdict
from lakehouse.epoch import Epoch

RIDES_MAX = 5_000  # some formats make Python objects, at 0.1 ms per row
NUMBERS = (7, -5, 1_000_000, 2**31 - 1)
COLUMN_ROWS = 100_000


def bench_text_and_binary(figure: Figure, epoch: Epoch, tmp_path: Path) -> None:
    figure.title = "The same rides in eight formats: how large are they, and how long do they take?"
    rides = rides_table(epoch, min(figure.scale.rides // 20, RIDES_MAX))
    figure.rows = rides.num_rows
    paths = {form.name: tmp_path / f"rides.{form.name}" for form in FORMATS}
    rows = rides.to_pylist()
    writing = figure.interleaved(
        {form.name: partial(_write, form, rows, rides.schema, paths[form.name]) for form in FORMATS},
        lambda answers: _assert_kept(rides, paths),
        label="write",
    )
    reading = figure.interleaved(
        {
            form.name: partial(form.read, paths[form.name], rides.schema, rides.column_names)
            for form in FORMATS
        },
        lambda tables: _assert_identical(rides, tables),
        label="read",
    )
    figure.checked("the rides, written in each format and read back, are equal, bit by bit")
    figure.table(
        f"{figure.rows:,} rides of 16 columns",
        [_properties(form, paths[form.name], rides.num_rows, writing, reading) for form in FORMATS],
    )
    figure.table(
        "Values that a format does not preserve",
        [{"format": form.name, "lost": ", ".join(lost(form, tmp_path)) or "nothing"} for form in FORMATS],
    )
    figure.table("Bytes of one number", [number_bytes(number) for number in NUMBERS])
    figure.table(f"Bytes per number in a column of {COLUMN_ROWS:,}", column_bytes(tmp_path))
    if runs_code(tmp_path):
        figure.warn("Pickle executes code: reading a file called a function named in it")
    sizes = {form: paths[form.name].stat().st_size / rides.num_rows for form in FORMATS}
    zstd = {form: zstd_bytes(paths[form.name]) / rides.num_rows for form in FORMATS}
    _draw(figure, sizes, zstd)
    _judge(figure, sizes)


def _write(form: FileFormat, rows: list[Row], schema: pa.Schema, path: Path) -> None:
    path.unlink(missing_ok=True)
    form.write(rows, schema, path)


def _assert_kept(rides: pa.Table, paths: dict[str, Path]) -> None:
    read = {form.name: form.read(paths[form.name], rides.schema, rides.column_names) for form in FORMATS}
    _assert_identical(rides, read)


def _assert_identical(rides: pa.Table, tables: dict[str, pa.Table]) -> None:
    for name, table in tables.items():
        assert identical(table, rides), name


def _properties(
    form: FileFormat, path: Path, rows: int, writing: Contest, reading: Contest
) -> dict[str, Cell]:
    """The properties of the format and of the file."""
    with path.open("rb") as file:
        has_magic = bool(form.magic) and file.read(len(form.magic)) == form.magic
    return {
        "format": form.name,
        "library": form.library,
        "layout": form.layout,
        "bytes_per_ride": path.stat().st_size / rows,
        "bytes_per_ride_zstd": zstd_bytes(path) / rows,
        "write_seconds": writing.median_seconds(form.name),
        "read_seconds": reading.median_seconds(form.name),
        "readable_by_a_human": _yes(is_readable(path)),
        "describes_its_columns": form.describes,
        "splits": _yes(form.splits),
        "appends": _yes(form.appends),
        "magic": repr(form.magic)[2:-1] if has_magic else "none",
    }


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def number_bytes(number: int) -> dict[str, Cell]:
    """The bytes of a number as text (without a separator) and in the binary formats as an int32."""
    avro = io.BytesIO()
    fastavro.schemaless_writer(avro, {"type": "int"}, number)
    message = message_class(pa.schema([("number", pa.int32())]))(number=number)
    return {
        "number": number,
        "text": len(str(number)),
        "int32": np.int32(number).nbytes,
        "avro": len(avro.getvalue()),
        "protobuf_with_its_tag": message.ByteSize(),
        "pickle": len(pickle.dumps(number)),
    }


def column_bytes(folder: Path) -> list[dict[str, Cell]]:
    """The bytes per number in a whole column: Parquet stores repeated values once."""
    random = np.random.default_rng(COLUMN_ROWS)
    begin = 1_000_000
    columns: dict[str, np.ndarray] = {
        "1000000, constant": np.full(COLUMN_ROWS, begin, np.int32),
        "1000000, increasing by 1": np.arange(begin, begin + COLUMN_ROWS, dtype=np.int32),
        "one of a hundred numbers": begin + random.integers(0, 100, COLUMN_ROWS, np.int32),
        "one of nine million numbers": begin + random.integers(0, 9_000_000, COLUMN_ROWS, np.int32),
    }
    return [_bytes_a_number(name, values, folder) for name, values in columns.items()]


def _bytes_a_number(name: str, values: np.ndarray, folder: Path) -> dict[str, Cell]:
    table, path = pa.table({"number": values}), folder / "numbers"
    writes: dict[str, Callable[[], None]] = {
        "csv": lambda: pc.write_csv(table, path),
        "parquet": lambda: pq.write_table(table, path, compression="none"),
        "parquet_delta": lambda: pq.write_table(
            table,
            path,
            compression="none",
            use_dictionary=False,
            column_encoding={"number": "DELTA_BINARY_PACKED"},
        ),
    }
    cells: dict[str, Cell] = {"column": name, "int32": float(values.itemsize)}
    for encoding, write in writes.items():
        write()
        cells[encoding] = path.stat().st_size / len(values)
    return cells


def zstd_bytes(path: Path) -> int:
    return len(pa.compress(path.read_bytes(), codec="zstd"))


def _draw(figure: Figure, ride_bytes: dict[FileFormat, float], zstd: dict[FileFormat, float]) -> None:
    names: list[Cell] = [form.name for form in ride_bytes]
    series = [
        Series("uncompressed", names, list(ride_bytes.values())),
        Series("with zstd", names, list(zstd.values())),
    ]
    title = f"Bytes per ride, {figure.rows:,} rides"
    figure.chart(Chart("bars", title, Axis("format"), Axis("bytes"), series))


def _judge(figure: Figure, ride_bytes: dict[FileFormat, float]) -> None:
    texts = sorted((form for form in FORMATS if form.is_text), key=ride_bytes.__getitem__)
    binaries = sorted((form for form in FORMATS if not form.is_text), key=ride_bytes.__getitem__)
    million = number_bytes(1_000_000)
    as_claimed = (million["text"], million["int32"]) == (7, 4)
    smallest, largest = binaries[0], binaries[-1]
    verdict: Verdict = "does not hold"
    if as_claimed and ride_bytes[texts[-1]] > ride_bytes[smallest]:
        verdict = "holds" if ride_bytes[texts[0]] > ride_bytes[largest] else "holds in part"
    figure.state(Saying.TEXT_AND_BINARY, verdict)
