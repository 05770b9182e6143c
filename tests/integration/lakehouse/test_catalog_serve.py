"""The command `ridelake catalog serve`: options, signals, and TLS."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from catalog_server import served_catalog
from terminal import COMMAND, refusal

from lakehouse.commands import catalog as catalog_command
from lakehouse.table.catalog import Lake
from oltp.store import Store
from ridelake import web_server
from ridelake.settings import Settings
from ridelake.web_server import ListenAddress, TlsFiles, listening

TOKEN = "a-secret.token_of~the+server/="


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A self-signed certificate and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the test needs openssl for a certificate")
    folder = tmp_path_factory.mktemp("tls")
    files = TlsFiles(str(folder / "server.crt"), str(folder / "server.key"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", files.key, "-out", files.certificate, "-subj", "/CN=127.0.0.1", "-days", "2",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def test_the_catalog_is_served_over_tls(
    orders: Store, lake: Lake, tls_files: TlsFiles, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", tls_files.certificate)
    trusted = ssl.create_default_context(cafile=tls_files.certificate)
    with served_catalog(lake.address, tls=tls_files) as served:
        with urllib.request.urlopen(f"{served.url}/v1/config", context=trusted) as answer:
            assert json.load(answer)["overrides"] == {"prefix": "epoch-1"}
        client = served.client()
        assert client.load_table("ridelake.orders").scan().to_arrow().num_rows == 1_000
        client.close()
        with pytest.raises(OSError, match="certificate verify failed"):
            urllib.request.urlopen(f"{served.url}/v1/config")
        served.wait_until_disconnected()


def test_connections_that_do_not_finish_the_tls_handshake_are_limited(
    lake: Lake, tls_files: TlsFiles, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(web_server, "CONNECTIONS_MAX", 3)
    with served_catalog(lake.address, tls=tls_files) as served, ExitStack() as opened:
        address = (catalog_command.HOST, int(served.url.rsplit(":", 1)[1]))
        stalled = [opened.enter_context(socket.create_connection(address, timeout=30)) for _ in range(4)]
        assert stalled[3].recv(1) == b""


def test_invalid_tls_files_are_refused_in_one_line(tls_files: TlsFiles, tmp_path: Path, lake: Lake):
    other, encrypted = tmp_path / "other.key", tmp_path / "encrypted.key"
    for command in (
        ["genrsa", "-out", other],
        ["ec", "-in", tls_files.key, "-out", encrypted, "-aes256", "-passout", "pass:x"],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    serve = ("catalog", "serve", "--port", "0", "--lake", lake.address.root)
    for certificate, key, message in (
        (tmp_path / "absent.crt", tls_files.key, "choose another file with --tls-cert"),
        (tls_files.certificate, tmp_path / "absent.key", "choose another file with --tls-key"),
        (tls_files.certificate, tmp_path, "Is a directory"),
        (tls_files.certificate, other, "are not a certificate and its private key"),
        (tls_files.certificate, encrypted, "the key without a password"),
        (tls_files.key, tls_files.key, "are not a certificate and its private key"),
    ):
        assert message in refusal(*serve, "--tls-cert", certificate, "--tls-key", key)
    assert "pass both" in refusal(*serve, "--tls-cert", tls_files.certificate)


# ── The command ────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def running(lake: Lake, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`ridelake catalog serve` in a new process, and its address."""
    command = [*COMMAND, "catalog", "serve", "--port", "0", "--lake", lake.address.root, *options]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_address_and_ends_at_a_signal(orders: Store, lake: Lake, number: int):
    with running(lake) as (process, url):
        with urllib.request.urlopen(f"{url}/v1/config") as answer:
            assert json.load(answer)["overrides"] == {"prefix": "epoch-1"}
        process.send_signal(number)
        stderr = process.communicate(timeout=60)[1]
        assert process.returncode == 128 + number
    assert f'load_catalog("lake", type="rest", uri="{url}", warehouse="newest")' in stderr
    assert f"ATTACH 'newest' AS lake (TYPE iceberg, ENDPOINT '{url}', AUTHORIZATION_TYPE 'none');" in stderr
    assert "Traceback" not in stderr


def test_the_token_is_read_from_the_environment_and_not_printed(
    orders: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RIDELAKE_CATALOG_TOKEN", TOKEN)
    with running(lake) as (process, url):
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(f"{url}/v1/config")
        refused.value.close()
        request = urllib.request.Request(f"{url}/v1/config", headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert TOKEN not in stdout + stderr
    assert TOKEN not in repr(Settings.read({"RIDELAKE_CATALOG_TOKEN": TOKEN}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_on_all_addresses_is_announced_by_the_name_of_the_machine(host: str, monkeypatch):
    monkeypatch.setattr(catalog_command.socket, "gethostname", lambda: "machine")
    assert catalog_command._url_host(host, 8181) == "machine:8181"
    assert catalog_command._url_host("::1", 8181) == "[::1]:8181"


def test_an_invalid_option_is_one_line(orders: Store, lake: Lake):
    serve = ("catalog", "serve", "--lake", lake.address.root)
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        line = refusal(*serve, "--port", "0", "--host", host)
        assert f"--host {host} lets other machines read the lake: pass --token" in line
    assert "is not an address of this machine" in refusal(*serve, "--host", "192.0.2.1", "--token", TOKEN)
    assert "cannot listen on 'no such host'" in refusal(*serve, "--host", "no such host", "--token", TOKEN)
    for token in ("", "two words", "ü", "a\nb"):
        assert "the token must consist of" in refusal(*serve, "--port", "0", "--token", token)
    with listening(ListenAddress.of("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on port {port} (Address already in use)" in refusal(*serve, "--port", port)


def test_a_missing_package_is_one_line(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "ridelake.web_server")
    line = refusal("catalog", "serve", "--lake", lake.address.root)
    assert line == "ridelake: uvicorn is not installed: `pip install 'ridelake[catalog]'`\n"
