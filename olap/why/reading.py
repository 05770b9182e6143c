"""How many bytes an engine reads from files while it works: the same measure for every engine.

Linux counts for every process what it has asked of read() and pread(): `rchar` in /proc/PID/io. It counts
neither files that are mapped into memory nor what comes over a network. While the work is done, nothing else
may read: it is the only thing that the process does, and it has been done before, so that nothing is
imported any more.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ridelake.settings import S3

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch

T = TypeVar("T")

# Where the count was seen to be right, and where it is: in this process, or in one of the engine's own.
COUNTED_HERE = frozenset({"duckdb", "pyarrow"})
COUNTED_APART = frozenset({"chdb", "daft", "datafusion", "polars", "spark"})


def reading(engine: "Engine", epoch: "Epoch", work: Callable[[], T]) -> tuple[T, int | None]:
    """Does the work, for which the engine reads; and the bytes it has read, or None if not measured."""
    process: int | None = os.getpid() if engine.name in COUNTED_HERE else None
    if engine.name in COUNTED_APART:
        process = getattr(engine, "process_id", None)
    if process is None or any(file.location.startswith(S3) for file in epoch.files):
        return work(), None
    return bytes_read(process, work)


def bytes_read(process: int, work: Callable[[], T]) -> tuple[T, int | None]:
    """While `work` is done, by the process and those it had started before."""
    processes = [process, *_descendants(process)]
    before = [_counted(one) for one in processes]
    done = work()
    after = [_counted(one) for one in processes]
    total = 0
    for one, (begin, look), (end, _) in zip(processes, before, after, strict=True):
        if begin is None or end is None:
            return done, None
        # Where we look at ourselves, the second look has counted the first one.
        total += end - begin - (look if one == os.getpid() else 0)
    return done, total


def _counted(process: int) -> tuple[int | None, int]:
    """The count, and how many bytes it took to look."""
    try:
        text = Path(f"/proc/{process}/io").read_text()
    except OSError:  # another system than Linux, or not ours to look at
        return None, 0
    return int(text.split("rchar:", 1)[1].split(maxsplit=1)[0]), len(text)


def _descendants(process: int) -> list[int]:
    """A JVM behind a Python, for example. Nobody's but an engine's own: we have other children."""
    if process == os.getpid():
        return []
    import psutil

    return [child.pid for child in psutil.Process(process).children(recursive=True)]
