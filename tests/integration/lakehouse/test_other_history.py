"""After an upgrade, replacement or reset of the server, no row is lost."""

import time
from pathlib import Path

import pytest
from bare_database import bare_database, rows_of, run
from keys_table import (
    KEYS,
    NINE,
    change_and_check,
    dump_and_restore,
    next_kind,
    running,
    server_folder,
)
from old_pair import DEBIAN_15
from psycopg.conninfo import make_conninfo

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.source.tracking import renew_tracking, track
from lakehouse.table.catalog import Lake
from lakehouse.verify import verify_now
from oltp.cluster.process import binaries
from oltp.cluster.server import Cluster
from oltp.store import Store, open_database
from ridelake.errors import UsageError


@pytest.mark.slow
def test_an_upgraded_server_needs_a_snapshot(lake: Lake):
    """pg_upgrade changes the system identifier, but not the oids and transaction ids."""
    if not (DEBIAN_15 / "pg_ctl").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    with server_folder() as (folder, run_as):
        run_as(DEBIAN_15 / "initdb", "-D", folder / "old", "--username=ridelake", "--no-sync")
        with running(DEBIAN_15, folder / "old", run_as) as source:
            run(source, KEYS)
            track(source, "shop.keys")
            publish_changes(source, lake, tables=["shop.keys"])
        new = ["-D", folder / "new", "--username=ridelake", "--no-data-checksums", "--no-sync"]
        run_as(binaries() / "initdb", *new)
        upgrade = [
            "-b",
            DEBIAN_15,
            "-B",
            binaries(),
            "-d",
            folder / "old",
            "-D",
            folder / "new",
            "-U",
            "ridelake",
        ]
        run_as(binaries() / "pg_upgrade", *upgrade, "--check")
        run_as(binaries() / "pg_upgrade", *upgrade)
        with running(binaries(), folder / "new", run_as) as target:
            run(target, "DELETE FROM shop.keys WHERE i = 9")
            with pytest.raises(
                UsageError, match=r"this lake was taken from another server .* run `ridelake snapshot`"
            ):
                publish_changes(target, lake)
            assert renew_tracking(target, ["shop.keys"]) == []
            assert publish_snapshot(target, lake, verify=True).rows == 8
            assert next_kind(target, lake) == "nothing"
            change_and_check(target, lake)


@pytest.mark.slow
def test_numbers_and_tombstones_of_another_server_are_ignored(cluster: Cluster, lake: Lake, tmp_path: Path):
    with server_folder() as (folder, run_as), bare_database(cluster) as target:
        run_as(binaries() / "initdb", "-D", folder / "far", "--username=ridelake", "--no-sync")
        # Transaction ids start at 17,179,869,184.
        run_as(binaries() / "pg_resetwal", "-e", "4", "-D", folder / "far")
        with running(binaries(), folder / "far", run_as) as source:
            run(source, KEYS)
            track(source, "shop.keys")
            run(source, "UPDATE shop.keys SET what = 'far'", "DELETE FROM shop.keys WHERE i = 9",
                "UPDATE ridelake_tracking.cleared SET before_tx = 17179869999")  # fmt: skip
            dump_and_restore(source, target, "custom", tmp_path)
        # The restored table may have the same oid as on the other server.
        run(target, "UPDATE ridelake_tracking.tombstones SET relation = 'shop.keys'::regclass")
        track(target, "shop.keys")
        assert [next_kind(target, lake), next_kind(target, lake)] == ["whole", "nothing"]
        run(target, NINE)
        assert next_kind(target, lake) == "changes"
        run(target, "UPDATE shop.keys SET what = 'near' WHERE i = 1")
        taken = publish_changes(target, lake, verify=True)
        assert (taken.epoch.changed, taken.epoch.deleted, taken.epoch.rows) == (1, 0, 9)
        verify_now(target, lake).prove()


@pytest.mark.slow
def test_a_reset_transaction_counter_loses_no_row(lake: Lake):
    with server_folder() as (folder, run_as):
        data = folder / "data"
        run_as(binaries() / "initdb", "-D", data, "--username=ridelake", "--no-sync")
        run_as(binaries() / "pg_resetwal", "-e", "4", "-D", data)
        with running(binaries(), data, run_as) as store:
            run(store, KEYS)
            track(store, "shop.keys")
            publish_changes(store, lake, tables=["shop.keys"])
            run(store, "DELETE FROM shop.keys WHERE i = 9")
        run_as(binaries() / "pg_resetwal", "-e", "0", "-D", data)
        with running(binaries(), data, run_as) as store:
            run(store, NINE)
            with pytest.raises(UsageError, match="history is older than the lake"):
                publish_changes(store, lake)
            with pytest.raises(UsageError, match="history is older than the lake"):
                renew_tracking(store, ["shop.keys"], lake.newest().token)
            assert renew_tracking(store, ["shop.keys"]) == []
            publish_snapshot(store, lake)
            run(store, "UPDATE shop.keys SET what = 'after' WHERE i = 9")
            taken = publish_changes(store, lake, verify=True)
            assert (taken.epoch.changed, taken.epoch.deleted, taken.epoch.rows) == (1, 0, 9)


@pytest.mark.slow
def test_a_schema_is_replicated_with_its_triggers(lake: Lake):
    with server_folder() as (folder, run_as):
        run_as(binaries() / "initdb", "-D", folder / "data", "--username=ridelake", "--no-sync")
        with running(binaries(), folder / "data", run_as) as source:
            run(source, KEYS, "CREATE DATABASE subscriber")
            track(source, "shop.keys")
            target = open_database(make_conninfo(source.conninfo, dbname="subscriber"), install=False)
            dump_and_restore(source, target, "custom", folder, "--schema-only")
            run(source, "CREATE PUBLICATION p FOR TABLE shop.keys",
                "SELECT pg_create_logical_replication_slot('s', 'pgoutput')")  # fmt: skip
            publisher = f"host={folder} port=5499 user=ridelake dbname=postgres"
            run(target, f"CREATE SUBSCRIPTION s CONNECTION '{publisher}'"
                " PUBLICATION p WITH (create_slot = false)")  # fmt: skip
            wait_for_rows(target, 9)
            assert renew_tracking(target, ["shop.keys"]) == []
            assert [next_kind(target, lake), next_kind(target, lake)] == [
                "whole",
                "nothing",
            ]
            run(source, "UPDATE shop.keys SET what = 'new' WHERE i = 1", "DELETE FROM shop.keys WHERE i = 9")
            wait_for_rows(target, 8)
            taken = publish_changes(target, lake, verify=True)
            assert (taken.epoch.changed, taken.epoch.deleted) == (1, 1)
            run(target, "DROP SUBSCRIPTION s")


def wait_for_rows(store: Store, count: int) -> None:
    give_up = time.monotonic() + 30
    while rows_of(store, "SELECT count(*) FROM shop.keys") != [(count,)]:
        assert time.monotonic() < give_up, "the subscription has not applied the changes in time"
        time.sleep(0.05)
