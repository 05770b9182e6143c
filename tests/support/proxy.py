"""A proxy in front of Postgres' unix socket that drops selected messages and closes the connection.

It parses a small part of the protocol: the request of a prepared statement begins with Bind ('B') and ends
with Sync; the response ends with ReadyForQuery.
"""

import select
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from oltp.store import Store

SYNC, READY = b"S\x00\x00\x00\x04", b"Z\x00\x00\x00\x05I"
SOCKET = ".s.PGSQL.5432"


class Loss(StrEnum):
    """The message that is lost when the connection is closed."""

    REQUEST = "the request does not reach the server"
    DISCONNECT = "the client disconnects before the response"
    REPLY = "the transaction commits, and the response is lost"
    HALF_REPLY = "the response is truncated"


class Proxy:
    """`decide()` is called for every request. If it returns None, the request is forwarded."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.decide: Callable[[], Loss | None] = lambda: None
        self.lost: list[Loss] = []
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_once(self, loss: Loss) -> None:
        """Apply `loss` to the next request of any client."""
        left = [loss]
        self.decide = lambda: left.pop() if left else None

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(str(self._target))
            while True:
                readable, _, _ = select.select([client, server], [], [])
                if server in readable:
                    if not (reply := server.recv(65_536)):
                        return None
                    client.sendall(reply)
                if client in readable:
                    if not (request := client.recv(65_536)):
                        return None
                    if request.startswith(b"B") and (loss := self.decide()) is not None:
                        self.lost.append(loss)
                        return self._lose(loss, request, client, server)
                    server.sendall(request)

    def _lose(self, loss: Loss, request: bytes, client: socket.socket, server: socket.socket) -> None:
        while not request.endswith(SYNC):
            request += client.recv(65_536)
        if loss is Loss.REQUEST:
            return
        server.sendall(request)
        if loss is Loss.DISCONNECT:
            return
        reply = b""
        while not reply.endswith(READY):
            if not (part := server.recv(65_536)):
                return
            reply += part
        if loss is Loss.HALF_REPLY:
            client.sendall(reply[: len(reply) // 2])


@contextmanager
def proxied(store: Store) -> Iterator[tuple[Proxy, Store]]:
    """The same store, through a proxy."""
    target = Path(str(conninfo_to_dict(store.conninfo)["host"])) / SOCKET
    with tempfile.TemporaryDirectory(prefix="ridelake-proxy-") as folder:
        proxy = Proxy(Path(folder), target)
        try:
            yield proxy, Store(make_conninfo(store.conninfo, host=folder), store.server_version)
        finally:
            proxy.close()
