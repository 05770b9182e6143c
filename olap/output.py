"""Write an answer to stdout, or atomically to a file."""

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import IO, TYPE_CHECKING

from ridelake.errors import BadInput, OutOfResources, UsageError
from ridelake.resources import describe_shortage

if TYPE_CHECKING:
    import pyarrow as pa

    from olap.options import Expanded

SUFFIXES = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".md": "markdown",
    ".parquet": "parquet",
    ".txt": "table",
}


def choose_format(format_: str | None, file: str | None) -> str:
    """The output format: as given, by the suffix of the file, or else a table on a terminal and csv
    elsewhere.

    Called before the query runs. Raises UsageError or BadInput if the answer could not be written."""
    if file is None:
        format_ = format_ or ("table" if sys.stdout.isatty() else "csv")
        if format_ == "parquet" and sys.stdout.isatty():
            raise UsageError(
                "refusing to write Parquet to a terminal; use -o FILE.parquet, or redirect stdout"
            )
        return format_
    if not file:
        raise UsageError("-o has an empty file name; give one, as in -o answer.csv")
    path = Path(file)
    if path.is_dir():
        raise BadInput(f"{file} is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise BadInput(
            f"cannot write {path.name}: the folder {path.absolute().parent} does not exist; create it first"
        )
    if format_ is None and path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"no format is known for the suffix of {file}; use {', '.join(SUFFIXES)}, or give --format"
        )
    by_suffix = SUFFIXES.get(path.suffix.lower())
    if format_ not in (None, "none", by_suffix) and "parquet" in (format_, by_suffix):
        raise UsageError(
            f"--format {format_} does not match the suffix of {file}; omit --format, or change the suffix"
        )
    return format_ or SUFFIXES[path.suffix.lower()]


def write_answer(
    answer: "pa.Table",
    format_: str,
    file: str | None,
    *,
    expanded: "Expanded" = "auto",
    pager: bool = False,
) -> None:
    """Write the answer. `expanded` and `pager` apply to a table on a terminal; the pager is used if the
    answer is longer than the screen.

    Raises BadInput if it cannot be written, OutOfResources if the disk is full; an existing file is then
    unchanged."""
    if file is not None:
        try:
            with replace_file(Path(file)) as out:
                _write(answer, format_, out)
        except OSError as error:
            if message := describe_shortage(error, Path(file).absolute().parent, "-o"):
                raise OutOfResources(message) from error
            raise BadInput(
                f"cannot write {file}: {error.strerror or error}; name another file with -o"
            ) from error
        return
    if format_ == "parquet":
        _write(answer, format_, sys.stdout.buffer)
    elif format_ == "table" and sys.stdout.isatty():
        _show(answer, expanded, pager)
    elif format_ != "none":
        from olap.formats import write

        write(answer, format_, sys.stdout)
    sys.stdout.flush()


def _show(answer: "pa.Table", expanded: "Expanded", pager: bool) -> None:
    from olap.formats import table_lines

    screen = shutil.get_terminal_size()
    lines = table_lines(answer, screen.columns, expanded)
    if pager and len(lines) >= screen.lines:
        import click

        click.echo_via_pager("".join(f"{line}\n" for line in lines))  # PAGER, or less
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)


@contextmanager
def replace_file(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file that replaces the file at `path` once it is complete and flushed to disk. If `path` is
    not a regular file (a pipe, /dev/stdout), it is written directly."""
    if path.exists() and not path.is_file():
        with path.open("wb") as out:
            yield out
        return
    path = path.resolve()  # write through a symbolic link instead of replacing it
    descriptor, draft = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            os.fchmod(out.fileno(), _mode(path))
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(draft, path)  # noqa: PTH105 (the draft is a str)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)  # noqa: PTH108
        raise


def _mode(path: Path) -> int:
    """The permissions of the existing file, or the default permissions of a new file."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _write(answer: "pa.Table", format_: str, out: IO[bytes]) -> None:
    if format_ == "parquet":
        _write_parquet(answer, out)
    elif format_ != "none":
        from olap.formats import write

        text = io.TextIOWrapper(out, encoding="utf-8", newline="")
        write(answer, format_, text)
        text.flush()
        text.detach()


def _write_parquet(answer: "pa.Table", out: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from olap.formats import unique

    named = answer.rename_columns(unique(answer.schema.names))
    try:
        pq.write_table(named, out, compression="zstd")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"cannot store this answer as Parquet ({error}); cast that column, or choose csv"
        ) from error
