"""A tracked table whose key has a column of every type, and servers to dump it from and restore it to."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bare_database import run
from old_pair import DEBIAN_15
from psycopg.conninfo import make_conninfo

from lakehouse.capture.publish import publish_changes
from lakehouse.table.catalog import Lake
from lakehouse.verify import verify_now
from oltp.cluster.process import binaries, chown, make_traversable
from oltp.store import Store, open_database

# Inserts row 9 again.
NINE = """
INSERT INTO shop.keys
SELECT 9, false, t, u, y, f, at, n, m, c, "d$body$ %s", v, h FROM shop.keys WHERE i = 1
"""


# The key has a column of every type that the lake supports. Some values are extreme.
KEYS = """
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('glad', 'it''s "sad"');
CREATE DOMAIN shop.code AS text NOT NULL CHECK (value <> '');
CREATE TABLE shop.keys (
    i int, b boolean, t text, u uuid, y bytea, f float8, at timestamptz, n numeric(9, 3), m shop.mood,
    c shop.code, "d$body$ %s" date, v varchar(5), h char(3), what text,
    PRIMARY KEY (i, b, t, u, y, f, at, n, m, c, "d$body$ %s", v, h));
INSERT INTO shop.keys
SELECT i, i = 2, E'a\\\\"b\\n' || i,
    ('0197a8f2-0000-7000-8000-00000000000' || i)::uuid, decode('00ff' || '0' || i, 'hex'),
    0.1 + 0.2, '2025-01-01 00:00:00.123456+05:30', 1.5, 'it''s "sad"', 'x', '0044-03-15 BC', 'v', 'h', 'new'
FROM generate_series(1, 9) AS i
"""


def program(name: str, *arguments: str | Path, folder: Path | None = None) -> str:
    done = subprocess.run(
        [(folder or binaries()) / name, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dump_and_restore(source: Store, target: Store, form: str, folder: Path, *options: str) -> None:
    """Dump and restore with the target's programs. `form`: the format option of pg_dump."""
    tools = DEBIAN_15 if target.server_version < 160000 else binaries()
    to = folder / f"dump_{form}"
    program("pg_dump", f"-F{form[0]}", "-f", to, "-d", source.conninfo, *options, folder=tools)
    if form == "plain":
        program("psql", "-v", "ON_ERROR_STOP=1", "-d", target.conninfo, "-f", to, folder=tools)
    else:
        how_many = ["-1"] if form == "custom" else ["-j", "2", "-e"]
        program("pg_restore", *how_many, "-d", target.conninfo, to, folder=tools)


def next_kind(store: Store, lake: Lake) -> str:
    """Publish the changes, and return the kind of the epoch."""
    taken = publish_changes(store, lake, tables=["shop.keys"], verify=False)
    table = taken.epoch.tables["keys"]
    return "nothing" if not taken.is_new else "whole" if table.changed == table.rows else "changes"


def change_and_check(store: Store, lake: Lake) -> None:
    run(
        store,
        "UPDATE shop.keys SET what = NULL WHERE i = 1",
        "DELETE FROM shop.keys WHERE i = 2",
        "UPDATE shop.keys SET i = 30 WHERE i = 3",
        'INSERT INTO shop.keys SELECT 9, b, t, u, y, f, at, n, m, c, "d$body$ %s", v, h'
        " FROM shop.keys WHERE i = 1",
    )
    verify_now(store, lake).prove()
    taken = publish_changes(store, lake, verify=True)
    assert (taken.epoch.changed, taken.epoch.deleted, taken.epoch.rows) == (3, 2, 8)


@contextmanager
def server_folder() -> Iterator[tuple[Path, Callable[..., None]]]:
    """A folder owned by the server's user, and a function that runs a program as that user."""
    account = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="ridelake-upgrade-"))
    chown(folder, account)
    make_traversable(folder)

    def run_as(*command: str | Path) -> None:
        with (folder / "output").open("w+") as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, cwd=folder, user=account, check=False
            )
            assert done.returncode == 0, (folder / "output").read_text()

    yield folder, run_as
    shutil.rmtree(folder)


@contextmanager
def running(programs: Path, data: Path, run_as: Callable[..., None]) -> Iterator[Store]:
    options = f"-k {data.parent} -c listen_addresses='' -c port=5499 -c wal_level=logical"
    run_as(programs / "pg_ctl", "start", "-w", "-D", data, "-l", data.parent / "log", "-o", options)
    try:
        dsn = make_conninfo(host=str(data.parent), port=5499, user="ridelake", dbname="postgres")
        yield open_database(dsn, install=False)
    finally:
        run_as(programs / "pg_ctl", "stop", "-w", "-D", data, "-m", "fast")
