"""One lake of several stores: publishers and refusals."""

import json
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from bare_database import run
from catalog_server import served_catalog
from killed_client import SEAL_ROWS, referenced, syncing_process
from lake_files import files_of
from terminal import ridelake

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.epoch import Epoch, Selection
from lakehouse.table.published import epoch_as_of, newest_epoch, read_epochs
from lakehouse.verify import verify_files, verify_now
from oltp.store import Store
from ridelake.errors import UsageError
from ridelake.settings import LakeAddress

ORDERS = "CREATE TABLE public.orders (id bigint PRIMARY KEY, what text)"


@pytest.fixture
def address(tmp_path: Path) -> LakeAddress:
    return LakeAddress.at(tmp_path / "lake")


@pytest.fixture
def berlin(seeded_store: Store, address: LakeAddress) -> tuple[Store, Lake]:
    return seeded_store, Lake.create(address, "berlin")


@pytest.fixture
def paris(other_seeded_store: Store, address: LakeAddress) -> tuple[Store, Lake]:
    return other_seeded_store, Lake.create(address, "paris")


def top_up(store: Store, rider_id: int = 1) -> None:
    with store.connect() as connection:
        connection.execute("SELECT top_up(%s, 100)", (rider_id,))


def published_by(epoch: Epoch, store: str) -> dict[str, str]:
    return {name: table.metadata for name, table in epoch.tables.items() if table.store == store}


@pytest.mark.slow
def test_an_epoch_has_the_newest_tables_and_the_token_of_each_store(berlin, paris, address: LakeAddress):
    publish_snapshot(*berlin)
    alone = newest_epoch(address)
    assert (alone.number, alone.stores, len(alone.tables)) == (1, ["berlin"], 9)
    publish_snapshot(*paris)
    both = newest_epoch(address)
    assert (both.number, both.stores, both.moved) == (2, ["berlin", "paris"], "paris")
    assert set(both.tables) == {f"{store}_{name}" for store in both.stores for name in both.of(store).tables}
    assert both.tokens["berlin"] == alone.tokens["berlin"]
    assert both.changed == sum(table.rows for table in both.of("paris").tables.values())
    top_up(berlin[0])
    third = publish_changes(*berlin, verify=True).epoch
    whole = newest_epoch(address)
    assert (third.number, third.verified, third.token) == (3, True, whole.tokens["berlin"])
    assert published_by(whole, "paris") == published_by(both, "paris")
    assert whole.tokens["paris"] == both.tokens["paris"]
    assert whole.of("paris").verified is None, "paris is marked as compared"
    assert not publish_changes(*paris).is_new
    assert newest_epoch(address) == whole
    for pair in (berlin, paris):
        assert verify_now(*pair).equal


def test_an_older_version_of_ridelake_rejects_a_lake_of_several_stores(berlin, address: LakeAddress):
    publish_snapshot(*berlin)
    with berlin[1].catalog.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT format FROM lake").fetchall() == [(4,)]
    manifest = json.loads(Path(address.manifest(1)).read_text())
    assert (manifest["format"], manifest["source"], list(manifest["tokens"])) == (4, "berlin", ["berlin"])
    assert "token" not in manifest


def test_a_lake_of_one_store_has_the_older_format(seeded_store: Store, lake: Lake):
    publish_snapshot(seeded_store, lake)
    manifest = json.loads(Path(lake.address.manifest(1)).read_text())
    assert (manifest["format"], manifest["token"]["timeline"]) == (3, 1)
    assert not {"tokens", "source"} & manifest.keys()
    assert all("store" not in table for table in manifest["tables"].values())
    assert all("store" not in table for table in newest_epoch(lake.address).report()["tables"].values())


@pytest.mark.slow
def test_a_commit_is_repeated_on_the_epoch_that_another_store_has_published(berlin, paris, monkeypatch):
    publish_snapshot(*berlin)
    publish_snapshot(*paris)
    top_up(berlin[0])
    commit, others = Lake._commit, iter(range(3))

    def commit_after_another(self: Lake, *arguments: object) -> None:
        if self.store == "berlin" and next(others, None) is not None:
            top_up(paris[0])
            assert publish_changes(*paris).is_new
        commit(self, *arguments)

    monkeypatch.setattr(Lake, "_commit", commit_after_another)
    mine = publish_changes(*berlin).epoch
    assert mine.number == 6
    newest = newest_epoch(berlin[1].address)
    assert (newest.number, newest.tokens["berlin"]) == (6, mine.token)
    assert {str(path) for path in files_of(berlin[1].address.folder)} == referenced(berlin[1])
    for pair in (berlin, paris):
        assert verify_now(*pair).tail_rows == (0,) * 9


@pytest.mark.slow
def test_a_time_selects_an_epoch_without_later_snapshots(berlin, paris, address: LakeAddress):
    for pair in (berlin, paris, berlin):
        top_up(pair[0])
        publish_changes(*pair)
    third, second, first = read_epochs(address)
    assert third.taken_at > second.taken_at > first.taken_at
    assert epoch_as_of(address, second.taken_at).number == 2
    assert epoch_as_of(address, third.tokens["berlin"].taken_at).number == 3
    # The only token of paris is also in the third epoch.
    assert epoch_as_of(address, second.tokens["paris"].taken_at, "paris").number == 3
    assert epoch_as_of(address, second.tokens["paris"].taken_at, "berlin").number == 2
    with pytest.raises(UsageError, match="epoch 3 has the stores berlin, paris: choose one with --source"):
        _ = third.token


@pytest.mark.slow
def test_two_publishers_of_the_same_store_conflict(berlin, paris, monkeypatch):
    publish_snapshot(*berlin)
    publish_snapshot(*paris)
    top_up(berlin[0])
    commit, races = Lake._commit, iter([True])

    def commit_second(self: Lake, *arguments: object) -> None:
        if next(races, False):
            publish_changes(*berlin)
        commit(self, *arguments)

    monkeypatch.setattr(Lake, "_commit", commit_second)
    with pytest.raises(CommitConflict, match="cannot publish an epoch of berlin: another process published"):
        publish_changes(*berlin)
    assert newest_epoch(berlin[1].address).number == 3
    assert {str(path) for path in files_of(berlin[1].address.folder)} == referenced(berlin[1])


@pytest.mark.slow
def test_stores_that_publish_at_the_same_time_lose_no_epoch(berlin, paris, address: LakeAddress):
    failures: list[BaseException] = []

    def publish(store: Store, lake: Lake) -> None:
        try:
            publish_snapshot(store, lake)
            for rider in range(1, 13):
                top_up(store, rider)
                assert publish_changes(store, lake).is_new
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=publish, args=pair) for pair in (berlin, paris)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    epochs = read_epochs(address)
    assert [epoch.number for epoch in epochs] == list(range(26, 0, -1))
    assert sorted(epoch.moved for epoch in epochs) == ["berlin"] * 13 + ["paris"] * 13
    for pair in (berlin, paris):
        assert verify_now(*pair).tail_rows == (0,) * 9
    verify_files(address, 26)


@pytest.mark.slow
def test_maintenance_of_one_store_keeps_the_files_and_drafts_of_the_others(berlin, paris, address):
    publish_snapshot(*berlin)
    publish_snapshot(*paris)
    for rider in range(1, 6):
        for store, lake in (berlin, paris):
            top_up(store, rider)
            publish_changes(store, lake)
    before = newest_epoch(address)
    done = maintain(berlin[1], berlin[0], keep_epochs=2)
    assert done.epochs_expired == 12 - 4
    after = newest_epoch(address)
    assert (after.number, after.kind, after.moved) == (before.number + 1, "maintenance", "berlin")
    assert published_by(after, "paris") == published_by(before, "paris")
    assert after.tokens == before.tokens
    # The metadata of paris still lists expired snapshots. Maintenance of paris removes them.
    assert maintain(paris[1], paris[0], keep_epochs=2).epoch is not None
    assert maintain(paris[1], paris[0], keep_epochs=2).epoch is None
    assert maintain(berlin[1], berlin[0], keep_epochs=2).epoch is None
    assert {str(path) for path in files_of(address.folder)} == referenced(berlin[1])
    for epoch in read_epochs(address):
        verify_files(address, epoch.number)
    for pair in (berlin, paris):
        assert verify_now(*pair).equal


@pytest.mark.slow
def test_maintenance_of_one_store_keeps_a_draft_of_another_that_takes_long(
    berlin, paris, address: LakeAddress, monkeypatch: pytest.MonkeyPatch
):
    """The files of the draft are older than the grace period, which is zero in this test."""
    publish_snapshot(*berlin)

    def maintain_berlin(*_: object) -> None:
        maintain(berlin[1], berlin[0], grace=timedelta(0))

    monkeypatch.setattr("lakehouse.capture.publish.wait_until_flushed", maintain_berlin)
    assert publish_snapshot(*paris).number == 2
    assert verify_now(*paris).equal
    assert {str(path) for path in files_of(address.folder)} == referenced(berlin[1])


@pytest.mark.slow
def test_a_number_is_not_used_again_after_its_epoch_has_expired(berlin, paris, monkeypatch):
    """While berlin commits, paris publishes two epochs. The first has the number of berlin's epoch, and is
    expired."""
    publish_snapshot(*berlin)
    publish_snapshot(*paris)
    top_up(berlin[0])
    commit, races = Lake._commit, iter([True])

    def commit_after_two(self: Lake, *arguments: object) -> None:
        if self.store == "berlin" and next(races, False):
            before = paris[1].newest()
            first = paris[1].publish(before, [], previous=before)
            paris[1].publish(first, [], expired=[first.number], previous=first)
        commit(self, *arguments)

    monkeypatch.setattr(Lake, "_commit", commit_after_two)
    assert publish_changes(*berlin).epoch.number == 5
    assert [epoch.number for epoch in read_epochs(berlin[1].address)] == [5, 4, 2, 1]
    for pair in (berlin, paris):
        assert verify_now(*pair).tail_rows == (0,) * 9


IN_THE_COMMIT = ["insert", "move_pointers", "delete", "Lake.write_manifest"]


@pytest.mark.parametrize("step", [f"lakehouse.table.catalog.{name}" for name in IN_THE_COMMIT])
def test_a_kill_in_the_commit_of_one_store_does_not_affect_others(
    berlin, paris, address, step: str, monkeypatch
):
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", SEAL_ROWS)
    publish_snapshot(*berlin)
    publish_snapshot(*paris)
    committed = step.endswith("write_manifest")
    with syncing_process(berlin[0], address, at=step, name="berlin") as process:
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    assert newest_epoch(address).number == 2 + committed
    top_up(paris[0])
    assert publish_changes(*paris).epoch.number == 3 + committed
    assert publish_changes(*berlin).is_new == (not committed)
    for store, lake in (berlin, paris):
        maintain(lake, store)
        assert verify_now(store, lake).tail_rows == (0,) * 9
    assert {str(path) for path in files_of(address.folder)} == referenced(berlin[1])


@pytest.mark.slow
def test_each_store_has_its_own_selection(seeded_store, other_seeded_store, address: LakeAddress):
    berlin, paris = (Lake.create(address, name) for name in ("berlin", "paris"))
    publish_snapshot(
        seeded_store, berlin, selection=Selection(schemas=("public",)), tables=["ridelake.rides"]
    )
    publish_snapshot(other_seeded_store, paris)
    for store in (seeded_store, other_seeded_store):
        run(store, ORDERS)
    publish_changes(seeded_store, berlin)
    publish_changes(other_seeded_store, paris)
    newest = newest_epoch(address)
    assert set(newest.of("berlin").tables) == {"rides", "orders"}
    assert "orders" not in newest.of("paris").tables
    assert paris.selection() is None
    assert berlin.selection() == Selection(schemas=("public",), tables=("ridelake.rides",))
    run(seeded_store, "DROP TABLE public.orders")
    publish_changes(seeded_store, berlin)
    assert set(newest_epoch(address).of("berlin").tables) == {"rides"}


@pytest.mark.slow
def test_a_database_cannot_have_two_names_in_a_lake(berlin, address: LakeAddress):
    publish_snapshot(*berlin)
    twin = Lake.create(address, "munich")
    with pytest.raises(UsageError, match="the stores berlin and munich are the same database"):
        publish_snapshot(berlin[0], twin)
    assert newest_epoch(address).stores == ["berlin"]


def test_a_store_that_became_another_database_is_refused(berlin, paris, address: LakeAddress):
    publish_snapshot(*berlin)
    with pytest.raises(UsageError, match="this lake was taken from another database of the server"):
        publish_changes(paris[0], berlin[1])


@pytest.mark.parametrize("name", ["", "Berlin", "1st", "a-b", "a" * 33, "münchen", "a b", "_a", 'a"'])
def test_a_name_that_is_not_an_identifier_is_refused(name: str):
    from lakehouse.table.stores import check_store_names

    with pytest.raises(UsageError, match="cannot be the name of a store"):
        check_store_names([name])


def test_names_with_ambiguous_tables_are_refused(berlin, other_seeded_store, address: LakeAddress):
    publish_snapshot(*berlin)
    lake = Lake.create(address, "berlin_mitte")
    with pytest.raises(UsageError, match="the stores berlin and berlin_mitte could have tables of the same"):
        publish_snapshot(other_seeded_store, lake)


@pytest.mark.slow
def test_a_lake_of_one_store_and_one_of_several_are_not_mixed(
    berlin, other_seeded_store, lake: Lake, tmp_path
):
    assert berlin[1].address == lake.address
    publish_snapshot(*berlin)
    with pytest.raises(UsageError, match="the lake has the stores berlin: name each with --source"):
        publish_snapshot(other_seeded_store, lake)
    ordinary = Lake.create(LakeAddress.at(tmp_path / "other"))
    publish_snapshot(other_seeded_store, ordinary)
    with pytest.raises(UsageError, match="the lake has one store without a name: leave out --source"):
        publish_snapshot(other_seeded_store, replace(ordinary, store="paris"))


@pytest.mark.slow
def test_a_lake_that_becomes_one_of_several_during_a_draft_is_not_mixed(
    berlin, other_seeded_store, lake: Lake, monkeypatch
):
    """A publisher without a store name and a publisher with one both write epoch 1."""
    commit, races = Lake._commit, iter([True])

    def commit_second(self: Lake, *arguments: object) -> None:
        if next(races, False):
            publish_snapshot(other_seeded_store, lake)
        commit(self, *arguments)

    monkeypatch.setattr(Lake, "_commit", commit_second)
    with pytest.raises(UsageError, match="the lake has one store without a name"):
        publish_snapshot(*berlin)
    assert newest_epoch(lake.address).stores == []
    assert {str(path) for path in files_of(lake.address.folder)} == referenced(lake)


def test_the_catalog_server_lists_the_tables_and_tokens_of_all_stores(berlin, paris, address: LakeAddress):
    for store, lake in (berlin, paris):
        publish_snapshot(store, lake, tables=["ridelake.rides"])
        publish_changes(store, lake)
    epoch = newest_epoch(address)
    with served_catalog(address) as served:
        client = served.client("epoch-2")
        assert client.list_tables("ridelake") == [("ridelake", "berlin_rides"), ("ridelake", "paris_rides")]
        assert client.load_table("ridelake.paris_rides").scan().to_arrow().num_rows == 2_000
        properties = client.load_namespace_properties("ridelake")
    for name, token in epoch.tokens.items():
        assert properties[f"ridelake.token.{name}.snapshot"] == token.snapshot


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_publish_a_hundred_epochs_each(berlin, paris, address: LakeAddress, monkeypatch):
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", SEAL_ROWS)
    publish_snapshot(*berlin)
    publish_snapshot(*paris)
    with (
        syncing_process(berlin[0], address, name="berlin") as one,
        syncing_process(paris[0], address, name="paris") as two,
    ):
        while newest_epoch(address).number < 202 or fewest(address) < 100:
            assert (one.exitcode, two.exitcode) == (None, None)
            time.sleep(0.5)
    numbers = [epoch.number for epoch in read_epochs(address)]
    assert numbers == list(range(numbers[0], 0, -1))
    for store, lake in (berlin, paris):
        verify_now(store, lake).prove()
        publish_changes(store, lake, verify=True)
    for store, lake in (berlin, paris, berlin):  # each expires epochs whose files the other then deletes
        maintain(lake, store)
    assert {str(path) for path in files_of(address.folder)} == referenced(berlin[1])


def fewest(address: LakeAddress) -> int:
    """The smallest number of epochs that a store has published."""
    return min(Counter(epoch.moved for epoch in read_epochs(address)).values())


def test_commands_that_cannot_use_several_stores_say_so(berlin, address: LakeAddress, tmp_path: Path):
    publish_snapshot(*berlin)
    options = ["--home", str(tmp_path / "home"), "--lake", address.root]
    one = f"--source=berlin={berlin[0].conninfo}"
    for arguments, message in (
        (["live"], "`ridelake live` shows one store, and the lake"),
        (["verify", "1", one], "EPOCH checks files, and --source compares rows"),
    ):
        done = ridelake(*options, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message in done.stderr
    assert not (tmp_path / "home").exists()
