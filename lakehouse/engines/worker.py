"""The child process of `subprocess_engine.py`: executes the calls of one engine that arrive on a socket.

A separate thread reads the socket, so that it receives an interrupt while the main thread executes a query.
"""

import os
import pickle
import queue
import shutil
import signal
import socket
import sys
import tempfile
import threading
from importlib import import_module
from typing import Any, BinaryIO, cast

import pyarrow as pa

from lakehouse.engines import Engine
from lakehouse.engines.subprocess_engine import BUFFER_BYTES
from ridelake.errors import QueryRejected, RidelakeError


def main() -> None:
    """Arguments: sys.path as JSON, and the number of the socket's descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[2])) as talk, talk.makefile("rwb", BUFFER_BYTES) as both:
        stream = cast(BinaryIO, both)
        name, settings, epoch = pickle.load(stream)
        try:
            engine_module = import_module(f"lakehouse.engines.{name}")
            with engine_module.opened(settings, epoch) as engine:
                _send(stream, "ready", engine.version())
                _serve(stream, engine)
        except Exception as error:
            _send(stream, "error", _picklable(name, error))
    sys.stdout.flush()
    os._exit(0)  # threads of some libraries block a normal exit


def _serve(stream: BinaryIO, engine: Engine) -> None:
    calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        while True:
            try:
                method, arguments = pickle.load(stream)
            except (EOFError, OSError):
                if busy.is_set():
                    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
                    os._exit(1)  # the parent has died and cannot clean up
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
            answer = getattr(engine, method)(*arguments)
        except Exception as error:
            _send(stream, "error", _picklable(engine.name, error))
        else:
            _send(stream, "table", None, answer)
        busy.clear()


def _send(stream: BinaryIO, kind: str, value: Any, table: pa.Table | None = None) -> None:
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
