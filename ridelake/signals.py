"""SIGINT, SIGTERM and SIGHUP end the process within two seconds, even during a long call.

    signal ──> handler, main thread    raises KeyboardInterrupt: the work stops and cleans up
           └─> wake-up pipe ──> guard  after the grace period, or at a second signal: ends the process

The exception can arrive inside a library that holds a lock, a library can swallow it, and a long call into C
delays it. The guard is a thread that depends on none of these. An end without cleanup is safe: the server
rolls back what is not committed, readers of a lake see only what is published, and file locks end with their
process.
"""

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 1.3  # the time to stop the work and to clean up
LAST_SECONDS = 0.5  # to end child processes and remove temporary folders, if the work did not
LATER_SECONDS = 0.01  # after which an interrupt that came at a bad moment is raised
POLL_SECONDS = 0.05

_received: list[int] = []
_wake_up: list[int] = []  # the write end of the pipe
_stderr: list[int] = []  # the original one: pytest, which `bench` runs, replaces it
_patient = threading.Event()
_later = threading.Event()
_ending = threading.Lock()


def install() -> None:
    """Handle the signals from now on. Called once, in the main thread."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    _wake_up.append(writer)
    _stderr.append(os.dup(2))
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    signal.signal(signal.SIGALRM, lambda _, frame: _raise(frame))
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_guard, args=(reader,), name="signal guard", daemon=True).start()


def received() -> int | None:
    """The first signal, or None."""
    return _received[0] if _received else None


@contextmanager
def no_time_limit() -> Iterator[None]:
    """In this block the first SIGINT has no time limit: the command finishes early. A second signal always
    ends the process immediately."""
    _patient.set()
    try:
        yield
    finally:
        _patient.clear()


@contextmanager
def interrupt_later() -> Iterator[None]:
    """A block of the main thread that is not interrupted, and must be short: an interrupt is raised after
    it. For calls whose result is needed for cleanup."""
    _later.set()
    try:
        yield
    finally:
        _later.clear()


def settle_signals() -> None:
    """At the end of the work: end the process if a signal arrived, or if one arrives later."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, lambda number, _: end(number))
    if _received:
        end(_received[0])
        time.sleep(2 * LAST_SECONDS)  # `end` returned: the guard is already ending the process


def end(number: int) -> None:
    """End the process because of a signal: exit code 128 + its number, one line on stderr, no child process
    left. Does not wait for other threads."""
    if not _ending.acquire(blocking=False):
        return
    try:
        last = threading.Thread(target=_finish, daemon=True)
        last.start()
        last.join(LAST_SECONDS)
    finally:
        os._exit(128 + number)


def _finish() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the main thread may still run and write messages
    line = "ridelake: interrupted\n"
    if os.isatty(_stderr[0]):  # clear a progress line, and show the cursor, which a live table hides
        line = f"\r\x1b[K\x1b[?25h{line}"
    os.write(_stderr[0], line.encode())
    with suppress(Exception):
        _kill_children()
    with suppress(Exception):
        sys.stdout.flush()
    atexit._run_exitfuncs()  # removes temporary folders


def _kill_children() -> None:
    """Kill child processes. Embedded servers are no child processes: a monitor process stops them when this
    process ends."""
    import psutil  # imported here, because few calls need it

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()


def _guard(reader: int) -> None:
    first, waited = 0, 0.0
    while waited < GRACE_SECONDS:
        was_first, began = first, time.monotonic()
        ready, _, _ = select.select([reader], [], [], POLL_SECONDS if first else None)
        for number in os.read(reader, 64) if ready else b"":
            if number not in SIGNALS or signal.getsignal(number) is not _interrupt:
                continue  # another handler is in place, such as that of the shell
            if first:
                end(first)
            first = number
        if was_first and not (first == signal.SIGINT and _patient.is_set()):
            waited += time.monotonic() - began
    end(first)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if signal.set_wakeup_fd(_wake_up[0], warn_on_full_buffer=False) != _wake_up[0]:
        os.write(_wake_up[0], bytes([number]))  # an event loop had replaced the pipe
    _received.append(number)
    sys.unraisablehook = lambda _: None  # errors from now on are consequences of the interrupt
    threading.excepthook = lambda _: None
    _raise(frame)


def _raise(frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; during an import, try again a moment later: cleanup would find a half-imported
    module, and a Rust library would panic. The same in a block of `interrupt_later`."""
    if _ending.locked():
        return
    if _later.is_set():
        signal.setitimer(signal.ITIMER_REAL, LATER_SECONDS)
        return
    outer = frame
    while outer is not None:
        if outer.f_code.co_filename.startswith("<frozen importlib"):
            signal.setitimer(signal.ITIMER_REAL, LATER_SECONDS)
            return
        outer = outer.f_back
    raise KeyboardInterrupt
