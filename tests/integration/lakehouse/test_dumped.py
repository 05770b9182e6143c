"""After a dump and a restore, tracking works, or an error says what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from bare_database import bare_database, run
from keys_table import (
    KEYS,
    change_and_check,
    dump_and_restore,
    next_kind,
)
from psycopg.conninfo import make_conninfo
from terminal import answer

from lakehouse.source.tracking import renew_tracking, track
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from oltp.cluster.server import Cluster
from oltp.store import Store, open_database
from ridelake.settings import LakeAddress


@pytest.fixture
def shop(bare: Store) -> Store:
    """A tracked table with 8 rows and the tombstone of a deleted row."""
    run(bare, KEYS)
    track(bare, "shop.keys")
    run(bare, "DELETE FROM shop.keys WHERE i = 9")
    return bare


@pytest.mark.parametrize("form", ["custom", pytest.param("directory", marks=pytest.mark.slow), "plain"])
def test_a_restored_table_is_incremental_again(
    shop: Store, cluster: Cluster, lake: Lake, tmp_path: Path, form: str
):
    with bare_database(cluster) as target:
        dump_and_restore(shop, target, form, tmp_path)
        assert next_kind(target, lake) == "whole"
        assert next_kind(target, lake) == "whole", "the epoch is incremental too early"
        assert renew_tracking(target, ["shop.keys"]) == []
        assert [next_kind(target, lake), next_kind(target, lake)] == ["whole", "nothing"]
        change_and_check(target, lake)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["15", "18"])
def test_a_dump_of_postgres_15_restores(
    postgres_15: str, cluster: Cluster, lake: Lake, tmp_path: Path, to: str
):
    with server_database(postgres_15, "dumped") as source:
        run(source, KEYS)
        track(source, "shop.keys")
        with server_database(
            postgres_15 if to == "15" else cluster.conninfo("postgres"), "restored"
        ) as target:
            dump_and_restore(source, target, "custom", tmp_path)
            assert renew_tracking(target, ["shop.keys"]) == []
            run(target, "DELETE FROM shop.keys WHERE i = 9")
            assert [next_kind(target, lake), next_kind(target, lake)] == [
                "whole",
                "nothing",
            ]
            change_and_check(target, lake)


@contextmanager
def server_database(dsn: str, prefix: str) -> Iterator[Store]:
    name = f"{prefix}_{os.getpid()}"
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield open_database(make_conninfo(dsn, dbname=name), install=False)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.slow
def test_the_ride_store_works_after_a_restore(
    seeded_store: Store, cluster: Cluster, lake: Lake, tmp_path: Path
):
    with bare_database(cluster) as target:
        dump_and_restore(seeded_store, target, "custom", tmp_path)
        settings = ["--dsn", target.conninfo, "--lake", tmp_path / "other"]
        answer("simulate", "--seconds", "2", "--clients", "2", "--dsn", target.conninfo)
        answer("audit", *settings)
        assert answer("sync", "--once", *settings).startswith("epoch 1:")
        assert "nothing has changed" in answer("sync", "--once", *settings)
        answer("simulate", "--seconds", "2", "--clients", "2", "--dsn", target.conninfo)
        synced = answer("sync", "--once", "--verify", *settings)
        assert "equal to Postgres" in synced
        epoch = newest_epoch(LakeAddress.at(tmp_path / "other"))
        assert 0 < epoch.changed < epoch.rows / 2, "the epoch is not incremental"
