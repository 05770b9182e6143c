"""`ridelake sync --source …` in a new process."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from terminal import command_running

from lakehouse.table.published import read_epochs
from oltp.store import Store
from ridelake.settings import LakeAddress


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
