"""`ridelake sync --source …` with several servers: under load, and while one server does not respond."""

import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import psutil
import pytest
from booking_load import BookingLoad, booking_load, riders_of
from private_server import PrivateServer, private_server
from sync_process import newest_number, output, rides_in_lake, sources, syncing, wait_until
from terminal import answer, ridelake

from lakehouse.capture import sync_stores as sync_module
from lakehouse.capture.publish import PublishOptions
from lakehouse.capture.sync import SyncResult, sync_once
from lakehouse.capture.sync_stores import Opening, StoreReport, sync_stores
from lakehouse.commands.options import open_for_publishing
from lakehouse.commands.stores import sync_sources
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch, read_epochs
from lakehouse.verify import verify_now
from oltp.ingest.seed import seed_rides
from oltp.pool import RetryPool
from oltp.store import Store
from ridelake.errors import CannotConnect
from ridelake.settings import LakeAddress, Settings

SECONDS = int(os.environ.get("RIDELAKE_TEST_SECONDS", "20"))  # of the slow test
AWAY = r"paris: .*; its tables in the lake stay as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.fixture
def address(tmp_path: Path) -> LakeAddress:
    return LakeAddress.at(tmp_path / "lake")


@contextmanager
def seeded_servers(*names: str) -> Iterator[dict[str, PrivateServer]]:
    with ExitStack() as stack:
        servers = {name: stack.enter_context(private_server()) for name in names}
        for number, server in enumerate(servers.values()):
            seed_rides(server.store, 300, seed=number)
        yield servers


def stores_of(servers: dict[str, PrivateServer]) -> dict[str, Store]:
    return {name: server.store for name, server in servers.items()}


def openings_of(stores: dict[str, Store], address: LakeAddress) -> dict[str, tuple[str, Opening]]:
    settings = {name: Settings(Path("unused"), address, store.conninfo) for name, store in stores.items()}
    return {
        name: (str(one.dsn), partial(open_for_publishing, one, (), None, by_changes=True, store=name))
        for name, one in settings.items()
    }


def top_up(store: Store) -> None:
    with store.connect() as connection:
        connection.execute("SELECT top_up(1, 100)")


@pytest.mark.slow
def test_bookings_of_two_servers_are_in_one_lake(address: LakeAddress):
    with seeded_servers("berlin", "paris") as servers, ExitStack() as stack:
        stores = stores_of(servers)
        openings = openings_of(stores, address)
        loads = {n: BookingLoad(s, stack.enter_context(RetryPool(s, 1))) for n, s in stores.items()}
        epochs: Counter[str] = Counter()
        reports = stack.enter_context(_closing(sync_stores(openings, 0.0)))
        while min(epochs[name] for name in stores) < 5:
            report = next(reports)
            assert report.error is None
            assert report.synced is not None
            assert report.synced.trouble is None
            epochs[report.store] += report.synced.is_new
            loads[report.store].book(riders_of(stores[report.store]), 2)
        reports.close()
        done = ridelake("sync", "--once", "--verify", "--lake", address.root, *sources(stores))
        assert done.returncode == 0, done.stderr
        assert rides_in_lake(address) == {
            (n, id_): 1 for n, load in loads.items() for id_ in load.acknowledged
        }
        verified = answer("verify", "--lake", address.root, *sources(stores))
        assert re.findall(r"(\w+): epoch \d+ with the changes since then equals Postgres", verified) == [
            "berlin", "paris"
        ]  # fmt: skip


@contextmanager
def _closing(reports: Iterator[StoreReport]) -> Iterator[Iterator[StoreReport]]:
    try:
        yield reports
    finally:
        reports.close()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.timeout(600 + 10 * SECONDS)
def test_four_servers_under_load_lose_nothing_while_one_is_down(address: LakeAddress):
    names = ("berlin", "paris", "rome", "oslo")
    with seeded_servers(*names) as servers:
        stores = stores_of(servers)
        with ExitStack() as working:
            process = working.enter_context(syncing(stores, address))
            loads = {name: working.enter_context(booking_load(store)) for name, store in stores.items()}
            wait_until(lambda: read_epochs(address) and len(newest_epoch(address).stores) == 4)
            time.sleep(SECONDS / 3)
            servers["paris"].kill()
            wait_until(lambda: re.search(AWAY, output(address)))
            before = newest_epoch(address)
            time.sleep(SECONDS / 3)
            during = newest_epoch(address)
            servers["paris"].start()
            wait_until(lambda: "paris: sync continues" in output(address))
            time.sleep(SECONDS / 3)
            for load in loads.values():
                load.stop()
        assert during.tokens["paris"] == before.tokens["paris"]
        states = [{n: t.metadata for n, t in one.of("paris").tables.items()} for one in (before, during)]
        assert states[0] == states[1]
        assert all(during.tokens[name] != before.tokens[name] for name in names if name != "paris")
        assert process.returncode == -signal.SIGKILL
        done = ridelake("sync", "--once", "--verify", "--lake", address.root, *sources(stores))
        assert done.returncode == 0, done.stderr
        expected = {(name, id_): 1 for name, load in loads.items() for id_ in load.acknowledged}
        found = rides_in_lake(address)
        assert set(found.values()) == {1}, "a ride is in the lake more than once"
        assert expected.keys() <= found.keys(), "an acknowledged ride is lost"
        for name, store in stores.items():
            report = verify_now(store, Lake.create(address, name))
            assert (report.equal, report.tail_rows) == (True, (0,) * 9)
            assert len(loads[name].acknowledged) > 0


@pytest.mark.slow
def test_a_server_that_hangs_does_not_stop_others_and_is_reported_once(address: LakeAddress):
    with seeded_servers("berlin", "paris") as servers:
        stores = stores_of(servers)
        with syncing(stores, address) as process:
            wait_until(lambda: read_epochs(address) and len(newest_epoch(address).stores) == 2)
            server = psutil.Process(servers["paris"].cluster.server_pid())
            stopped = [server, *server.children(recursive=True)]
            for one in stopped:
                with suppress(psutil.NoSuchProcess):  # a session that has ended
                    one.suspend()
            try:
                for _ in range(3):
                    number = newest_number(address)
                    top_up(stores["berlin"])
                    wait_until(lambda number=number: newest_number(address) > number)
                wait_until(lambda: re.search(AWAY, output(address)))
                assert len(re.findall(AWAY, output(address))) == 1
                token = newest_epoch(address).tokens["paris"]
            finally:
                for one in stopped:
                    with suppress(psutil.NoSuchProcess):
                        one.resume()
            wait_until(lambda: "paris: sync continues" in output(address))
            top_up(stores["paris"])
            wait_until(lambda: newest_epoch(address).tokens["paris"] != token)
            process.send_signal(signal.SIGINT)
            process.wait(30)
            assert process.returncode == 130
        assert output(address).count("paris: sync continues") == 1
        for name, store in stores.items():
            assert verify_now(store, Lake.create(address, name)).equal


@pytest.mark.slow
def test_an_epoch_that_hangs_is_detected_by_a_new_connection(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress, monkeypatch
):
    """The iteration waits, with an open connection. Only a new connection shows that the server hangs."""
    monkeypatch.setattr(sync_module, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(sync_module, "ANSWER_SECONDS_MAX", 0.3)
    resumes = threading.Event()

    def sync(seconds: float, store: Store, lake: Lake, **options: object):
        if lake.store == "paris":
            monkeypatch.setattr(sync_module, "open_database", lambda *_, **__: resumes.wait(30))
            resumes.wait(30)
        yield from sync_repeatedly(seconds, store, lake, **options)

    sync_repeatedly = sync_module.sync_repeatedly
    monkeypatch.setattr(sync_module, "sync_repeatedly", sync)
    stores = {"berlin": seeded_store, "paris": other_seeded_store}
    reports = sync_stores(openings_of(stores, address), 0.1)
    seen = []
    for report in reports:
        seen.append(report)
        assert report.error is None
        if report.store == "paris" and report.synced is not None:
            if report.synced.trouble is None:
                break
            resumes.set()
    reports.close()
    silent = [one.synced.trouble for one in seen if one.store == "paris" and one.synced.trouble]
    assert silent == ["its server has not answered for 0.3 s; `ridelake sync` waits for it"]
    assert any(one.store == "berlin" and one.synced.is_new for one in seen)
    assert newest_epoch(address).stores == ["berlin", "paris"]


@pytest.mark.slow
def test_a_permanent_error_ends_the_sync_of_one_store_only(
    seeded_store: Store, other_seeded_store: Store, store: Store, address: LakeAddress
):
    """The DSN of `paris` now names another database."""
    first = {"berlin": seeded_store, "paris": other_seeded_store}
    assert ridelake("sync", "--once", "--lake", address.root, *sources(first)).returncode == 0
    with syncing({"berlin": seeded_store, "paris": store}, address) as process:
        wait_until(lambda: "its sync has ended" in output(address))
        number = newest_number(address)
        top_up(seeded_store)
        wait_until(lambda: newest_number(address) > number)
        process.send_signal(signal.SIGINT)
        process.wait(30)
        assert process.returncode == 130
    assert re.search(r"paris: this lake was taken from another database of the server", output(address))
    done = ridelake("sync", "--once", "--lake", address.root, *sources({"paris": store}))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "check --source; if it is correct, run `ridelake snapshot --source NAME=DSN` to" in done.stderr
    assert "--dsn" not in done.stderr
    ended = ridelake("sync", "--lake", address.root, *sources({"paris": store}))
    assert ended.returncode == 1, "the exit code must be 1 if the sync of all stores has ended"


def test_an_unreachable_catalog_does_not_end_the_sync(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress, monkeypatch, capsys
):
    """All stores report the error, and continue when the catalog responds again."""
    stores = {"berlin": seeded_store, "paris": other_seeded_store}
    reports = [
        StoreReport("paris", SyncResult(None, False, 0.1, None, "cannot reach the lake's catalog: refused"))
    ]
    monkeypatch.setattr("lakehouse.capture.sync_stores.sync_stores", lambda *_, **__: iter(reports))
    away = replace(address, catalog_url="postgresql://user@127.0.0.1:1/x", catalog_file=None)
    sync_sources(Settings(Path("unused"), away), dict.fromkeys(stores, ""), 1.0, {}, None, as_json=False)
    assert capsys.readouterr().out == "paris: cannot reach the lake's catalog: refused\n"


def test_a_server_without_a_free_connection_counts_as_running(
    seeded_store: Store, address: LakeAddress, monkeypatch: pytest.MonkeyPatch
):
    """An epoch takes long, and the server refuses the connection that would check it."""
    monkeypatch.setattr(sync_module, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(sync_module, "ANSWER_SECONDS_MAX", 0.2)
    refused = Counter[str]()

    def refuse(dsn: str, **_: object) -> None:
        refused[dsn] += 1
        raise CannotConnect("cannot connect to Postgres: sorry, too many clients already")

    def sync(store: Store, lake: Lake, **options: Unpack[PublishOptions]) -> SyncResult:
        wait_until(lambda: sum(refused.values()) >= 5)
        return sync_once(store, lake, **options)

    monkeypatch.setattr(sync_module, "open_database", refuse)
    monkeypatch.setattr(sync_module, "sync_once", sync)
    reports = list(sync_stores(openings_of({"berlin": seeded_store}, address), None))
    assert [one.synced.is_new for one in reports if one.synced] == [True]
    assert [one.error for one in reports] == [None, None]
