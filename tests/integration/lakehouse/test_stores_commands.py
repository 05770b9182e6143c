"""`sync`, `snapshot`, `verify` and other commands with --source: output and refusals."""

import json
import re
from pathlib import Path

import psutil
import pytest
from bare_database import run
from sync_process import newest_number, output, sources, syncing, wait_until
from terminal import answer, ridelake

from lakehouse.capture.publish import publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch, read_epochs
from oltp.store import Store, open_database
from ridelake.settings import LakeAddress


@pytest.fixture
def address(tmp_path: Path) -> LakeAddress:
    return LakeAddress.at(tmp_path / "lake")


@pytest.mark.slow
def test_once_publishes_the_other_stores_and_reports_an_unreachable_one(
    seeded_store: Store, address: LakeAddress
):
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        (["--source", "=x"], "the text before = cannot be the name of a store"),
        (["--source", "postgresql://u:secret@h/d?a=b"], "the text before = cannot be the name of a store"),
        (["--source", "Berlin=dbname=x"], "Berlin cannot be the name of a store"),
        (["--source", "berlin=secret"], "the DSN of --source berlin is not a connection string of Postgres"),
        (["--source", "a=dbname=x", "--source", "a=dbname=y"], "the store a is given twice"),
        (["--source", "a=dbname=x", "--source", "a_b=dbname=y"], "the stores a and a_b could have tables"),
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


@pytest.mark.slow
def test_a_lake_of_one_store_is_refused(seeded_store: Store, other_seeded_store: Store, address: LakeAddress):
    publish_snapshot(seeded_store, Lake.create(address))
    for command in (["sync", "--once"], ["verify"], ["maintain"], ["snapshot"]):
        done = ridelake(*command, "--lake", address.root, *sources({"berlin": other_seeded_store}))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "the lake has one store without a name: leave out --source" in done.stderr
    assert newest_number(address) == 1


@pytest.mark.slow
def test_commands_that_read_show_each_store(
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
        assert "the lake has the stores berlin, paris: name each with --source NAME=DSN" in done.stderr
    for command in (["verify"], ["maintain"]):
        done = ridelake(*command, *flags, *sources({"berln": seeded_store}))
        assert (done.returncode, done.stdout) == (1, "")
        assert f"berln: no epoch of berln yet in {address.root}, which has berlin, paris: " in done.stderr
    done = ridelake("xray", *flags, "--dsn", seeded_store.conninfo, "--source", "berlin=password=secret")
    assert (done.returncode, done.stderr.count("\n"), "secret" in done.stderr) == (2, 1, False)
    for command in (["connect", "duckdb", "berlin_rides"], ["verify", "1"]):
        assert ridelake(*command, *flags).returncode == 0


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_dsn_is_in_no_child_process_and_in_no_output(
    seeded_store: Store, other_seeded_store: Store, address: LakeAddress
):
    """The server does not check the password, so that any password works."""
    stores = {n: open_database(f"{s.conninfo} password=secret", install=False)
              for n, s in (("berlin", seeded_store), ("paris", other_seeded_store))}  # fmt: skip
    with syncing(stores, address) as process:
        wait_until(lambda: read_epochs(address) and len(newest_epoch(address).stores) == 2)
        children = psutil.Process(process.pid).children(recursive=True)
        assert [one.cmdline() for one in children if "secret" in " ".join(one.cmdline())] == []
    assert "secret" not in output(address)
