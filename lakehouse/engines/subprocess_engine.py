"""An engine in a child process, so that a crash stays contained.

    ridelake ──── query, parameters (pickle) ───> child: `worker.py`, one engine
             <─── result (Arrow IPC) ────────────

A crash of the child, or the OOM killer, is reported as one error. An engine that cannot cancel a query is
killed, and started again for the next query. The child does not receive Ctrl-C from a terminal: the parent
handles it and interrupts the child. If the parent dies, the child reads the end of its socket and exits.
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

from lakehouse.engines.parameters import NO_PARAMETERS, Parameters, check_parameters
from lakehouse.table.epoch import Epoch
from ridelake.errors import QueryRejected, RidelakeError
from ridelake.settings import Settings

BUFFER_BYTES = 1 << 20  # fewer system calls than with Python's default of 8 kB
# The time to cancel a query, for engines that can; then the process is killed.
CANCEL_SECONDS = 5.0
# The time for a child to exit after it is asked to: a JVM is slow.
EXIT_SECONDS = 10.0

# Disables the usage tracking of Daft and others.
NO_TRACKING = "DO_NOT_TRACK=1"
# The folder for data that does not fit in memory; it is deleted after the process ends. By default Polars
# writes to /var/tmp, and a killed process leaves its files there.
SPILL_FOLDERS = ("TMPDIR", "POLARS_OOC_SPILL_DIR")
PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from lakehouse.engines.worker import main
main()
"""


class SubprocessEngine:
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
        """Start the child without waiting for it."""
        self._folder = tempfile.TemporaryDirectory(prefix=f"ridelake-{self.name}-")
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _end)
        environment = ["env", NO_TRACKING, *(f"{name}={self._folder.name}" for name in SPILL_FOLDERS)]
        parent_end, child_end = socket.socketpair()
        with child_end:
            self._process = subprocess.Popen(
                [*environment, sys.executable, "-c", PROGRAM, json.dumps(sys.path), str(child_end.fileno())],
                cwd=self._folder.name,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[child_end.fileno()],
                start_new_session=True,
            )
        self._socket = parent_end
        self._stream = parent_end.makefile("rwb", BUFFER_BYTES)
        self._send(*self._what)

    def ready(self) -> None:
        """Wait until the engine is open. Raises the error of the child, if any."""
        self._version = self._receive()

    @property
    def process_id(self) -> int | None:
        """The process id of the child; None if it is not running."""
        return self._process.pid if self._process is not None else None

    def version(self) -> str:
        return self._version

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        check_parameters(query, parameters)
        return self.call("sql", query, dict(parameters))

    def call(self, method: str, *arguments: Any) -> pa.Table:
        """Call a method of the engine that returns a table."""
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
            timeout = threading.Timer(CANCEL_SECONDS, self._kill_if_busy, [self._calls])
            timeout.daemon = True
            timeout.start()
        else:
            self._kill_if_busy()

    def close(self) -> None:
        """Ask the child to exit; kill it after LEAVE_SECONDS."""
        if self._process is None:
            return
        if self._busy.is_set():  # it does not read the socket
            self._kill_if_busy()
        with suppress(OSError, ValueError):
            self._socket.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill(self._process)
        self._end()

    def _kill_if_busy(self, call: int | None = None) -> None:
        """Kill the child if it is executing `call`; None: any call."""
        process = self._process
        if process is not None and self._busy.is_set() and call in (None, self._calls):
            self._kill(process)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the child's process group, which includes the processes that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    def _end(self) -> tuple[int, str]:
        """Clean up after the child has ended; return its exit code and the last line of its output."""
        assert self._process is not None
        code = self._process.wait()
        self._kill(self._process)
        self._process = None
        with suppress(OSError, ValueError):
            self._stream.close()
        self._socket.close()
        self._folder.cleanup()
        with self._output as output:
            return code, _last_line(output)

    def _send(self, *message: Any) -> None:
        try:
            pickle.dump(message, self._stream)
            self._stream.flush()
        except OSError:
            pass  # the child has ended; `_receive` raises the error

    def _receive(self) -> Any:
        try:
            kind, value = pickle.load(self._stream)
            if kind == "table":
                value = pa.ipc.open_stream(self._stream).read_all()
        except (EOFError, OSError, pickle.UnpicklingError, pa.ArrowInvalid) as error:
            raise self._death() from error
        except BaseException:  # Ctrl-C within a message: the start of the next message is unknown
            self._kill_if_busy()
            raise
        if kind != "error":
            return value
        if self._interrupted.is_set() and isinstance(value, QueryRejected):
            raise QueryRejected(f"{self.name}: interrupted") from value
        raise value

    def _death(self) -> RidelakeError:
        assert self._process is not None
        code, last_line = self._end()
        if self._interrupted.is_set():
            return QueryRejected(f"{self.name}: interrupted")
        how = f"exit code {code}"
        if code < 0:
            how = signal.Signals(-code).name
            if code == -signal.SIGKILL:
                how += ", perhaps because memory ran out"
        return QueryRejected(
            f"{self.name}: its process ended unexpectedly ({how}){last_line}; run the query again, or use "
            "another engine"
        )


def _last_line(output: BinaryIO) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - 2_000))
    lines = [line.strip() for line in output.read().decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    return f", last output: {last[:200]}" if last else ""


@contextmanager
def start_engine(name: str, settings: Settings, epoch: Epoch, *, cancels: bool) -> Iterator[SubprocessEngine]:
    """The engine, started but not necessarily `ready`."""
    engine = SubprocessEngine(name, settings, epoch, cancels=cancels)
    engine.start()
    try:
        yield engine
    finally:
        engine.close()
