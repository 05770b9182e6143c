"""Describe an exhausted resource of the machine or of a server, given any error.

The same shortage is reported as an OSError, as an SQLSTATE of class 53, or as text in which a C library
quotes the system's message. The cause can be deep in the exception chain (`__cause__`, `__context__`).
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ridelake.errors import first_line

# Error texts in search order, each with the resource that it names.
TEXTS = (
    ("shared memory segment", "shared memory"),
    ("max_locks_per_transaction", "locks"),
    ("out of shared memory", "locks"),
    (os.strerror(errno.ENOSPC), "disk"),
    ("database or disk is full", "disk"),
    (os.strerror(errno.EDQUOT), "quota"),
    (os.strerror(errno.EFBIG), "file size"),
    ("insufficient file descriptors", "files"),
    (os.strerror(errno.EMFILE), "files"),
    (os.strerror(errno.ENFILE), "files"),
    (os.strerror(errno.ENOMEM), "memory"),
    ("out of memory", "memory"),
    ("failed to map segment", "memory"),
    ("Resource temporarily unavailable", "processes"),
    ("can't start new thread", "processes"),
    ("too many clients already", "connections"),
    ("remaining connection slots are reserved", "connections"),
    ("too many connections for", "connections"),
    ("no more connections allowed", "connections"),
)
SQLSTATES = {"53100": "disk", "53200": "memory", "53300": "connections", "53400": "limit"}
ADVICE = {
    "quota": "free some space, or ask the administrator to raise the quota",
    "file size": "raise the limit of the file size (`ulimit -f`)",
    "files": "raise the limit of open files (`ulimit -n`)",
    "memory": "free some memory, or process fewer rows at a time",
    "processes": "raise the limit of processes and threads (`ulimit -u`), or end some",
    "shared memory": "enlarge it (/dev/shm; in a container `--shm-size`)",
    "locks": "raise max_locks_per_transaction of the server",
    "connections": "raise max_connections of the server, use fewer --clients, or end other sessions",
    "limit": "raise that limit of the server",
}
NAMES = {
    "quota": "the disk quota is used up",
    "file size": "a file has reached the largest size allowed",
    "files": "the limit of open files is reached",
    "memory": "there is not enough memory",
    "processes": "no further process or thread can be started",
    "shared memory": "the shared memory is used up",
    "locks": "the lock table of the server is full",
    "connections": "the server takes no more connections",
    "limit": "a limit of the server's configuration is reached",
}


def describe_shortage(error: BaseException, place: Path | str | None = None, option: str = "") -> str | None:
    """The message, or None if the error has another cause. `place`: the file or folder that could not be
    written, if the error does not name it; `option`: the option that selects another place."""
    for cause in _causes(error):
        if resource := _resource(cause):
            return shortage_message(resource, place or _file_of(cause), option, first_line(cause))
    return None


def describe_shortage_in_log(text: str, place: Path | str | None, option: str = "") -> str | None:
    """The same for the text of a server's log."""
    for line in text.splitlines():
        if resource := _resource_in(line):
            return shortage_message(resource, place, option, line.strip())
    return None


def shortage_message(resource: str, place: Path | str | None, option: str, reason: str) -> str:
    elsewhere = f" or choose another place with {option}" if option else ""
    if resource != "disk":
        where = f", {place}" if place and resource in ("quota", "file size") else ""
        return f"{NAMES[resource]}{where} ({reason}): {ADVICE[resource]}"
    if place is None:
        return f"a disk is full ({reason}): free some space{elsewhere}"
    return f"the disk that holds {place} is full{_room(Path(place))}: free some space{elsewhere}"


def free_bytes(place: Path) -> int:
    """Free space of the disk that holds `place`, or will hold it."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def _room(place: Path) -> str:
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return ""
    return f" ({usage.free / 1e6:,.0f} of {usage.total / 1e6:,.0f} MB free)"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and the chain of its causes and contexts."""
    seen = set[int]()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _resource(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return "memory"
    named = _resource_in(str(error))
    if isinstance(error, OSError) and error.errno is not None and named is None:
        return _resource_in(os.strerror(error.errno))
    return named or SQLSTATES.get(getattr(error, "sqlstate", None) or "")


def _resource_in(text: str) -> str | None:
    return next((resource for part, resource in TEXTS if part in text), None)


def _file_of(error: BaseException) -> str | None:
    name = getattr(error, "filename", None)
    return name if isinstance(name, str) else None
