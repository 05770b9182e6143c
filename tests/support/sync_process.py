"""`ridelake sync --source …` in a new process."""

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from terminal import command_running

from lakehouse.engines.duckdb import opened
from lakehouse.table.published import newest_epoch, read_epochs
from oltp.store import Store
from ridelake.settings import LakeAddress, Settings


def sources(stores: dict[str, Store]) -> list[str]:
    return [word for name, store in stores.items() for word in ("--source", f"{name}={store.conninfo}")]


@contextmanager
def syncing(stores: dict[str, Store], address: LakeAddress, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The running command. Its output is in the file `output` next to the lake."""
    flags = ["--every", "0.2", "--lake", address.root, *sources(stores), *more]
    with (address.folder.parent / "output").open("w") as file:
        with command_running("sync", *flags, stdout=file, stderr=subprocess.STDOUT) as process:
            yield process


def output(address: LakeAddress) -> str:
    return (address.folder.parent / "output").read_text()


def newest_number(address: LakeAddress) -> int:
    return max((epoch.number for epoch in read_epochs(address, limit=1)), default=0)


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition was not met in time"
        time.sleep(0.05)


def rides_in_lake(address: LakeAddress) -> Counter[tuple[str, str]]:
    """(store, request id) → the number of its rides in the union of all stores."""
    with opened(Settings(home=Path("unused"), lake=address), newest_epoch(address)) as engine:
        found = engine.sql(
            "SELECT source, request_id FROM rides SEMI JOIN requests USING (source, request_id)"
        )
    return Counter(zip(*(column.to_pylist() for column in found.columns), strict=True))
