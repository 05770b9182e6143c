"""A small web server in a thread of this process: `ridelake live` and `ridelake catalog serve`.

The number of connections is limited, and a connection that sends no request in time is closed. Signals are
handled by the main thread (`ridelake.signals`).
"""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from ridelake.errors import UsageError, first_line

BACKLOG = 128
CONNECTIONS_MAX = 256
REQUEST_SECONDS = 10  # from the connection or the last answer to the end of the request's headers
STOP_SECONDS = 0.5


class LimitedListener(socket.socket):
    """Closes a connection above the limit at once. Without a limit, the process runs out of file descriptors
    and then accepts no connection at all. Connections before the end of their TLS handshake count, too."""

    def __init__(self, family: socket.AddressFamily) -> None:
        # If the protocol is given, asyncio disables Nagle's algorithm, which delays each answer by 40 ms.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._accepted = WeakSet[socket.socket]()

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        if sum(one.fileno() >= 0 for one in self._accepted) >= CONNECTIONS_MAX:
            connection.close()
            raise ConnectionAbortedError  # asyncio ignores it
        self._accepted.add(connection)
        return connection, address


class LimitedProtocol(H11Protocol):
    """Closes a connection that does not send the headers of a request in time, or does not receive the
    answer. uvicorn has a limit for the first byte only."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._wait(self.transport.get_write_buffer_size())
        super().on_response_complete()

    def _wait(self, unsent_bytes: int) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._check_progress, unsent_bytes)

    def _check_progress(self, unsent_bytes: int) -> None:
        """`unsent_bytes`: how much of the answer had not been sent when the wait began."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == unsent_bytes:
            self.transport.abort()
        elif unsent or (self.cycle is not None and not self.cycle.response_complete):
            self._wait(unsent)
        else:
            self.transport.close()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The certificate chain and its private key, as PEM files."""

    certificate: str
    key: str

    def check(self) -> None:
        """Raises UsageError if the files cannot be used. A key with a password is refused, because OpenSSL
        would ask for the password on the terminal."""
        for option, file in (("--tls-cert", self.certificate), ("--tls-key", self.key)):
            try:
                Path(file).read_bytes()
            except OSError as error:
                raise UsageError(
                    f"cannot read {file} ({error.strerror}): choose another file with {option}"
                ) from error
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise UsageError(
                f"{self.certificate} and {self.key} are not a certificate and its private key "
                f"({first_line(error)}): choose PEM files that belong together, the key without a password"
            ) from error


class WebServer(Server):
    """uvicorn with the limits of this module. `tls`: serve HTTPS."""

    def __init__(self, app: ASGIApp, tls: TlsFiles | None = None) -> None:
        super().__init__(
            Config(
                app, http=LimitedProtocol, loop="asyncio", ws="none", log_config=None,
                log_level="critical", access_log=False,
                lifespan="on", server_header=False, timeout_keep_alive=REQUEST_SECONDS,
                timeout_graceful_shutdown=0,
                ssl_certfile=tls.certificate if tls else None, ssl_keyfile=tls.key if tls else None,
            )
        )  # fmt: skip

    capture_signals = nullcontext  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """The address of a host and a port, resolved once, so that what was checked is what is opened."""

    family: socket.AddressFamily
    address: tuple[Any, ...]

    @classmethod
    def of(cls, host: str, port: int) -> "ListenAddress":
        """`port` 0: a free one. Raises UsageError if the host has no address."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a host name"
            raise UsageError(
                f"cannot listen on {host!r} ({reason}): choose another address with --host"
            ) from error
        return cls(found[0][0], found[0][4])

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.address[0].split("%")[0]).is_loopback


@contextmanager
def listening(at: ListenAddress) -> Iterator[socket.socket]:
    """A socket that listens there. Raises UsageError if the port or the address cannot be used."""
    listener = LimitedListener(at.family)
    try:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(at.address)
            listener.listen(BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise UsageError(
                    f"cannot listen on {at.address[0]}: it is not an address of this machine; choose another "
                    "with --host"
                ) from error
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise UsageError(
                f"cannot listen on port {at.address[1]} ({os.strerror(error.errno)}): choose another with "
                "--port; 0 selects a free one"
            ) from error
        yield listener
    finally:
        listener.close()


@contextmanager
def serving(server: WebServer, listener: socket.socket) -> Iterator[threading.Event]:
    """Serve in a thread during the block. The event is set if the server ends in the meantime."""
    failed = threading.Event()

    def serve() -> None:
        try:
            server.run([listener])
        finally:
            failed.set()

    thread = threading.Thread(target=serve, name="web server", daemon=True)
    thread.start()
    try:
        yield failed
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)
