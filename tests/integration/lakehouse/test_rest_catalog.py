"""The catalog server shows each client the tables of one epoch, and is read-only."""

import json
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bare_database import bare_database, rows_of, run
from bucket import S3Lake
from catalog_server import ServedCatalog, epoch_of, served_catalog
from lake_files import files_of
from pyiceberg.catalog.rest import Capability
from pyiceberg.exceptions import (
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    RESTError,
    UnauthorizedError,
)
from terminal import refusal

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.rest_catalog import leases
from lakehouse.rest_catalog.app import BODY_BYTES_MAX
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import SkippedTable
from lakehouse.table.layout import STORE_TABLES
from lakehouse.table.published import newest_epoch, numbered_epoch, read_epochs
from lakehouse.table.storage import file_lock
from oltp.cluster.server import Cluster
from oltp.store import Store
from ridelake.settings import LakeAddress

TOKEN = "a-secret.token_of~the+server/="
DELETE_A_REQUEST = (
    "DELETE FROM requests WHERE ctid IN (SELECT ctid FROM requests WHERE outcome <> 'assigned' LIMIT 1)"
)


@pytest.fixture
def served(orders: Store, lake: Lake) -> Iterator[ServedCatalog]:
    """A server for epochs 1 to 3 of the table `orders`, with 1,000, 900 and 910 rows."""
    run(orders, "DELETE FROM orders WHERE id % 10 = 0")
    publish_changes(orders, lake)
    run(orders, "INSERT INTO orders SELECT n, 'new', 1 FROM generate_series(2001, 2010) AS n")
    publish_changes(orders, lake)
    with served_catalog(lake.address) as catalog:
        yield catalog


def rows_at(served: ServedCatalog, warehouse: str | None) -> int:
    table = served.client(warehouse).load_table("ridelake.orders")
    return table.scan().to_arrow().num_rows


# ── One prefix, one epoch ──────────────────────────────────────────────────────────────────────────────────


def test_a_warehouse_is_the_newest_epoch_or_an_epoch_or_a_time(served: ServedCatalog, lake: Lake):
    when = numbered_epoch(lake.address, 2).token.taken_at
    for warehouse, rows in {None: 910, "newest": 910, "epoch-1": 1_000, "2": 900, when: 900}.items():
        assert rows_at(served, warehouse) == rows, warehouse


def test_a_client_stays_at_its_epoch(served: ServedCatalog, orders: Store, lake: Lake):
    client = served.client()
    run(orders, "DELETE FROM orders")
    publish_changes(orders, lake)
    assert client.load_table("ridelake.orders").scan().to_arrow().num_rows == 910
    assert (epoch_of(client), epoch_of(served.client())) == (3, 4)


def test_the_tables_and_the_token_of_the_epoch_are_listed(served: ServedCatalog, lake: Lake):
    client = served.client("epoch-2")
    assert client.list_namespaces() == [("ridelake",)]
    assert client.list_namespaces("ridelake") == []
    assert client.list_tables("ridelake") == [("ridelake", "orders")]
    token = numbered_epoch(lake.address, 2).token
    properties = client.load_namespace_properties("ridelake")
    assert properties["ridelake.epoch"] == "2"
    assert properties["ridelake.token.snapshot"] == token.snapshot
    assert client.table_exists("ridelake.orders")
    assert client.namespace_exists("ridelake")
    assert not client.table_exists("ridelake.order")
    assert not client.namespace_exists("shop")
    assert served.client("epoch-2", **{"rest-page-size": "1"}).list_tables("ridelake") == [
        ("ridelake", "orders")
    ]


def test_the_server_returns_the_metadata_file(served: ServedCatalog, lake: Lake):
    location = numbered_epoch(lake.address, 2).tables["orders"].metadata
    status, found = served.ask("/v1/epoch-2/namespaces/ridelake/tables/orders?snapshots=all")
    assert (status, found["metadata-location"], found["config"]) == (200, location, {})
    assert found["metadata"] == json.loads(Path(location).read_text())


def test_nine_tables_have_the_rows_of_postgres_at_their_epoch_while_epochs_are_published(
    seeded_store: Store, lake: Lake
):
    expected, seen, stop = dict[int, dict[str, int]](), dict[int, dict[str, int]](), threading.Event()

    def publish() -> None:
        """Change rows and publish them. No other writer exists, so the epoch has these numbers of rows."""
        with seeded_store.connect() as connection:
            while not stop.is_set():
                connection.execute("SELECT top_up(1, 100)")
                connection.execute(DELETE_A_REQUEST)
                counts = {
                    name: connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
                    for name in STORE_TABLES
                }
                epoch = publish_changes(seeded_store, lake).epoch
                expected[epoch.number] = counts

    publish_snapshot(seeded_store, lake)
    publisher = threading.Thread(target=publish)
    with served_catalog(lake.address) as served:
        publisher.start()
        try:
            while len(seen) < 4:
                client = served.client()
                names = [name for _, name in client.list_tables("ridelake")]
                tables = {name: client.load_table(("ridelake", name)) for name in names}
                seen[epoch_of(client)] = {
                    name: table.scan().to_arrow().num_rows for name, table in tables.items()
                }
        finally:
            stop.set()
            publisher.join()
    assert len(STORE_TABLES) == 9
    compared = seen.keys() & expected.keys()  # all except epoch 1
    assert len(compared) >= 3
    for number in compared:
        assert seen[number] == expected[number], number


@pytest.mark.slow
def test_a_thousand_reads_of_two_tables_under_two_hundred_commits_are_of_one_epoch(
    cluster: Cluster, lake: Lake
):
    """Each commit adds the same number to both tables. Meanwhile old epochs are expired."""
    faults, epochs = list[tuple](), Counter[int]()

    def read(served: ServedCatalog, times: int) -> None:
        for _ in range(times):
            client = served.client()
            found = [
                max(client.load_table(f"ridelake.{name}").scan().to_arrow()["n"].to_pylist())
                for name in ("left", "right")
            ]
            epochs[epoch_of(client)] += 1
            if found[0] != found[1]:
                faults.append((epoch_of(client), found))

    with bare_database(cluster) as store:
        for name in ("left", "right"):
            run(store, f'CREATE TABLE "{name}" (n bigint PRIMARY KEY)', f'INSERT INTO "{name}" VALUES (0)')
            track(store, f'public."{name}"')
        publish_changes(store, lake, tables=['public."left"', 'public."right"'])
        with served_catalog(lake.address) as served:
            readers = [threading.Thread(target=read, args=(served, 500)) for _ in range(2)]
            for reader in readers:
                reader.start()
            try:
                commits = 0
                while commits < 200 or any(reader.is_alive() for reader in readers):
                    commits += 1
                    run(store, "BEGIN", f'INSERT INTO "left" VALUES ({commits})',
                        f'INSERT INTO "right" VALUES ({commits})', "COMMIT")  # fmt: skip
                    publish_changes(store, lake)
                    if commits % 20 == 0:
                        maintain(lake, store, keep_epochs=2)
            finally:
                for reader in readers:
                    reader.join()
    assert faults == []
    assert sum(epochs.values()) == 1_000
    assert len(epochs) > 50, "the reads were not concurrent with the commits, so the test proves nothing"


# ── Epochs in use and expired epochs ───────────────────────────────────────────────────────────────────────


def test_an_epoch_that_a_client_uses_is_not_expired(served: ServedCatalog, orders: Store, lake: Lake):
    client = served.client("epoch-1")
    assert maintain(lake, orders, keep_epochs=1).epochs_expired == 1
    assert client.load_table("ridelake.orders").scan().to_arrow().num_rows == 1_000
    with pytest.raises(RESTError, match="epoch 2 has been expired, the newest is 4: connect again"):
        served.client("epoch-2")


def test_an_epoch_that_is_being_expired_delays_no_request(served: ServedCatalog, lake: Lake):
    with file_lock(lake.address.manifest(1)):  # `maintain` holds this lock until its commit
        message = served.refused("/v1/config?warehouse=epoch-1", 503)
        assert message.startswith("epoch 1 is being expired: connect again")
    assert rows_at(served, "epoch-1") == 1_000


def test_a_lake_that_is_briefly_unreadable_does_not_end_the_server(served: ServedCatalog, lake: Lake):
    client, epochs = served.client("epoch-1"), lake.address.folder / "epochs"
    away = epochs.rename(epochs.with_name("away"))
    epochs.touch()
    served.leases.renew()
    epochs.unlink()
    away.rename(epochs)
    assert client.load_table("ridelake.orders").scan().to_arrow().num_rows == 1_000


def test_an_epoch_is_released_when_its_lease_ends(
    served: ServedCatalog, orders: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    client = served.client("epoch-1")
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)
    served.leases.renew()
    assert maintain(lake, orders, keep_epochs=1).epochs_expired == 2
    with pytest.raises(NoSuchTableError, match="epoch 1 has been expired"):
        client.load_table("ridelake.orders")
    with pytest.raises(NoSuchNamespaceError, match="epoch 1 has been expired"):
        client.list_tables("ridelake")


def test_a_newest_epoch_that_expires_during_the_request_is_replaced_by_a_newer_one(
    served: ServedCatalog, orders: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    found = [numbered_epoch(lake.address, 1)]
    maintain(lake, orders, keep_epochs=1)
    monkeypatch.setattr(leases, "newest_epoch", lambda at: found.pop() if found else newest_epoch(at))
    assert epoch_of(served.client()) == 4
    assert not found


def test_an_epoch_that_is_verified_later_stays_locked(served: ServedCatalog, orders: Store, lake: Lake):
    """The manifest is replaced by a new file, which must be locked, too."""
    client = served.client("epoch-1")
    lake.record_verified(numbered_epoch(lake.address, 1))
    served.leases.renew()
    assert maintain(lake, orders, keep_epochs=1).epochs_expired == 1
    assert client.load_table("ridelake.orders").scan().to_arrow().num_rows == 1_000


def test_the_number_of_locked_epochs_is_limited(
    served: ServedCatalog, orders: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leases, "LEASES_MAX", 2)
    for number in (1, 2, 1, 3):
        served.client(f"epoch-{number}")
    assert maintain(lake, orders, keep_epochs=1).epochs_expired == 1
    assert [epoch.number for epoch in read_epochs(lake.address)] == [4, 3, 1]


def test_the_catalog_is_read_once_for_an_epoch(served: ServedCatalog, monkeypatch: pytest.MonkeyPatch):
    client = served.client("epoch-2")
    monkeypatch.setattr(leases, "read_epochs", None)
    assert client.load_table("ridelake.orders").scan().to_arrow().num_rows == 900


# ── Requests that are refused ──────────────────────────────────────────────────────────────────────────────


def test_an_address_that_does_not_exist_is_an_error_in_the_form_of_the_specification(served: ServedCatalog):
    tables = "/v1/epoch-1/namespaces/ridelake/tables"
    for path, message in {
        "/": "Not Found",
        "/v1": "Not Found",
        "/v1/config/": "Not Found",
        "/v1/epoch-1": "Not Found",
        "/v1/epoch-1/../..": "Not Found",
        f"{tables}/../../../../../etc/passwd": "has no table",
        f"{tables}/%2e%2e%2f%2e%2e%2fcatalog.sqlite": "has no table",
        f"{tables}/orders%2f..%2forders": "has no table",
        f"{tables}/orders%00": "has no table",
        f"{tables}/orders%0A": "has no table",
        f"{tables}/two%0Alines": "has no table",
        f"{tables}/order": "did you mean orders?",
        "/v1/epoch-1/namespaces/shop": "there is no namespace shop: the only one is ridelake",
        "/v1/epoch-1/namespaces/ridelake%1Fx/tables": "there is no namespace",
        "/v1/epoch-1/namespaces?parent=shop": "there is no namespace shop",
        "/v1/newest/namespaces": "newest is a warehouse and not a prefix",
        "/v1/epoch-4/namespaces": "there is no epoch 4, the newest is 3",
        "/v1/epoch-999999999/namespaces": "there is no epoch 999999999",
        "/v1/config?warehouse=epoch-4": "there is no epoch 4",
        "/v1/config?warehouse=1999-01-01": "no epoch was published at or before 1999-01-01",
        "/v1/config?warehouse=lake": "the warehouse must be newest, epoch-42, an epoch number or a time",
    }.items():
        assert message in served.refused(path, 404), path
    for number in (
        "0",
        "-1",
        "01",
        "+1",
        "1.0",
        "1e0",
        "9999999999",
        "1%20",
        "1%0A",
        "%D9%A1",
        "%EF%BC%91",
        "",
    ):
        assert "there is no prefix" in served.refused(f"/v1/epoch-{number}/namespaces", 404), number
        assert served.ask(f"/v1/config?warehouse=epoch-{number}")[0] == 404, number


def test_nothing_can_be_changed(served: ServedCatalog, lake: Lake):
    before = {path: path.read_bytes() for path in files_of(lake.address.folder)}
    pointers = newest_epoch(lake.address)
    tables = "/v1/epoch-3/namespaces/ridelake/tables"
    for method, path in (
        ("POST", tables), ("POST", f"{tables}/orders"), ("DELETE", f"{tables}/orders"), ("PUT", tables),
        ("POST", "/v1/epoch-3/namespaces"), ("DELETE", "/v1/epoch-3/namespaces/ridelake"), ("PATCH", "/"),
        ("POST", "/v1/epoch-3/transactions/commit"), ("POST", "/v1/epoch-3/tables/rename"),
        ("POST", "/v1/oauth/tokens"), ("POST", "/v1/config"),
    ):  # fmt: skip
        assert "this catalog is read-only" in served.refused(path, 403, method, body=b"{}")
    for method in ("OPTIONS", "TRACE", "PROPFIND"):
        assert "use GET or HEAD" in served.refused(tables, 405, method)
    client = served.client()
    client._supported_endpoints |= {Capability.V1_DELETE_TABLE}  # the server does not announce it
    with pytest.raises(ForbiddenError, match="read-only"):
        client.drop_table("ridelake.orders")
    assert {path: path.read_bytes() for path in files_of(lake.address.folder)} == before
    assert newest_epoch(lake.address) == pointers


def test_metrics_of_a_scan_are_accepted_and_a_large_body_is_not(served: ServedCatalog):
    metrics = "/v1/epoch-3/namespaces/ridelake/tables/orders/metrics"
    assert served.ask(metrics, "POST", b'{"report-type": "scan-report"}') == (204, {})
    assert "too large" in served.refused(metrics, 413, "POST", body=b" " * (BODY_BYTES_MAX + 1))
    chunks = iter([b"{", b"}"])
    assert "Content-Length" in served.refused(metrics, 413, "POST", body=chunks)
    assert served.ask("/v1/config")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_request_to_another_host_is_refused_without_a_token(served: ServedCatalog, host: str):
    port = served.url.rsplit(":", 1)[1]
    assert "unknown host" in served.refused("/v1/config", 400, Host=host.format(port=port))
    assert served.ask("/v1/config", Host=f"LocalHost:{port}")[0] == 200


def test_with_a_token_only_its_bearer_is_answered(orders: Store, lake: Lake):
    with served_catalog(lake.address, TOKEN) as served:
        for header in ({}, {"Authorization": TOKEN}, {"Authorization": "Bearer"},
                       {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Bearer {TOKEN[:-1]}"},
                       {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer \xfc"}):  # fmt: skip
            message = served.refused("/v1/config", 401, **header)
            assert "the token is missing or wrong" in message
            assert TOKEN not in message
        assert served.ask("/v1/config", Authorization=f"bearer {TOKEN}", Host="other.example")[0] == 200
        assert served.client(token=TOKEN).list_tables("ridelake") == [("ridelake", "orders")]
        with pytest.raises(UnauthorizedError):
            served.client(token="another")


def test_a_table_that_was_left_out_is_named_with_its_reason(served: ServedCatalog, lake: Lake):
    left_out = {"parcels": SkippedTable("public.parcels", "public.parcels has no primary key")}
    epoch = replace(served.leases.numbered(3), left_out=left_out)
    served.leases._leases[3].epoch = epoch
    message = served.refused("/v1/epoch-3/namespaces/ridelake/tables/parcels", 404)
    assert message == "parcels is not in epoch 3: public.parcels has no primary key"


# ── Faults of the lake ─────────────────────────────────────────────────────────────────────────────────────


def test_a_lake_without_an_epoch_is_served_as_soon_as_it_has_one(bare: Store, lake: Lake):
    with served_catalog(lake.address) as served:
        assert "no epoch yet" in served.refused("/v1/config", 404)
        assert "no epoch yet" in served.refused("/v1/epoch-1/namespaces", 404)
        run(bare, "CREATE TABLE public.orders (id bigint PRIMARY KEY)")
        track(bare, "orders")
        publish_changes(bare, lake, tables=["orders"])
        assert rows_at(served, None) == 0


def test_a_moved_lake_is_refused_in_one_line(orders: Store, lake: Lake, tmp_path: Path):
    moved = tmp_path / "moved"
    shutil.copytree(lake.address.folder, moved)
    line = refusal("catalog", "serve", "--port", "0", "--lake", moved)
    assert f"the lake was moved from {lake.address.folder} to {moved}" in line
    with served_catalog(LakeAddress.at(moved)) as served:
        assert "was moved" in served.refused("/v1/epoch-1/namespaces/ridelake/tables/orders", 500)


def test_a_missing_metadata_file_is_an_error_in_one_line(served: ServedCatalog, lake: Lake):
    location = numbered_epoch(lake.address, 2).tables["orders"].metadata
    Path(location).unlink()
    message = served.refused("/v1/epoch-2/namespaces/ridelake/tables/orders", 500)
    assert message.startswith(f"cannot read {location} (No such file or directory): run `ridelake verify")


def test_a_catalog_database_that_does_not_respond_is_status_503(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    address = LakeAddress.at(tmp_path / "lake", f"postgresql://user@127.0.0.1:{port}/catalog")
    with served_catalog(address) as served:
        assert "cannot reach the lake's catalog" in served.refused("/v1/config", 503)


# ── A bucket ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_lake_in_a_bucket_is_read_with_the_credentials_of_the_client(s3_lake: S3Lake):
    lake = s3_lake.lake()
    publish_changes(s3_lake.store, lake)
    s3_lake.change()
    publish_changes(s3_lake.store, lake)
    rows = rows_of(s3_lake.store, "SELECT rider_id, username FROM riders ORDER BY 1")
    with served_catalog(s3_lake.address) as served:
        client = served.client()
        found = client.load_table("ridelake.riders").scan().to_arrow().sort_by("rider_id")
        assert list(zip(*found.select(["rider_id", "username"]).to_pydict().values(), strict=True)) == rows
        assert client.properties["s3.endpoint"] == s3_lake.address.s3_endpoint
        for path in ("/v1/config", "/v1/epoch-2/namespaces/ridelake/tables/riders"):
            text = json.dumps(served.ask(path))
            assert "testing" not in text
            assert "secret" not in text
