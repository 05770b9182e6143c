"""A process for each kind of work, so that the bookings do not share an interpreter with the web server.

    web process                                   child process
    Worker.set(…), Worker.call(…)  ── command ──> the handler given to `WorkerChannel.listen`, in a thread
    on_report(part, value)         <── report ─── WorkerChannel.report(part, value)

Both directions are one pipe. A child that ends is started again with its last settings. A child ends by
itself if the web process ends, because its pipe is then closed.
"""

import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Any

from ridelake.errors import RidelakeError, first_line

SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads and connections

STOP_SECONDS = 0.7  # for a child to finish its current work
KILL_SECONDS = 0.3
BACKOFF_SECONDS, BACKOFF_SECONDS_MAX = 0.5, 8.0
STABLE_SECONDS = 10.0  # a child that has run for longer is restarted after the shortest wait

Handler = Callable[[str, dict[str, Any]], None]
SET, STOP, FAILED = "set", "stop", "failed"

_starting = threading.Lock()


class WorkerChannel:
    """The child's end of the pipe. `stopped`: the work is to end."""

    def __init__(self, pipe: Pipe) -> None:
        self.stopped = threading.Event()
        self._pipe = pipe
        self._lock = threading.Lock()

    def report(self, part: str, value: object) -> None:
        """Replace a part of the state that the page shows."""
        with self._lock, suppress(OSError):  # the web process has ended
            self._pipe.send((part, value))

    def listen(self, handle: Handler, on_stop: Callable[[], None] = lambda: None) -> None:
        """Call `handle(name, arguments)` for each command, in a thread. The first command is `set`, with all
        settings. `on_stop` is called when the work is to end; the process then has STOP_SECONDS."""
        threading.Thread(target=self._listen, args=(handle, on_stop), name="commands", daemon=True).start()

    def _listen(self, handle: Handler, on_stop: Callable[[], None]) -> None:
        with suppress(EOFError, OSError):
            while (command := self._pipe.recv())[0] != STOP:
                handle(*command)
        self.stopped.set()
        with suppress(Exception):
            on_stop()
        time.sleep(STOP_SECONDS)
        os._exit(0)


Work = Callable[..., None]
"""Called in the child with its WorkerChannel and the arguments of the Worker; returns when it is stopped."""


def _serve(pipe: Pipe, work: Work, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    channel = WorkerChannel(pipe)
    code = 0
    try:
        work(channel, *arguments)
    except Exception as error:
        if not channel.stopped.is_set():
            text = str(error) if isinstance(error, RidelakeError) else f"{type(error).__name__}: {error}"
            channel.report(FAILED, " ".join(text.split()))
            code = 1
    sys.stderr.flush()
    os._exit(code)  # threads of some libraries block a normal exit


class Worker:
    """A child process and its settings. `on_report` and `on_trouble` are called in a thread of their own;
    `on_trouble(name, line)` when the child has ended, with None for the line when it works again."""

    def __init__(
        self,
        name: str,
        work: Work,
        arguments: tuple[Any, ...],
        on_report: Callable[[str, Any], None],
        on_trouble: Callable[[str, str | None], None],
    ) -> None:
        self.name = name
        self._work, self._arguments = work, arguments
        self._on_report, self._on_trouble = on_report, on_trouble
        self._settings: dict[str, Any] = {}
        self._pipe: Pipe | None = None
        self._process: BaseProcess | None = None
        self._has_reported = False
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name=f"{name} process", daemon=True)

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        self._thread.start()

    def set(self, **settings: Any) -> None:
        """Change settings, which a restarted child gets again. Raises RidelakeError as `call` does."""
        with self._lock:
            self._check_ready()
            self._settings |= settings
            self._send((SET, settings))

    def call(self, name: str, **arguments: Any) -> None:
        """Send a command that is done once. Raises RidelakeError if the child does not read its commands."""
        with self._lock:
            self._check_ready()
            self._send((name, arguments))

    def stop(self) -> None:
        """Ask the child to end; kill it if it still imports its modules. Does not wait."""
        with self._lock:
            self._stopping.set()
            if self._reads_commands():
                self._send((STOP, {}))
            if self._process is not None and not (self._has_reported and self._reads_commands()):
                self._process.kill()

    def _kill(self) -> None:
        with self._lock:
            if self._thread.is_alive() and self._process is not None:
                self._process.kill()

    def _reads_commands(self) -> bool:
        """Whether the pipe has room. Without it, a send blocks until the child reads. On Linux, the room is
        then at least 150 kB, and the longest command has 80 kB."""
        return self._pipe is None or bool(select.select([], [self._pipe], [], 0)[1])

    def _check_ready(self) -> None:
        if not self._reads_commands():
            raise RidelakeError(f"the {self.name} process is busy: try again")

    def _send(self, command: tuple[str, dict[str, Any]]) -> None:
        if self._pipe is not None:
            with suppress(OSError):  # the child has ended; the next one gets the settings
                self._pipe.send(command)

    def _keep_running(self) -> None:
        wait_seconds = BACKOFF_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = self._run_once()
            if self._stopping.is_set():
                return
            stable = time.monotonic() - began > STABLE_SECONDS
            wait_seconds = BACKOFF_SECONDS if stable else min(wait_seconds * 2, BACKOFF_SECONDS_MAX)
            line = f"the {self.name} process ended ({reason}); it is started again after {wait_seconds:g} s"
            self._on_trouble(self.name, line)
            self._stopping.wait(wait_seconds)

    def _run_once(self) -> str:
        """Run a child until it ends. Returns why it ended."""
        ours, theirs = SPAWN.Pipe()
        arguments = (theirs, self._work, self._arguments)
        process = SPAWN.Process(target=_serve, args=arguments, name=self.name, daemon=True)
        with _starting:
            process.start()
        theirs.close()
        with self._lock:
            self._pipe, self._process, self._has_reported = ours, process, False
            self._send((SET, dict(self._settings)))
            if self._stopping.is_set():
                self._send((STOP, {}))
        failure = None
        with suppress(EOFError, OSError):
            while True:
                part, value = ours.recv()
                if part == FAILED:
                    failure = value
                    continue
                if not self._has_reported:
                    self._has_reported = True
                    self._on_trouble(self.name, None)
                self._on_report(part, value)
        with self._lock:
            self._pipe = None
        ours.close()
        process.join()
        return failure or _how(process.exitcode or 0)


def stop_workers(workers: Iterable[Worker]) -> None:
    """Stop all children together and wait for their end: at most STOP_SECONDS + 2 KILL_SECONDS."""
    stopped = list(workers)
    for worker in stopped:
        worker.stop()
    _join(stopped, STOP_SECONDS + KILL_SECONDS)
    for worker in stopped:
        worker._kill()
    _join(stopped, KILL_SECONDS)


def _join(workers: Sequence[Worker], seconds_max: float) -> None:
    give_up = time.monotonic() + seconds_max
    for worker in workers:
        worker._thread.join(max(0.0, give_up - time.monotonic()))


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def one_line(error: BaseException) -> str:
    """The message of an error for the page."""
    text = str(error) if isinstance(error, RidelakeError) else f"{type(error).__name__}: {first_line(error)}"
    return " ".join(text.split())
