"""`ridelake catalog serve`."""

import re
import socket
from typing import TYPE_CHECKING

import click

from ridelake.errors import NotReady, RidelakeError, UsageError
from ridelake.screen import note, say
from ridelake.settings import Settings

if TYPE_CHECKING:
    from ridelake.settings import LakeAddress
    from ridelake.web_server import ListenAddress, TlsFiles

HOST, PORT = "127.0.0.1", 8181
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what a header can contain (RFC 6750)
RENEW_SECONDS = 0.5


@click.command()
@click.argument("action", type=click.Choice(["serve"]), metavar="serve")
@click.option(
    "--host", default=HOST, show_default=True, metavar="ADDRESS",
    help="Where to listen. An address other than loopback requires a token.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, help="Port; 0: a free one."
)
@click.option(
    "--token", metavar="TOKEN",
    help="Answer only clients that send this token. Other users of the machine can read an option: "
    "RIDELAKE_CATALOG_TOKEN is safer.",
)  # fmt: skip
@click.option("--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate (PEM).")
@click.option("--tls-key", metavar="FILE", help="The private key of the certificate (PEM).")
@click.pass_obj
def catalog(
    settings: Settings,
    action: str,
    host: str,
    port: int,
    token: str | None,
    tls_cert: str | None,
    tls_key: str | None,
) -> None:
    """Serve the lake to other programs as a read-only Iceberg REST catalog.

    The server runs until Ctrl-C. A client that connects with the warehouse `newest` reads all tables of the
    epoch that is the newest at that moment, until it connects again. The warehouse can also be an epoch
    (`epoch-42`) or a time. Clients read the files themselves: a lake in a folder must be at the same path
    for them, and for a lake in a bucket they need their own credentials.

    \b
        ridelake catalog serve
        ridelake connect duckdb --rest http://127.0.0.1:8181
    """
    try:
        from ridelake.web_server import ListenAddress
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in ("starlette", "uvicorn", "h11"):
            raise
        raise NotReady(f"{package} is not installed: `pip install 'ridelake[catalog]'`") from error
    token = _checked_token(settings.catalog_token if token is None else token)
    tls = _tls_files(tls_cert, tls_key)
    at = ListenAddress.of(host, port)
    if token is None and not at.is_loopback:
        raise UsageError(
            f"--host {host} lets other machines read the lake: pass --token or RIDELAKE_CATALOG_TOKEN, or "
            f"leave out --host to listen on {HOST} only"
        )
    _serve(settings.lake, at, host, token, tls)
    raise RidelakeError("the web server ended unexpectedly: run the command again with --debug")


def _serve(
    lake: "LakeAddress", at: "ListenAddress", host: str, token: str | None, tls: "TlsFiles | None"
) -> None:
    """Serve until the web server ends."""
    from lakehouse.rest_catalog.app import build_catalog_app, check_place
    from lakehouse.rest_catalog.leases import EpochLeases
    from lakehouse.table.published import no_epoch_message
    from ridelake.web_server import WebServer, listening, serving

    has_epoch = check_place(lake)
    with listening(at) as listener:
        address = _url_host(host, listener.getsockname()[1])
        leases = EpochLeases(lake)
        app = build_catalog_app(leases, token, _hosts(address, tls is not None))
        with serving(WebServer(app, tls), listener) as failed:
            if not has_epoch:
                note(no_epoch_message(lake))
            _announce(f"{'https' if tls else 'http'}://{address}", with_token=token is not None)
            if token is not None and tls is None and not at.is_loopback:
                note("the token is sent without encryption: pass --tls-cert and --tls-key")
            while not failed.wait(RENEW_SECONDS):  # a wait without a limit delays signals
                leases.renew()


def _url_host(host: str, port: int) -> str:
    """The host and port for a URL. A server that listens on all addresses is named by the machine's name."""
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _checked_token(token: str | None) -> str | None:
    if token is not None and not TOKEN.fullmatch(token):
        raise UsageError("the token must consist of letters, digits and . _ ~ + / - only: choose another one")
    return token


def _tls_files(certificate: str | None, key: str | None) -> "TlsFiles | None":
    from ridelake.web_server import TlsFiles

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("--tls-cert and --tls-key belong together: pass both")
    files = TlsFiles(certificate, key)
    files.check()
    return files


def _hosts(address: str, tls: bool) -> set[str]:
    """The values of the Host header that name this server. It has no port if that is the default one."""
    name, _, port = address.rpartition(":")
    names = {name.lower(), "127.0.0.1", "localhost", "[::1]"}
    return {f"{one}:{port}" for one in names} | (names if port == ("443" if tls else "80") else set())


def _announce(url: str, *, with_token: bool) -> None:
    token = ', token=environ["RIDELAKE_CATALOG_TOKEN"]' if with_token else ""
    access = "TOKEN '…'" if with_token else "AUTHORIZATION_TYPE 'none'"
    say(url, verbatim=True)
    note(
        f'pyiceberg  load_catalog("lake", type="rest", uri="{url}", warehouse="newest"{token})', verbatim=True
    )
    note(f"DuckDB     ATTACH 'newest' AS lake (TYPE iceberg, ENDPOINT '{url}', {access});", verbatim=True)
    note("press Ctrl-C to stop")
