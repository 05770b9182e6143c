"""`ridelake sync --source …`: several servers, one of them away, and what the command refuses."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import psutil
import pytest
from bare_database import run
from booking_load import BookingLoad, booking_load, riders_of
from private_server import PrivateServer, private_server
from terminal import COMMAND, answer, ridelake

from lakehouse.capture import sync_stores as sync_module
from lakehouse.capture.publish import PublishOptions, publish_snapshot
from lakehouse.capture.sync import SyncResult, sync_once
from lakehouse.capture.sync_stores import Opening, StoreReport, sync_stores
from lakehouse.commands.options import open_for_publishing
from lakehouse.commands.stores import sync_sources
from lakehouse.engines.duckdb import opened
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch, read_epochs
from lakehouse.verify import verify_now
from oltp.ingest.seed import seed_rides
from oltp.pool import RetryPool
from oltp.store import Store, open_database
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


def sources(stores: dict[str, Store]) -> list[str]:
    return [word for name, store in stores.items() for word in ("--source", f"{name}={store.conninfo}")]


def stores_of(servers: dict[str, PrivateServer]) -> dict[str, Store]:
    return {name: server.store for name, server in servers.items()}


def openings_of(stores: dict[str, Store], address: LakeAddress) -> dict[str, tuple[str, Opening]]:
    settings = {name: Settings(Path("unused"), address, store.conninfo) for name, store in stores.items()}
    return {
        name: (str(one.dsn), partial(open_for_publishing, one, (), None, by_changes=True, store=name))
        for name, one in settings.items()
    }


@contextmanager
def syncing(stores: dict[str, Store], address: LakeAddress, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The command, with its output in the file `output` beside the lake."""
    with (address.folder.parent / "output").open("w") as output:
        process = subprocess.Popen(
            [*COMMAND, "sync", "--every", "0.2", "--lake", address.root, *sources(stores), *more],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def output(address: LakeAddress) -> str:
    return (address.folder.parent / "output").read_text()


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition is not met in time"
        time.sleep(0.05)


def newest_number(address: LakeAddress) -> int:
    return max((epoch.number for epoch in read_epochs(address, limit=1)), default=0)


def top_up(store: Store) -> None:
    with store.connect() as connection:
        connection.execute("SELECT top_up(1, 100)")


def rides_in_lake(address: LakeAddress) -> Counter[tuple[str, str]]:
    """How often each decided request is among the rides, by store, from the union of all stores."""
    with opened(Settings(home=Path("unused"), lake=address), newest_epoch(address)) as engine:
        found = engine.sql(
            "SELECT source, request_id FROM rides SEMI JOIN requests USING (source, request_id)"
        )
    return Counter(zip(*(column.to_pylist() for column in found.columns), strict=True))


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
def test_four_servers_under_load_lose_nothing_while_one_is_away(address: LakeAddress):
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
            wait_until(lambda: "paris: it answers again" in output(address))
            time.sleep(SECONDS / 3)
            for load in loads.values():
                load.stop()
        assert during.tokens["paris"] == before.tokens["paris"]
        assert during.of("paris").tables == before.of("paris").tables
        assert all(during.tokens[name] != before.tokens[name] for name in names if name != "paris")
        assert process.returncode == -signal.SIGKILL
        done = ridelake("sync", "--once", "--verify", "--lake", address.root, *sources(stores))
        assert done.returncode == 0, done.stderr
        expected = {(name, id_): 1 for name, load in loads.items() for id_ in load.acknowledged}
        found = rides_in_lake(address)
        assert set(found.values()) == {1}, "a ride is there twice"
        assert expected.keys() <= found.keys(), "an acknowledged ride is lost"
        for name, store in stores.items():
            report = verify_now(store, Lake.create(address, name))
            assert (report.equal, report.tail_rows) == (True, (0,) * 9)
            assert len(loads[name].acknowledged) > 0


@pytest.mark.slow
def test_a_server_that_hangs_stops_no_other_and_is_reported_once(address: LakeAddress):
    with seeded_servers("berlin", "paris") as servers:
        stores = stores_of(servers)
        with syncing(stores, address) as process:
            wait_until(lambda: read_epochs(address) and len(newest_epoch(address).stores) == 2)
            server = psutil.Process(servers["paris"].cluster.server_pid())
            stopped = [server, *server.children(recursive=True)]
            for one in stopped:
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
                    one.resume()
            wait_until(lambda: "paris: it answers again" in output(address))
            top_up(stores["paris"])
            wait_until(lambda: newest_epoch(address).tokens["paris"] != token)
            process.send_signal(signal.SIGINT)
            process.wait(30)
            assert process.returncode == 130
        assert output(address).count("paris: it answers again") == 1
        for name, store in stores.items():
            assert verify_now(store, Lake.create(address, name)).equal


def test_an_epoch_that_hangs_is_found_by_asking_the_server(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress, monkeypatch
):
    """The iteration waits although its connection exists: only the question to the server shows it."""
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


def test_once_publishes_the_others_and_names_the_one_that_is_away(seeded_store: Store, address: LakeAddress):
    away = f"paris=host=/nowhere dbname=x user=u password={'secret'}"
    flags = ["--lake", address.root, *sources({"berlin": seeded_store}), "--source", away]
    done = ridelake("sync", "--once", *flags)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("ridelake: paris: cannot connect to Postgres: ")
    assert "secret" not in done.stderr + done.stdout
    assert "--dsn" not in done.stderr
    assert done.stdout.startswith("berlin: epoch 1: ")
    verified = ridelake("verify", *flags)
    assert verified.returncode == 1
    assert "berlin: epoch 1 with the changes since then equals Postgres" in verified.stdout
    assert "ridelake: paris: cannot connect" in verified.stderr
    maintained = ridelake("maintain", *flags)
    assert maintained.returncode == 1
    assert maintained.stdout.startswith("berlin: 9 files, nothing to compact")


def test_a_permanent_error_ends_the_sync_of_one_store_only(
    seeded_store: Store, other_seeded_store: Store, store: Store, address: LakeAddress
):
    """`paris` has become another database."""
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
    ended = ridelake("sync", "--lake", address.root, *sources({"paris": store}))
    assert ended.returncode == 1, "all have ended"


def test_a_snapshot_of_one_store_publishes_all_its_rows_again(
    seeded_store: Store, other_seeded_store: Store, store: Store, address: LakeAddress
):
    first = {"berlin": seeded_store, "paris": other_seeded_store}
    assert ridelake("sync", "--once", "--lake", address.root, *sources(first)).returncode == 0
    done = ridelake("snapshot", "--lake", address.root, *sources({"paris": store}))
    assert done.returncode == 0, done.stderr
    newest = newest_epoch(address)
    assert newest.stores == ["berlin", "paris"]
    assert newest.of("paris").tables["rides"].rows == 0
    assert newest.of("berlin").tables["rides"].rows == 2_000
    refused = ridelake("snapshot", "--lake", address.root, *sources(first))
    assert "publishes one store: give one --source" in refused.stderr


def test_options_of_tables_apply_to_each_store(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress
):
    for one in (seeded_store, other_seeded_store):
        run(
            one,
            "CREATE TABLE public.orders (id int PRIMARY KEY, note text)",
            "INSERT INTO public.orders VALUES (1)",
        )
    stores = {"berlin": seeded_store, "paris": other_seeded_store}
    done = ridelake(
        "sync", "--once", "--lake", address.root, *sources(stores), "--schema", "public", "--without-column",
        "public.orders.note", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["source"] for line in done.stdout.splitlines()} == {"berlin", "paris"}
    epoch = newest_epoch(address)
    assert set(epoch.tables) == {"berlin_orders", "paris_orders"}
    assert all(table.without == ("note",) for table in epoch.tables.values())


def test_a_table_that_joins_is_reported_with_its_store(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress
):
    stores = {"berlin": seeded_store, "paris": other_seeded_store}
    with syncing(stores, address, "--table", "ridelake.rides", "--schema", "public"):
        wait_until(lambda: output(address).count(": epoch ") >= 2)
        run(seeded_store, "CREATE TABLE public.orders (id int PRIMARY KEY)")
        wait_until(lambda: "berlin: public.orders joins the lake" in output(address))
        run(seeded_store, "DROP TABLE public.orders")
        wait_until(lambda: "berlin: public.orders leaves the lake: it was dropped" in output(address))
    assert "paris: public" not in output(address)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "berlin"], "the DSN of --source berlin is not a connection string of Postgres"),
        (["--source", "=x"], "the text before = cannot be the name of a source"),
        (["--source", "postgresql://u:secret@h/d?a=b"], "the text before = cannot be the name of a source"),
        (["--source", "Berlin=dbname=x"], "Berlin cannot be the name of a source"),
        (["--source", "berlin=secret"], "the DSN of --source berlin is not a connection string of Postgres"),
        (["--source", "a=dbname=x", "--source", "a=dbname=y"], "the source a is given twice"),
        (["--source", "a=dbname=x", "--source", "a_b=dbname=y"], "the sources a and a_b could have tables"),
        (["--source", "a=dbname=x", "--dsn", "dbname=y"], "leave out --dsn and RIDELAKE_DSN"),
    ],
)
@pytest.mark.parametrize("command", [["sync", "--once"], ["verify"], ["maintain"], ["snapshot"]])
def test_bad_sources_get_one_line(
    address: LakeAddress, command: list[str], arguments: list[str], message: str
):
    done = ridelake(*command, "--lake", address.root, *arguments)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert message in done.stderr
    assert "secret" not in done.stderr
    assert not address.folder.exists()


def test_a_lake_of_one_store_is_refused(seeded_store: Store, other_seeded_store: Store, address: LakeAddress):
    publish_snapshot(seeded_store, Lake.create(address))
    for command in (["sync", "--once"], ["verify"], ["maintain"], ["snapshot"]):
        done = ridelake(*command, "--lake", address.root, *sources({"berlin": other_seeded_store}))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "the lake has one store without a name: leave out --source" in done.stderr
    assert newest_number(address) == 1


def test_commands_that_look_show_each_store(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress, tmp_path: Path
):
    stores = {"berlin": seeded_store, "paris": other_seeded_store}
    flags = ["--lake", address.root, "--home", str(tmp_path / "home")]
    assert ridelake("sync", "--once", *flags, *sources(stores)).returncode == 0
    listed = json.loads(answer("epochs", *flags, "--json"))
    assert {one["source"] for one in listed} == {"berlin", "paris"}
    assert set(listed[0]["tokens"]) == {"berlin", "paris"}
    shown = answer("epochs", *flags)
    assert re.search(r"epoch +source +as of", shown)
    report = json.loads(answer("status", *flags, "--json"))
    assert {"age_seconds_of_berlin", "age_seconds_of_paris"} <= report.keys()
    assert "--source berlin=DSN --source paris=DSN" in report["next"]
    assert len(report["tables"]) == 18
    for command in (["audit"], ["status"], ["xray", "--source", "berlin"]):
        done = ridelake(*command, *flags, "--dsn", seeded_store.conninfo)
        assert done.returncode == 0, done.stderr
    for command in (["sync", "--once"], ["snapshot"], ["verify"], ["maintain"]):
        done = ridelake(*command, *flags, "--dsn", seeded_store.conninfo)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "the lake has the sources berlin, paris: name each with --source NAME=DSN" in done.stderr
    for command in (["connect", "duckdb", "berlin_rides"], ["verify", "1"]):
        assert ridelake(*command, *flags).returncode == 0


def test_a_table_that_is_left_out_is_named_with_its_store(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress
):
    for store, day in ((seeded_store, "infinity"), (other_seeded_store, "2026-07-01")):
        run(
            store,
            "CREATE TABLE public.days (day date PRIMARY KEY)",
            f"INSERT INTO public.days VALUES ('{day}')",
        )
    stores = {"berlin": seeded_store, "paris": other_seeded_store}
    flags = ["--lake", address.root, *sources(stores), "--table", "public.days", "--table", "ridelake.rides"]
    done = ridelake("sync", "--once", *flags)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("ridelake: berlin: public.days is not in epoch ")
    assert newest_epoch(address).missing()[0].startswith("berlin: public.days is not in epoch ")
    assert "berlin_days" in newest_epoch(address).left_out
    verified = ridelake("verify", "--lake", address.root, *sources(stores))
    assert verified.returncode == 1
    assert "berlin: public.days is not compared: it is not in epoch" in verified.stderr
    run(seeded_store, "UPDATE public.days SET day = '2026-07-02'")
    assert ridelake("sync", "--once", "--lake", address.root, *sources(stores)).returncode == 0
    assert newest_epoch(address).left_out == {}


def test_a_catalog_that_is_away_ends_no_sync(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress, monkeypatch, capsys
):
    """All stores report it, and continue when it is back."""
    stores = {"berlin": seeded_store, "paris": other_seeded_store}
    reports = [
        StoreReport("paris", SyncResult(None, False, 0.1, None, "cannot reach the lake's catalog: refused"))
    ]
    monkeypatch.setattr("lakehouse.capture.sync_stores.sync_stores", lambda *_, **__: iter(reports))
    away = replace(address, catalog_url="postgresql://user@127.0.0.1:1/x", catalog_file=None)
    sync_sources(Settings(Path("unused"), away), dict.fromkeys(stores, ""), 1.0, {}, None, as_json=False)
    assert capsys.readouterr().out == "paris: cannot reach the lake's catalog: refused\n"


def test_metrics_have_a_label_for_each_store(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress, tmp_path: Path
):
    stores = {"berlin": seeded_store, "paris": other_seeded_store}
    path = tmp_path / "sync.prom"
    lag = r'^ridelake_sync_lag_seconds\{lake="[^"]+",source="(\w+)"\} \d'
    with syncing(stores, address, "--metrics", str(path)):
        wait_until(lambda: path.exists() and len(re.findall(lag, path.read_text(), re.MULTILINE)) == 2)
    text = path.read_text()
    assert re.findall(lag, text, re.MULTILINE) == ["berlin", "paris"]
    assert text.count("# TYPE ridelake_sync_lag_seconds gauge") == 1


def test_the_dsn_is_in_no_child_process_and_in_no_output(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress
):
    """The socket's server does not ask for the password."""
    stores = {n: open_database(f"{s.conninfo} password=secret", install=False)
              for n, s in (("berlin", seeded_store), ("paris", other_seeded_store))}  # fmt: skip
    with syncing(stores, address) as process:
        wait_until(lambda: read_epochs(address) and len(newest_epoch(address).stores) == 2)
        children = psutil.Process(process.pid).children(recursive=True)
        assert [one.cmdline() for one in children if "secret" in " ".join(one.cmdline())] == []
    assert "secret" not in output(address)


def test_a_server_without_a_free_connection_answers(
    seeded_store: Store, address: LakeAddress, monkeypatch: pytest.MonkeyPatch
):
    """The epoch takes long, and the server refuses the connection that would ask it."""
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
