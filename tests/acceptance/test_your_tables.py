"""The commands of docs/your-tables.md run in order, with the privileges of its roles, also over TLS and
through PgBouncer."""

import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from bare_database import bare_database
from pgbouncer import pgbouncer
from psycopg.conninfo import make_conninfo
from terminal import answer, ridelake
from tls_server import PASSWORD, TlsServer, tls_server

from lakehouse.capture.metrics import HELP
from oltp.cluster.server import Cluster

PAGE = (Path(__file__).parents[2] / "docs" / "your-tables.md").read_text("utf-8")
TABLES = """
    CREATE SCHEMA shop AUTHORIZATION shop_owner;
    SET ROLE shop_owner;
    CREATE TABLE shop.orders (id bigint PRIMARY KEY, total numeric(10, 2));
    INSERT INTO shop.orders SELECT n, n FROM generate_series(1, 100) AS n;
    RESET ROLE"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shop:
    """A database with the table of the page. `mine` replaces the roles in a text by those of this test: the
    databases of a server share their roles."""

    admin: str
    suffix: str

    def mine(self, text: str) -> str:
        return re.sub(r"\b(lake_reader|shop_owner)\b", rf"\1{self.suffix}", text)

    def dsn(self, role: str) -> str:
        return make_conninfo(self.admin, user=self.mine(role), options="")

    def run(self, *scripts: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            for script in scripts:
                connection.execute(self.mine(script).encode())


def open_shop(admin: str) -> Iterator[Shop]:
    shop = Shop(admin, f"_{uuid.uuid4().hex[:8]}")
    shop.run("CREATE ROLE shop_owner LOGIN", TABLES, blocks("sql")[0])
    try:
        yield shop
    finally:
        shop.run(
            "DROP SCHEMA IF EXISTS shop, ridelake_tracking CASCADE",
            "DROP OWNED BY lake_reader, shop_owner",
            "DROP ROLE lake_reader, shop_owner",
        )


@pytest.fixture
def shop(cluster: Cluster) -> Iterator[Shop]:
    with bare_database(cluster) as store:
        yield from open_shop(store.conninfo)


@pytest.fixture(scope="module")
def secure() -> Iterator[TlsServer]:
    with tls_server() as server:
        yield server


def follow(shop: Shop, lake: Path, reader: str, tracker: str) -> None:
    """Check what the page says about the role that reads and the role that tracks."""
    flags = ["--lake", lake, "--dsn"]
    assert ridelake("doctor", reader).returncode == 0
    answer("track", "shop.orders", "--dsn", tracker)
    assert "equal to Postgres" in answer("snapshot", "--table", "shop.orders", "--verify", *flags, reader)
    shop.run("UPDATE shop.orders SET total = 0 WHERE id <= 3", "DELETE FROM shop.orders WHERE id > 98")
    assert "3 rows changed, 2 deleted" in answer("sync", "--once", *flags, reader)
    assert "equals Postgres: 98 rows" in answer("verify", *flags, reader)
    deadline = time.monotonic() + 60
    while "and 2 tombstones" not in answer("maintain", *flags, reader):
        assert time.monotonic() < deadline, "the reader could not delete the tombstones"
        # A transaction of another test was open at the last epoch: publish a newer epoch.
        shop.run("UPDATE shop.orders SET total = total + 1 WHERE id = 1")
        answer("sync", "--once", *flags, reader)
    assert "is no longer tracked" in answer("untrack", "shop.orders", "--dsn", tracker)


def test_the_role_of_the_page_follows_a_table_that_its_owner_tracks(shop: Shop, tmp_path: Path):
    follow(shop, tmp_path / "lake", shop.dsn("lake_reader"), shop.dsn("shop_owner"))


def test_a_member_of_the_owner_can_track_the_table(shop: Shop, tmp_path: Path):
    shop.run(blocks("sql")[1])
    follow(shop, tmp_path / "lake", shop.dsn("lake_reader"), shop.dsn("lake_reader"))


@pytest.mark.slow
def test_the_role_follows_a_table_through_pgbouncer(shop: Shop, tmp_path: Path):
    options = {"pool_mode": "session", "ignore_startup_parameters": "options, extra_float_digits"}
    with pgbouncer(shop.dsn("lake_reader"), **options) as dsn:
        follow(shop, tmp_path / "lake", dsn, shop.dsn("shop_owner"))


@pytest.mark.slow
def test_the_role_follows_a_table_over_tls_with_a_password(secure: TlsServer, tmp_path: Path):
    for shop in open_shop(secure.admin):
        for role in ("lake_reader", "shop_owner"):
            with psycopg.connect(secure.admin) as connection:
                verifier = connection.pgconn.encrypt_password(PASSWORD.encode(), shop.mine(role).encode())
            shop.run(f"ALTER ROLE {role} PASSWORD '{verifier.decode()}'")
        verified = {"sslmode": "verify-full", "sslrootcert": str(secure.certificate)}
        reader, owner = (secure.dsn(shop.mine(r), **verified) for r in ("lake_reader", "shop_owner"))
        follow(shop, tmp_path / "lake", reader, owner)
        shown = answer("doctor", reader)
        assert "ok: TLS, certificate verified (sslmode=verify-full)" in shown
        assert PASSWORD not in shown
        assert "the certificate is not verified" in answer("doctor", secure.dsn(shop.mine("lake_reader")))
        refused = ridelake("doctor", secure.dsn(shop.mine("lake_reader"), sslmode="disable"))
        assert refused.returncode == 3
        assert PASSWORD not in refused.stdout + refused.stderr


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_their_order(shop: Shop, tmp_path: Path):
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RIDELAKE_")}
    environment |= {"RIDELAKE_DSN": shop.dsn("shop_owner"), "RIDELAKE_LAKE": "shop-lake"}
    lines = "\n".join(blocks("sh")).splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("ridelake ")]
    assert [command[1] for command in commands] == [
        "doctor", "track", "snapshot", "sync", "verify", "sql", "untrack"
    ]  # fmt: skip
    for _, *arguments in commands:
        if arguments[0] == "untrack":
            assert readers_print(tmp_path) == ["100", "100"]
        arguments = ["sync", "--once"] if arguments[0] == "sync" else arguments
        done = ridelake(*arguments, environment=environment, folder=tmp_path)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


def readers_print(folder: Path) -> list[str]:
    (program,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_undo_leaves_nothing_of_ridelake_in_the_database(shop: Shop):
    answer("track", "shop.orders", "--dsn", shop.dsn("shop_owner"))
    answer("untrack", "shop.orders", "--dsn", shop.dsn("shop_owner"))
    shop.run(*blocks("sql")[2].strip().split(";"))
    with psycopg.connect(shop.admin) as connection:
        left = """SELECT 1 FROM pg_class WHERE relname ~ 'ridelake'
            UNION ALL SELECT 2 FROM pg_trigger WHERE tgname ~ 'ridelake'
            UNION ALL SELECT 3 FROM pg_namespace WHERE nspname ~ 'ridelake'
            UNION ALL SELECT 4 FROM pg_attribute WHERE attname = 'tx' AND NOT attisdropped
            UNION ALL SELECT 5 FROM pg_roles WHERE rolname = %s"""
        assert connection.execute(left, (shop.mine("lake_reader"),)).fetchall() == []
        connection.execute(shop.mine("CREATE ROLE lake_reader"))  # dropped by the fixture


def test_the_page_lists_every_metric():
    names = re.findall(r"`(?:ridelake_sync)?_(\w+)`", PAGE)
    assert sorted(name for name in names if name in HELP) == sorted(HELP)
