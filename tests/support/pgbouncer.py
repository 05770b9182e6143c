"""PgBouncer in front of the test server, on a unix socket."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PGBOUNCER = Path("/usr/sbin/pgbouncer")
START_SECONDS_MAX = 10.0


@contextmanager
def pgbouncer(conninfo: str, **settings: object) -> Iterator[str]:
    """The DSN of the database through the pooler. `settings`: lines of the section [pgbouncer]."""
    if not PGBOUNCER.exists():
        pytest.skip("pgbouncer is not installed (Debian: pgbouncer)")
    server = conninfo_to_dict(conninfo)
    folder = Path(tempfile.mkdtemp(prefix="ridelake-pgbouncer-"))
    # PgBouncer refuses to run as root, and only its owner can use the server's socket.
    account = Path(str(server["host"])).stat().st_uid if os.geteuid() == 0 else None
    group = pwd.getpwuid(account).pw_gid if account is not None else None
    lines = {"unix_socket_dir": folder, "listen_port": 6432, "auth_type": "any", **settings}
    database = f"{server['dbname']} = host={server['host']} dbname={server['dbname']} user={server['user']}"
    text = "\n".join(f"{name} = {value}" for name, value in lines.items())
    (folder / "pgbouncer.ini").write_text(f"[databases]\n{database}\n[pgbouncer]\n{text}\n")
    if account is not None:
        os.chown(folder, account, -1)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [PGBOUNCER, folder / "pgbouncer.ini"], stdout=log, stderr=log, user=account, group=group
        )
    try:
        give_up = time.monotonic() + START_SECONDS_MAX
        while not (folder / ".s.PGSQL.6432").exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < give_up, (folder / "log").read_text()
            time.sleep(0.02)
        yield make_conninfo("", host=str(folder), port=6432, user="ridelake", dbname=server["dbname"])
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)
