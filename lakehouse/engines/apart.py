"""An engine in a process of its own, so that what befalls it befalls nobody else.

    ridelake ──── query, parameters (pickle) ───> child: `child.py`, one engine
             <─── answer (Arrow IPC) ────────────

A crash of the child, or the kernel's OOM killer, is one line here. What cannot be cancelled is ended with
its process, and started again for the next query. Ctrl-C on a terminal does not reach the child: we hear it
and interrupt. If we die, the child reads the end of its socket and leaves.
"""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import pyarrow as pa

from lakehouse.engines import NO_PARAMETERS
from lakehouse.engines.parameters import Parameters, refuse_wrong_parameters
from lakehouse.epoch import Epoch
from ridelake.errors import QueryRejected, RidelakeError
from ridelake.settings import Settings

BUFFER_BYTES = 1 << 20  # fewer turns between the two than with Python's 8 kB
# What an engine that can cancel a query has to do it in; then its process is ended.
CANCEL_SECONDS = 5.0
# What a child has to leave in once it is asked to: a JVM takes a moment.
LEAVE_SECONDS = 10.0

# Daft and others would tell their makers that they were imported.
SILENT = "DO_NOT_TRACK=1"
# Where an engine is to put what does not fit in memory: in a folder that goes with its process. Left to
# itself, Polars writes to /var/tmp, and what an ended process has written there stays.
SPILL_FOLDERS = ("TMPDIR", "POLARS_OOC_SPILL_DIR")
PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from lakehouse.engines.child import main
main()
"""


class Apart:
    """See the module. `cancels`: the engine itself can cancel a query."""

    def __init__(self, name: str, settings: Settings, epoch: Epoch, *, cancels: bool = False) -> None:
        self.name = name
        self._what = (name, settings, epoch)
        self._cancels = cancels
        self._process: subprocess.Popen[bytes] | None = None
        self._version = ""
        self._busy = threading.Event()
        self._interrupted = threading.Event()
        self._calls = 0

    def start(self) -> None:
        """Start the child and do not wait for it."""
        self._folder = tempfile.TemporaryDirectory(prefix=f"ridelake-{self.name}-")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _end)
        environment = ["env", SILENT, *(f"{name}={self._folder.name}" for name in SPILL_FOLDERS)]
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*environment, sys.executable, "-c", PROGRAM, json.dumps(sys.path), str(theirs.fileno())],
                cwd=self._folder.name,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket = ours
        self._stream = ours.makefile("rwb", BUFFER_BYTES)
        self._send(*self._what)

    def ready(self) -> None:
        """Wait until the engine is open. Raises what it raised."""
        self._version = self._receive()

    @property
    def process_id(self) -> int | None:
        """Of the child; None while there is none."""
        return self._process.pid if self._process is not None else None

    def version(self) -> str:
        return self._version

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        refuse_wrong_parameters(query, parameters)
        return self.call("sql", query, dict(parameters))

    def call(self, method: str, *arguments: Any) -> pa.Table:
        """A method of the engine that gives a table."""
        self._calls += 1
        self._interrupted.clear()
        self._busy.set()
        try:
            if self._process is None:
                self.start()
                self.ready()
            self._send(method, arguments)
            return self._receive()
        finally:
            self._busy.clear()

    def interrupt(self) -> None:
        if not self._busy.is_set():
            return
        self._interrupted.set()
        if self._cancels:
            with suppress(OSError, ValueError):
                self._send("interrupt", ())
            patience = threading.Timer(CANCEL_SECONDS, self._kill_if_busy, [self._calls])
            patience.daemon = True
            patience.start()
        else:
            self._kill_if_busy()

    def close(self) -> None:
        """Ask the child to leave, and see that it does."""
        if self._process is None:
            return
        if self._busy.is_set():  # it would not hear us
            self._kill_if_busy()
        with suppress(OSError, ValueError):
            self._socket.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill(self._process)
        self._end()

    def _kill_if_busy(self, call: int | None = None) -> None:
        """With that call, or with any."""
        process = self._process
        if process is not None and self._busy.is_set() and call in (None, self._calls):
            self._kill(process)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """With all that it started: it leads a group of its own."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    def _end(self) -> tuple[int, str]:
        """After the child's end: its exit code and last words; nothing of it is left behind."""
        assert self._process is not None
        code = self._process.wait()
        self._kill(self._process)
        self._process = None
        with suppress(OSError, ValueError):
            self._stream.close()
        self._socket.close()
        self._folder.cleanup()
        with self._said as said:
            return code, _last_line(said)

    def _send(self, *message: Any) -> None:
        try:
            pickle.dump(message, self._stream)
            self._stream.flush()
        except OSError:
            pass  # it is gone; what it died of is told where its answer is awaited

    def _receive(self) -> Any:
        try:
            kind, value = pickle.load(self._stream)
            if kind == "table":
                value = pa.ipc.open_stream(self._stream).read_all()
        except (EOFError, OSError, pickle.UnpicklingError, pa.ArrowInvalid) as error:
            raise self._death() from error
        except BaseException:  # Ctrl-C in the middle of an answer: nobody knows where the next one begins
            self._kill_if_busy()
            raise
        if kind != "error":
            return value
        if self._interrupted.is_set() and isinstance(value, QueryRejected):
            raise QueryRejected(f"{self.name}: interrupted") from value
        raise value

    def _death(self) -> RidelakeError:
        assert self._process is not None
        code, said = self._end()
        if self._interrupted.is_set():
            return QueryRejected(f"{self.name}: interrupted")
        how = f"exit code {code}"
        if code < 0:
            how = signal.Signals(-code).name
            if code == -signal.SIGKILL:
                how += ", perhaps because memory ran out"
        return QueryRejected(
            f"{self.name}: its process ended ({how}){said}; the others are not touched. Ask again, "
            "or choose another engine"
        )


def _last_line(said: BinaryIO) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - 2_000))
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    return f", and said: {last[:200]}" if last else ""


@contextmanager
def started(name: str, settings: Settings, epoch: Epoch, *, cancels: bool) -> Iterator[Apart]:
    """The engine, started and perhaps not yet `ready`."""
    engine = Apart(name, settings, epoch, cancels=cancels)
    engine.start()
    try:
        yield engine
    finally:
        engine.close()
