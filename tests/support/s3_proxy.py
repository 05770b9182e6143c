"""A proxy in front of an S3 server that records requests and answers them with failures."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import psutil

ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{}</Code><Message>as asked</Message></Error>"
EMPTY_LISTING = (
    "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
    "<IsTruncated>false</IsTruncated><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys></ListBucketResult>"
)
NOT_FORWARDED = ("host", "connection", "content-length")
NOT_RETURNED = ("connection", "transfer-encoding", "content-length", "server", "date")


class S3Proxy(ThreadingHTTPServer):
    """`failure`: the status and error code of each response; None forwards the requests. `failures`: how many
    requests get the failure. `silent`: no request gets a response. `lists_nothing`: listings are empty.
    `hidden_from`: processes with this text in their command line cannot connect."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.reset()

    def reset(self) -> None:
        self.failure: tuple[int, str] | None = None
        self.failures = 1_000_000
        self.silent = False
        self.lists_nothing = False
        self.hidden_from: str | None = None
        self.keys: set[tuple[str, str | None]] = set()  # access key and session token of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Proxy

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        credential = self.headers.get("Authorization", "").partition("Credential=")[2]
        self.server.keys.add((credential.split("/")[0], self.headers.get("X-Amz-Security-Token")))
        if self.server.hidden_from is not None and self.server.hidden_from in self._command_line():
            self.close_connection = True
            return
        while self.server.silent:
            time.sleep(0.1)
            if _closed(self.connection):
                return
        if self.server.failure is not None and self.server.failures > 0:
            self.server.failures -= 1
            status, code = self.server.failure
            self._answer(status, ERROR.format(code).encode(), {"Content-Type": "application/xml"})
        elif self.server.lists_nothing and {"list-type", "prefix"} & set(parse_qs(urlsplit(self.path).query)):
            self._answer(200, EMPTY_LISTING.encode(), {"Content-Type": "application/xml"})
        else:
            self._forward(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _command_line(self) -> str:
        """The command line of the client process."""
        port = self.client_address[1]
        clients = [one.pid for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port]
        return " ".join(" ".join(psutil.Process(pid).cmdline()) for pid in clients if pid)

    def _forward(self, body: bytes | None) -> None:
        sent = {name: text for name, text in self.headers.items() if name.lower() not in NOT_FORWARDED}
        request = Request(self.server.target + self.path, body, sent, method=self.command)
        try:
            answer = urlopen(request)
        except HTTPError as error:
            answer = error
        with answer:
            headers = {
                name: text for name, text in answer.headers.items() if name.lower() not in NOT_RETURNED
            }
            self._answer(answer.status, answer.read(), headers, answer.headers.get("Content-Length"))

    def _answer(self, status: int, body: bytes, headers: dict[str, str], length: str | None = None) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        is_head = self.command == "HEAD"
        self.send_header("Content-Length", length or "0" if is_head else str(len(body)))
        self.end_headers()
        if not is_head:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.setblocking(True)


@contextmanager
def s3_proxy(target: str) -> Iterator[S3Proxy]:
    """`target`: the URL of the S3 server."""
    with S3Proxy(target) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.reset()
            proxy.shutdown()
            thread.join()
