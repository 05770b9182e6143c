"""A Postgres server on a local port. It only accepts TLS connections with a password."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from old_pair import DEBIAN_15
from psycopg.conninfo import make_conninfo

PASSWORD = "a 'secret'"


@dataclass(frozen=True, slots=True)
class TlsServer:
    """`certificate`: the self-signed certificate of the server."""

    port: int
    certificate: Path
    admin: str

    def dsn(self, user: str, **more: object) -> str:
        return make_conninfo(
            host="localhost", port=self.port, dbname="shop", user=user, password=PASSWORD, **more
        )


@contextmanager
def tls_server() -> Iterator[TlsServer]:
    """Debian's Postgres 15 with an empty database `shop`. Skips the test if it is not installed."""
    if not (DEBIAN_15 / "pg_ctl").exists() or shutil.which("openssl") is None:
        pytest.skip("Postgres with TLS needs Debian's postgresql-15 and openssl")
    account = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="ridelake-tls-"))
    folder.chmod(0o711)
    certificate = folder / "server.crt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(*command: str | Path, account: int | None = account) -> None:
        subprocess.run(command, check=True, cwd="/", user=account, capture_output=True)

    def pg_ctl(*words: str) -> None:
        # Not a pipe: the server inherits it, and the pipe would not end.
        subprocess.run(
            [DEBIAN_15 / "pg_ctl", "-D", data, "-w", *words],
            check=True, cwd="/", user=account, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"]
    run("openssl", "req", "-x509", *key, folder / "server.key", "-out", certificate, *subject, account=None)
    if account is not None:
        for path in (folder, folder / "server.key"):
            os.chown(path, account, -1)
    data = folder / "data"
    try:
        run(
            DEBIAN_15 / "initdb",
            "-D",
            data,
            "--auth=trust",
            "--username=admin",
            "--no-sync",
            "--locale=C.UTF-8",
        )
        rules = "local all admin trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        hba = folder / "pg_hba.conf"
        hba.write_text(rules)
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "hba_file": hba,
            "ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": folder / "server.key", "fsync": "off",
        }  # fmt: skip
        pg_ctl("-l", str(folder / "log"), "-o", " ".join(f"-c {k}={v}" for k, v in settings.items()), "start")
        admin = make_conninfo("", host=str(folder), port=port, user="admin")
        run(DEBIAN_15 / "createdb", "-h", folder, "-p", str(port), "-U", "admin", "shop")
        yield TlsServer(port, certificate, make_conninfo(admin, dbname="shop"))
    finally:
        if (data / "postmaster.pid").exists():
            pg_ctl("-m", "immediate", "stop")
        shutil.rmtree(folder)
