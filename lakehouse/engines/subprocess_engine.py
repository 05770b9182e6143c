"""An engine in a child process, so that a crash does not end ridelake.

    ridelake ──── query, parameters (pickle) ───> child: `serve_engine`, one engine
             <─── result (Arrow IPC) ────────────

A crash of the child, or the OOM killer, is reported as one error. An engine that cannot cancel a query is
killed, and started again for the next query. The child does not receive Ctrl-C from a terminal: the parent
handles it and interrupts the child. If the parent exits, the child reads EOF from its socket and exits.
"""

import json
import os
import pickle
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Any, BinaryIO, cast

import pyarrow as pa

from lakehouse.engines.parameters import NO_PARAMETERS, Parameters, check_parameters
from lakehouse.table.epoch import Epoch
from lakehouse.table.s3 import check_readable, read_errors
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
from lakehouse.engines.subprocess_engine import serve_engine
serve_engine()
"""


class SubprocessEngine:
    """A proxy for an engine in a child process. `cancels`: the engine can cancel a query."""

    def __init__(self, name: str, settings: Settings, epoch: Epoch, *, cancels: bool = False) -> None:
        self.name = name
        self._what = (name, settings, epoch)
        self._cancels = cancels
        self._process: subprocess.Popen[bytes] | None = None
        self._version = ""
        self._one_call = threading.Lock()
        self._ready = threading.Event()
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
        self._ready.set()

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
        with self._one_call:  # a call that was abandoned while the child starts may still be here
            self._calls += 1
            self._interrupted.clear()
            self._busy.set()
            try:
                if self._process is None:
                    self.start()
                    self.ready()
                    if self._interrupted.is_set():
                        raise QueryRejected(f"{self.name}: interrupted")
                self._send(method, arguments)
                return self._receive()
            finally:
                self._busy.clear()

    def interrupt(self) -> None:
        if not self._busy.is_set():
            return
        self._interrupted.set()
        if not self._ready.is_set():
            return  # a start that exceeds the timeout would be killed and repeated for every query
        if self._cancels:
            with suppress(OSError, ValueError):
                self._send("interrupt", ())
            timeout = threading.Timer(CANCEL_SECONDS, self._kill_if_busy, [self._calls])
            timeout.daemon = True
            timeout.start()
        else:
            self._kill_if_busy()

    def close(self) -> None:
        """Ask the child to exit; kill it after EXIT_SECONDS."""
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
        self._ready.clear()
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
            raise self._exit_error() from error
        except BaseException:  # Ctrl-C within a message: the start of the next message is unknown
            self._kill_if_busy()
            raise
        if kind != "error":
            return value
        if self._interrupted.is_set() and isinstance(value, QueryRejected):
            raise QueryRejected(f"{self.name}: interrupted") from value
        raise value

    def _exit_error(self) -> RidelakeError:
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


def serve_engine() -> None:
    """The child process: execute the calls of one engine that arrive on the socket. The arguments of the
    program are sys.path as JSON and the number of the socket's descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[2])) as talk, talk.makefile("rwb", BUFFER_BYTES) as both:
        stream = cast(BinaryIO, both)
        name, settings, epoch = pickle.load(stream)
        try:
            locations = [file.location for file in epoch.files]
            with ExitStack() as opened:
                with read_errors(settings.lake, locations):
                    check_readable(settings.lake, locations)  # libraries have longer timeouts
                    engine_module = import_module(f"lakehouse.engines.{name}")
                    engine = opened.enter_context(engine_module.opened(settings, epoch))
                _reply(stream, "ready", engine.version())
                _answer_calls(stream, engine, partial(read_errors, settings.lake, locations))
        except Exception as error:
            _reply(stream, "error", _picklable(name, error))
    sys.stdout.flush()
    os._exit(0)  # threads of some libraries block a normal exit


def _answer_calls(
    stream: BinaryIO,
    engine: Any,  # an Engine, which this module cannot import
    reading: Callable[[], AbstractContextManager[None]],
) -> None:
    """A separate thread reads the socket, so that it receives an interrupt while a query is executed."""
    calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        while True:
            try:
                method, arguments = pickle.load(stream)
            except (EOFError, OSError):
                if busy.is_set():
                    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
                    os._exit(1)  # the parent has exited and cannot clean up
                calls.put(None)
                return
            if method == "interrupt":
                engine.interrupt()
            else:
                busy.set()
                calls.put((method, arguments))

    threading.Thread(target=listen, daemon=True).start()
    while (call := calls.get()) is not None:
        method, arguments = call
        try:
            with reading():
                answer = getattr(engine, method)(*arguments)
        except Exception as error:
            _reply(stream, "error", _picklable(engine.name, error))
        else:
            _reply(stream, "table", None, answer)
        busy.clear()


def _reply(stream: BinaryIO, kind: str, value: Any, table: pa.Table | None = None) -> None:
    pickle.dump((kind, value), stream)
    if table is not None:
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
    stream.flush()


def _picklable(name: str, error: Exception) -> RidelakeError:
    """The error as a class that the parent can unpickle, with the message as text."""
    if isinstance(error, RidelakeError):
        return type(error)(str(error))
    return QueryRejected(f"{name}: {type(error).__name__}: {error}")
