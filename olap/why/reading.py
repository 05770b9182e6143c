"""Count the bytes that an engine reads from files, in the same way for every engine.

Linux counts the bytes that a process has read with read() and pread(): `rchar` in /proc/PID/io. The count
excludes files that are mapped into memory, and the network. Nothing else in the process may read during the
measurement. So the query must have run before, and all modules are imported."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ridelake.settings import S3

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch

T = TypeVar("T")

# Engines for which the count was verified, by the process that reads: this one, or a child.
COUNTED_HERE = frozenset({"duckdb", "pyarrow"})
COUNTED_APART = frozenset({"chdb", "daft", "datafusion", "polars", "spark"})


def reading(engine: "Engine", epoch: "Epoch", work: Callable[[], T]) -> tuple[T, int | None]:
    """The result of `work`, and the bytes that the engine read during it, or None if not measured."""
    process: int | None = os.getpid() if engine.name in COUNTED_HERE else None
    if engine.name in COUNTED_APART:
        process = getattr(engine, "process_id", None)
    if process is None or any(file.location.startswith(S3) for file in epoch.files):
        return work(), None
    return bytes_read(process, work)


def bytes_read(process: int, work: Callable[[], T]) -> tuple[T, int | None]:
    """The result of `work`, and the bytes that the process and its existing children read during it."""
    processes = [process, *_descendants(process)]
    before = [_counted(one) for one in processes]
    result = work()
    after = [_counted(one) for one in processes]
    total = 0
    for one, (begin, overhead), (end, _) in zip(processes, before, after, strict=True):
        if begin is None or end is None:
            return result, None
        # In this process, the second reading of /proc includes the bytes of the first.
        total += end - begin - (overhead if one == os.getpid() else 0)
    return result, total


def _counted(process: int) -> tuple[int | None, int]:
    """`rchar`, and the bytes read to get it."""
    try:
        text = Path(f"/proc/{process}/io").read_text()
    except OSError:  # not Linux, or no permission
        return None, 0
    return int(text.split("rchar:", 1)[1].split(maxsplit=1)[0]), len(text)


def _descendants(process: int) -> list[int]:
    """Descendants of a child process, such as the JVM of Spark. Empty for this process, which has other
    children."""
    if process == os.getpid():
        return []
    import psutil

    return [child.pid for child in psutil.Process(process).children(recursive=True)]
