"""A progress line on a terminal, shown once the work takes more than two seconds."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ridelake import signals

_STARTED = time.perf_counter()  # approximately the start of the command: its module imports this one
_open: list["Progress"] = []  # only the innermost is shown


class Progress:
    """Progress of work of size `total`; 0 if the size is unknown. A thread shows it on stderr if that is a
    terminal, so a step that reports nothing is also shown."""

    QUIET_SECONDS = 2.0
    REPAINT_SECONDS = 0.25

    def __init__(self, what: str, total: float) -> None:
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._shown = False
        self.age_seconds = 0.0
        self._first = time.monotonic()
        self.step(what, total)
        if sys.stderr.isatty():
            _open.append(self)
            self._terminal = os.dup(sys.stderr.fileno())  # a test runner replaces the stream
            threading.Thread(target=self._repaint, name="progress", daemon=True).start()

    def step(self, what: str, total: float = 0) -> None:
        """The next step begins."""
        self._what, self._total, self._done, self._started = what, total, 0.0, time.monotonic()

    def advance(self, count: float) -> None:
        """Add `count` to what is done."""
        self._done += count

    def reach(self, done: float) -> None:
        """Set what is done to `done`."""
        self._done = done

    def show_age(self, seconds: float) -> None:
        """Set the age of the snapshot that the work reads."""
        self.age_seconds = seconds

    def line(self) -> str:
        """The text that is shown now."""
        age = f"; the snapshot holds back vacuum for {self.age_seconds:.0f} s" if self.age_seconds else ""
        return self._line() + age

    def _line(self) -> str:
        now = time.monotonic()
        done, seconds = self._done, now - self._started
        if not self._total:
            counted = f" {done:,.0f}," if done else ""
            return f"{self._what}:{counted} {now - self._first:.0f} s"
        done = min(done, self._total)
        left = f", {seconds * (self._total - done) / done:.0f} s left" if done else f", {seconds:.0f} s"
        return f"{self._what}: {done:,.0f} of {self._total:,.0f} ({done / self._total:.0%}){left}"

    def hide(self) -> None:
        """Clear the line, until it is shown again."""
        with self._lock:
            if self._shown:
                self._write("\r\x1b[K")
                self._shown = False

    def close(self) -> None:
        if self in _open:
            self._closed.set()
            self.hide()
            _open.remove(self)

    def _repaint(self) -> None:
        while not self._closed.wait(self.REPAINT_SECONDS) and signals.received() is None:
            if time.monotonic() - self._first < self.QUIET_SECONDS or _open[-1:] != [self]:
                continue
            with self._lock:
                if not self._closed.is_set():
                    columns = shutil.get_terminal_size().columns
                    self._write(f"\r\x1b[K{self.line()[: columns - 1]}")
                    self._shown = True
        with self._lock:
            os.close(self._terminal)

    def _write(self, text: str) -> None:
        with suppress(OSError):
            os.write(self._terminal, text.encode())


@contextmanager
def progress(what: str, total: float = 0) -> Iterator[Progress]:
    shown = Progress(what, total)
    try:
        yield shown
    finally:
        shown.close()


def hide() -> None:
    """Hide the line before other output is written to the terminal."""
    for shown in _open:
        shown.hide()


def format_elapsed(seconds: float) -> str:
    """The seconds of the work; in parentheses the seconds since the start of the command, if these are more.
    They include imports and the start of the embedded server."""
    waited = time.perf_counter() - _STARTED
    return f"{seconds:.1f} s" + (f" ({waited:.1f} s in all)" if waited - seconds >= 0.1 else "")
