"""The catalog server of `ridelake catalog serve` in this process, and its clients."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pyiceberg.catalog import Catalog, load_catalog

from lakehouse.commands.catalog import HOST, _hosts
from lakehouse.rest_catalog.app import build_catalog_app
from lakehouse.rest_catalog.leases import EpochLeases
from ridelake.settings import LakeAddress
from ridelake.web_server import ListenAddress, TlsFiles, WebServer, listening, serving

SECONDS_MAX = 60.0


@dataclass(frozen=True)
class ServedCatalog:
    """`url`: without a trailing slash."""

    url: str
    leases: EpochLeases
    server: WebServer

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple:
        """The status, and the JSON document of the answer or {}. The path is sent unchanged."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=SECONDS_MAX)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text else {}

    def refused(self, path: str, status: int, method: str = "GET", **headers: Any) -> str:
        """Check that the response is an error as specified. Returns its message."""
        found, document = self.ask(path, method, **headers)
        assert found == status, document
        error = document["error"]
        assert error.keys() == {"message", "type", "code"}
        assert error["code"] == status
        assert "\n" not in error["message"]
        return error["message"]

    def client(self, warehouse: str | None = "newest", **properties: Any) -> Catalog:
        named = {} if warehouse is None else {"warehouse": warehouse}
        return load_catalog("lake", type="rest", uri=self.url, **named, **properties)

    def wait_until_disconnected(self) -> None:
        """Wait until the connections are closed. A server that stops does not wait for TLS shutdowns."""
        give_up = time.monotonic() + SECONDS_MAX
        while self.server.server_state.connections:
            assert time.monotonic() < give_up
            time.sleep(0.01)


@contextmanager
def served_catalog(
    address: LakeAddress, token: str | None = None, tls: TlsFiles | None = None
) -> Iterator[ServedCatalog]:
    """Serve on a free port, and renew the leases as the command does."""
    leases, ended = EpochLeases(address), threading.Event()

    def renew() -> None:
        while not ended.wait(0.05):
            leases.renew()

    with listening(ListenAddress.of(HOST, 0)) as listener:
        where = f"{HOST}:{listener.getsockname()[1]}"
        app = build_catalog_app(leases, token, _hosts(where, tls is not None))
        thread, server = threading.Thread(target=renew), WebServer(app, tls)
        with serving(server, listener):
            thread.start()
            try:
                yield ServedCatalog(f"{'https' if tls else 'http'}://{where}", leases, server)
            finally:
                ended.set()
                thread.join()
                leases.close()


def epoch_of(client: Catalog) -> int:
    """The epoch that the client has connected to."""
    return int(client.properties["prefix"].removeprefix("epoch-"))
