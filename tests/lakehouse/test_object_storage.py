"""A lake in a bucket of an S3 server keeps the promises of a lake in a folder."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog

import lakehouse.take
from lakehouse.catalog import Lake
from lakehouse.commit import catalog_url
from lakehouse.draft import Draft
from lakehouse.engines import open_engine
from lakehouse.epoch import Epoch
from lakehouse.fresh import fresh_epoch
from lakehouse.maintain import maintain
from lakehouse.pointers import LostRace
from lakehouse.published import epoch_as_of, newest_epoch, numbered_epoch, read_epochs
from lakehouse.storage import Storage
from lakehouse.sums import sums_of_newest_epoch
from lakehouse.take import take_changes, take_snapshot
from lakehouse.tracking import track
from lakehouse.verify import verify_files, verify_now
from oltp.store import Store
from ridelake.errors import CannotConnect, NotReady, ProofFailed, QueryRejected, RidelakeError, UsageError
from ridelake.settings import LakeAddress, Settings

server_module = pytest.importorskip("moto.server", reason="moto, an S3 server for tests, is not installed")
boto3 = pytest.importorskip("boto3", reason="boto3, which moto brings, is not installed")

FILE_ENGINES = ("duckdb", "polars")
KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@dataclass(frozen=True)
class Far:
    """A store of the test's own and a lake in a bucket of the test's own, still empty."""

    store: Store
    settings: Settings
    bucket: str

    @property
    def address(self) -> LakeAddress:
        return self.settings.lake

    @property
    def storage(self) -> Storage:
        return Storage.of(self.address)

    def lake(self) -> Lake:
        return Lake.create(self.address)

    def objects(self) -> set[str]:
        return {file.location for file in self.storage.files_under()}

    def change(self) -> None:
        """Rows of each kind: changed, new, gone."""
        with self.store.connect() as connection:
            connection.execute("UPDATE riders SET username = 'changed ' || rider_id WHERE rider_id % 50 = 1")
            connection.execute("SELECT top_up(rider_id, 1234) FROM riders WHERE rider_id % 7 = 0")
            connection.execute(
                "DELETE FROM requests WHERE outcome <> 'assigned' AND ctid IN (SELECT ctid FROM requests"
                " WHERE outcome <> 'assigned' LIMIT 5)"
            )

    def ridelake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ridelake", *arguments, "--home", str(self.settings.home)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=self.environment,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "RIDELAKE_LAKE": self.address.root,
            "RIDELAKE_S3_ENDPOINT": self.address.s3_endpoint or "",
            "RIDELAKE_DSN": self.store.conninfo,
        }


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Of an S3 server, in memory, on a free port of this machine; it ends with the module."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
            patch.delenv(name, raising=False)
        server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.stop()


@pytest.fixture
def far(seeded_store: Store, endpoint: str, tmp_path: Path) -> Far:
    bucket = f"bucket-{os.getpid()}-{time.monotonic_ns()}"
    urlopen(Request(f"{endpoint}/{bucket}", method="PUT")).close()
    lake = LakeAddress.at(f"s3://{bucket}/some/pre.fix=1", s3_endpoint=endpoint, home=tmp_path)
    return Far(seeded_store, Settings(home=tmp_path, lake=lake, dsn=seeded_store.conninfo), bucket)


def answers_agree(settings: Settings, epoch: Epoch) -> None:
    """Each engine of files says of each table, column by column, what Postgres says."""
    for table in epoch.tables:
        query = f"SELECT * FROM {table}"
        with open_engine("postgres", settings, None) as engine:
            expected = engine.sql(query)
        wanted = sorted(map(str, expected.to_pylist()))
        for name in FILE_ENGINES:
            with open_engine(name, settings, epoch) as engine:
                found = engine.sql(query).select(expected.column_names)
                assert sorted(map(str, found.to_pylist())) == wanted, (name, table)


def only(table: pa.Table):
    assert table.shape == (1, 1)
    return table[0][0].as_py()


# ── What a lake in a folder promises ─────────────────────────────────────────────────────────────


def test_a_snapshot_is_equal_to_postgres_on_every_engine(far: Far):
    epoch = take_snapshot(far.store, far.lake(), verify=True)
    assert epoch.verified
    assert newest_epoch(far.address) == epoch
    assert all(file.location.startswith(f"{far.address.root}/") for file in epoch.files)
    answers_agree(far.settings, epoch)
    lecture = "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"
    said = []
    for name in ("postgres", *FILE_ENGINES):
        with open_engine(name, far.settings, epoch) as engine:
            said.append(float(only(engine.sql(lecture))))
    assert said == pytest.approx([said[0]] * 3, abs=1e-9)


def test_an_epoch_of_changes_is_equal_to_postgres_and_the_one_before_stays(far: Far):
    lake = far.lake()
    first = take_snapshot(far.store, lake)
    far.change()
    taken = take_changes(far.store, lake, verify=True)
    assert taken.is_new
    assert taken.epoch.kind == "changes"
    assert 0 < taken.epoch.changed < first.rows / 10
    answers_agree(far.settings, taken.epoch)
    assert not take_changes(far.store, lake).is_new
    then, now = (
        {name: counted(far.settings, epoch, name) for name in FILE_ENGINES}
        for epoch in (epoch_as_of(far.address, "1"), epoch_as_of(far.address, taken.epoch.token.taken_at))
    )
    assert set(then.values()) == {0}
    assert len(set(now.values())) == 1
    assert set(now.values()) != {0}


def counted(settings: Settings, epoch: Epoch, engine_name: str) -> int:
    with open_engine(engine_name, settings, epoch) as engine:
        return int(only(engine.sql("SELECT count(*) FROM riders WHERE username LIKE 'changed %'")))


def test_it_is_proved_at_any_time_and_a_damaged_file_is_found(far: Far):
    lake = far.lake()
    epoch = take_snapshot(far.store, lake)
    far.change()
    verified = verify_now(far.store, lake)
    verified.prove()
    assert sum(verified.tail_rows) > 0
    assert verify_files(far.address, 1) == len(epoch.files)
    sums = sums_of_newest_epoch(far.store, far.address)
    assert sums is not None
    assert sums.ledger_rows == epoch.tables["ledger"].rows
    victim = epoch.tables["riders"].files[0].location
    with far.storage.open(victim) as file:
        rows = pq.ParquetFile(file).read()
    with far.storage.create(victim) as file:
        pq.write_table(rows.slice(0, rows.num_rows - 1), file)
    with pytest.raises(ProofFailed, match="is not as it was written"):
        verify_files(far.address, 1)
    report = verify_now(far.store, lake)
    assert [one.table for one in report.comparisons if not one.equal] == ["riders"]
    far.storage.delete([victim])
    with pytest.raises(ProofFailed, match="is not there"):
        verify_files(far.address, 1)
    for name in FILE_ENGINES:
        with pytest.raises(RidelakeError, match="is not there any more"):
            with open_engine(name, far.settings, epoch) as engine:
                engine.sql("SELECT count(*) FROM riders WHERE username = 'x'")


@pytest.mark.slow
def test_a_fresh_answer_is_of_now_out_of_files_here_and_there(far: Far):
    newest = take_snapshot(far.store, far.lake())
    before = far.objects()
    far.change()
    with fresh_epoch(far.settings, newest) as fresh:
        locations = [file.location for table in fresh.tables.values() for file in table.files]
        assert any(location.startswith("s3://") for location in locations)
        assert any(location.startswith("/") for location in locations)
        answers_agree(far.settings, fresh)
    assert far.objects() == before


def test_a_table_of_both_kinds_of_files_is_read_whole(far: Far):
    """A sealed file in the bucket, the open one beside it in a folder."""
    with far.store.connect() as connection:
        connection.execute("CREATE TABLE many (id bigint PRIMARY KEY, word text)")
        connection.execute("INSERT INTO many SELECT n, 'old' FROM generate_series(1, 50000) AS n")
    track(far.store, "ridelake.many")
    newest = take_snapshot(far.store, far.lake(), tables=["ridelake.many"])
    with far.store.connect() as connection:
        connection.execute("INSERT INTO many SELECT n, 'new' FROM generate_series(50001, 50010) AS n")
    with fresh_epoch(far.settings, newest) as fresh:
        kinds = {location.startswith("s3://") for location in fresh.tables["many"].locations}
        assert kinds == {True, False}
        for name in FILE_ENGINES:
            with open_engine(name, far.settings, fresh) as engine:
                answer = engine.sql("SELECT word, count(*) AS n, sum(id) AS s FROM many GROUP BY word")
                assert sorted((row["word"], int(row["n"]), int(row["s"])) for row in answer.to_pylist()) == [
                    ("new", 10, 500055),
                    ("old", 50000, 1250025000),
                ]


def test_any_iceberg_reader_opens_the_tables_without_us(far: Far, monkeypatch):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # its other planner is a package more
    epoch = take_snapshot(far.store, far.lake())
    properties = {"s3.endpoint": far.address.s3_endpoint, "s3.region": "us-east-1"}
    uri = catalog_url(far.address, 30).render_as_string(hide_password=False)
    catalog = SqlCatalog("ridelake", uri=uri, warehouse="s3://elsewhere", **properties)
    try:
        for name, state in epoch.tables.items():
            table = catalog.load_table(("ridelake", name))
            assert table.scan().to_arrow().num_rows == state.rows
            assert pl.scan_iceberg(table).select(pl.len()).collect().item() == state.rows
        alone = pl.scan_iceberg(
            epoch.tables["rides"].metadata, storage_options=properties, reader_override="pyiceberg"
        )
        assert alone.select(pl.len()).collect().item() == 2000
    finally:
        catalog.engine.dispose()
    with far.storage.open(far.address.manifest(1)) as file:
        manifest = json.loads(file.read())
    assert manifest["epoch"] == 1
    assert all(
        far.storage.exists(far.address.join(file["location"]))
        for table in manifest["tables"].values()
        for file in table["files"]
    )


@pytest.mark.slow
def test_maintenance_compacts_expires_and_sweeps_what_is_old_enough(far: Far):
    lake = far.lake()
    with far.store.connect() as connection:
        connection.execute("CREATE TABLE many (id bigint PRIMARY KEY, word text)")
    track(far.store, "ridelake.many")
    for turn in range(5):
        with far.store.connect() as connection:
            connection.execute(
                "INSERT INTO many SELECT n, 'x' FROM generate_series(%s::bigint, %s::bigint) AS n",
                (turn * 25_000 + 1, (turn + 1) * 25_000),
            )
        take_changes(far.store, lake, tables=["ridelake.many"] if turn == 0 else [])
    orphan = far.address.join("rides", "data", "00009-deaddead-0123abcd.parquet")
    far.storage.write_whole(orphan, b"left by a crash")
    young = maintain(lake, far.store, keep_epochs=2)
    assert young.files_after < young.files_before
    assert (young.epochs_expired, young.files_removed) == (0, 0)
    assert far.storage.exists(orphan)
    time.sleep(1.1)  # a bucket keeps whole seconds
    old = maintain(lake, far.store, keep_epochs=1, grace=timedelta(0))
    assert old.epochs_expired == 4  # the newest state is in two, its own and that of the maintenance
    assert old.files_removed > 5
    assert not far.storage.exists(orphan)
    newest = newest_epoch(far.address)
    verify_now(far.store, lake).prove()
    answers_agree(far.settings, newest)
    for epoch in read_epochs(far.address):
        assert verify_files(far.address, epoch.number) == len(epoch.files)
        assert far.storage.exists(far.address.manifest(epoch.number))
    with pytest.raises(UsageError, match="there is no epoch 1"):
        numbered_epoch(far.address, 1)


def test_a_draft_that_was_swept_while_it_was_written_is_not_published(far: Far, monkeypatch):
    lake = far.lake()
    first = take_snapshot(far.store, lake)
    far.change()
    monkeypatch.setattr("lakehouse.draft.LOOK_AGAIN_SECONDS", 0.0)

    publish = Draft.publish

    def publish_late(*args) -> Epoch:
        time.sleep(1.1)
        assert maintain(lake, far.store, grace=timedelta(0)).files_removed > 0
        return publish(*args)

    with monkeypatch.context() as slow:
        slow.setattr(Draft, "publish", publish_late)
        with pytest.raises(LostRace, match="removed its files"):
            take_changes(far.store, lake)
    assert newest_epoch(far.address).token == first.token
    assert take_changes(far.store, lake, verify=True).epoch.verified


# ── One or the other, never half ─────────────────────────────────────────────────────────────────

KILLED = """
import os, sys
import lakehouse.catalog, lakehouse.draft, lakehouse.take
from lakehouse.catalog import Lake
from oltp.store import Store
from pathlib import Path
from ridelake.settings import LakeAddress
def die(*_): os.kill(os.getpid(), 9)
setattr(sys.modules[sys.argv[5]], sys.argv[6], die)
address = LakeAddress.at(sys.argv[2], s3_endpoint=sys.argv[3], home=Path(sys.argv[4]))
lakehouse.take.take_changes(Store(sys.argv[1], 180000), Lake.create(address))
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["lakehouse.take wait_until_flushed", "lakehouse.catalog move"])
def test_a_kill_before_the_commit_leaves_the_old_epoch(far: Far, step: str):
    lake = far.lake()
    first = take_snapshot(far.store, lake)
    far.change()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, far.store.conninfo, far.address.root, far.address.s3_endpoint or "",
         str(far.settings.home), *step.split()],
        check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert newest_epoch(far.address) == first
    assert take_changes(far.store, lake, verify=True).epoch.number == 2
    time.sleep(1.1)
    assert maintain(lake, far.store, grace=timedelta(0)).files_removed > 0
    assert verify_files(far.address, 2) == len(numbered_epoch(far.address, 2).files)


@pytest.mark.slow
@pytest.mark.parametrize("failure", [RidelakeError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize(
    "step",
    [
        "lakehouse.take.write_changes",
        "lakehouse.take.wait_until_flushed",
        "lakehouse.commit.parquet_file_to_data_file",
        "lakehouse.draft.Draft.publish",
        "lakehouse.catalog.move",
    ],
)
def test_what_fails_takes_its_objects_along(far: Far, monkeypatch, step: str, failure: type[BaseException]):
    lake = far.lake()
    take_snapshot(far.store, lake)
    before = far.objects()
    far.change()
    with monkeypatch.context() as patch:
        owner, name = step.rsplit(".", 1)
        if step.endswith("write_changes"):
            original = lakehouse.take.write_changes

            def fails(*arguments, **more):
                original(*arguments, **more)
                raise failure("here")
        else:

            def fails(*arguments, **more):
                raise failure("here")

        patch.setattr(f"{owner}.{name}", fails)
        with pytest.raises(failure):
            take_changes(far.store, lake)
    assert far.objects() == before
    assert newest_epoch(far.address).number == 1


@pytest.mark.slow
def test_a_sync_that_is_interrupted_leaves_whole_epochs(far: Far):
    take_snapshot(far.store, far.lake())
    running = subprocess.Popen(
        [sys.executable, "-m", "ridelake", "sync", "--every", "0.05", "--home", str(far.settings.home)],
        env=far.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    try:
        while newest_epoch(far.address).number < 3 and time.monotonic() < until:
            far.change()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert (running.returncode, said.splitlines()[-1]) == (130, b"ridelake: interrupted")
    known = {file.location for epoch in read_epochs(far.address) for file in epoch.files}
    there = {location for location in far.objects() if "/data/" in location}
    assert there == known
    assert newest_epoch(far.address).number >= 3
    verify_now(far.store, far.lake()).prove()


@pytest.mark.slow
def test_of_two_syncs_at_once_one_wins_each_time_and_nothing_is_mixed(far: Far):
    take_snapshot(far.store, far.lake())
    won: list[int] = []
    lost: list[str] = []

    def run() -> None:
        lake = far.lake()
        for _ in range(3):
            far.change()
            try:
                taken = take_changes(far.store, lake)
                won.extend([taken.epoch.number] if taken.is_new else [])
            except LostRace as error:
                lost.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == len(set(won))
    assert [epoch.number for epoch in read_epochs(far.address)] == sorted([1, *won], reverse=True)
    for epoch in read_epochs(far.address):
        assert verify_files(far.address, epoch.number) == len(epoch.files)
    verify_now(far.store, far.lake()).prove()


def test_a_second_catalog_over_the_same_bucket_is_refused(far: Far, tmp_path: Path):
    """It would take the epochs of the first one for orphans."""
    take_snapshot(far.store, far.lake())
    other = replace(far.address, catalog_file=tmp_path / "another.sqlite")
    with pytest.raises(UsageError, match=r"has epochs that the catalog .* does not know"):
        Lake.create(other)
    assert far.lake().newest() is not None


# ── Nothing else is read, nothing is written ─────────────────────────────────────────────────────

OUTSIDE = [
    "SELECT * FROM read_parquet('{other}')",
    "SELECT * FROM '{other}'",
    "SELECT * FROM read_text('{other}')",
    "SELECT * FROM read_parquet('s3://{bucket}/**')",
    "SELECT * FROM glob('s3://{bucket}/**')",
    "SELECT * FROM read_parquet('{pinned}/../{name}')",
    "SELECT * FROM read_parquet('{endpoint}/{bucket}/{name}')",
    "SELECT * FROM read_csv('{other}')",
    "SELECT * FROM scan_parquet('{other}')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "COPY (SELECT 1 AS one) TO '{pinned}' (USE_TMP_FILE false)",
    "COPY (SELECT 1 AS one) TO '{out}'",
    "COPY (SELECT 1 AS one) TO 's3://{bucket}/out.parquet'",
    "SET allowed_paths = ['{other}']",
    "CREATE TABLE t AS SELECT 1",
]


def test_no_other_object_is_read_and_none_is_written(far: Far, tmp_path: Path):
    epoch = take_snapshot(far.store, far.lake())
    other = far.address.join("secret.parquet")
    pinned = epoch.tables["cities"].locations[0]
    with far.storage.create(other) as stream:
        pq.write_table(pa.table({"secret": [1]}), stream)
    before = {location: far.storage.bytes_and_sha256(location) for location in far.objects()}
    words = {
        "other": other, "bucket": far.bucket, "name": "secret.parquet", "pinned": pinned,
        "endpoint": far.address.s3_endpoint, "out": tmp_path / "out",
    }  # fmt: skip
    for name in FILE_ENGINES:
        with open_engine(name, far.settings, epoch) as engine:
            for query in OUTSIDE:
                with pytest.raises(QueryRejected):
                    engine.sql(query.format(**words))
            assert only(engine.sql("SELECT count(*) FROM rides WHERE fare_cents > 1")) == 2000
    assert {location: far.storage.bytes_and_sha256(location) for location in far.objects()} == before
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_duckdb_reads_one_file_with_many_threads_alike(far: Far):
    """Its handle has one place in the file; ours has one for each thread."""
    with far.store.connect() as connection:
        connection.execute("CREATE TABLE many (id bigint PRIMARY KEY, word text)")
        connection.execute("INSERT INTO many SELECT n, md5(n::text) FROM generate_series(1, 400000) AS n")
    track(far.store, "ridelake.many")
    epoch = take_snapshot(far.store, far.lake(), tables=["ridelake.many"])
    query = "SELECT count(*) AS n, sum(id) AS s, count(DISTINCT word) AS w FROM many"
    with open_engine("duckdb", far.settings, epoch) as engine:
        for _ in range(10):
            (row,) = engine.sql(query).to_pylist()
            assert [int(value) for value in row.values()] == [400_000, 80_000_200_000, 400_000]


# ── What can be wrong, in a sentence ─────────────────────────────────────────────────────────────


def test_a_bucket_that_is_not_there(far: Far):
    address = LakeAddress.at(
        "s3://no-such-bucket/x", s3_endpoint=far.address.s3_endpoint, home=far.settings.home
    )
    with pytest.raises(UsageError, match="there is no bucket no-such-bucket at http"):
        Lake.create(address)


@pytest.mark.slow
@pytest.mark.parametrize(
    "answers", ["by refusing", pytest.param("never", marks=pytest.mark.slow)]
)  # who waits for an answer, waits for a while
def test_a_server_that_does_not_answer_is_told_in_bounded_time(far: Far, answers: str):
    epoch = take_snapshot(far.store, far.lake())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if answers == "never":
            silent.listen()
        address = replace(far.address, s3_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        settings = replace(far.settings, lake=address)
        began = time.monotonic()
        with pytest.raises(CannotConnect, match=r"http://127.0.0.1:[0-9]+ does not answer"):
            Lake.create(address)
        for name in FILE_ENGINES:
            with pytest.raises(CannotConnect, match="does not answer"):
                with open_engine(name, settings, epoch) as engine:
                    engine.sql("SELECT count(*) FROM riders WHERE username = 'x'")
        assert time.monotonic() - began < (150 if answers == "never" else 20)


@pytest.fixture
def guarded(endpoint: str) -> Iterator[None]:
    """While it is open, the server looks at who asks."""

    def look_after(requests: float) -> None:
        url, plain = f"{endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urlopen(Request(url, str(requests).encode(), plain, method="POST")).close()

    look_after(0)
    yield
    look_after(float("inf"))


@pytest.mark.slow
def test_credentials_that_are_none(far: Far, request):
    take_snapshot(far.store, far.lake())
    request.getfixturevalue("guarded")
    for arguments in (
        ("snapshot",),
        ("sync", "--once"),
        ("verify",),
        ("verify", "1"),
        ("maintain",),
        ("audit",),
        ("sql", "SELECT count(*) FROM riders WHERE username = 'x'"),
        ("sql", "--engine", "polars", "SELECT count(*) FROM riders WHERE username = 'x'"),
        ("ask", "tip_share", "--engine", "polars"),
    ):
        done = far.ridelake(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr.count("\n") == 1
        assert "does not accept the credentials" in done.stderr or "may not do this" in done.stderr
    assert [epoch.number for epoch in read_epochs(far.address)] == [1]


@pytest.mark.slow
def test_a_bucket_that_may_be_read_and_not_written(far: Far, request, monkeypatch):
    epoch = take_snapshot(far.store, far.lake())
    iam = boto3.client("iam", "us-east-1", endpoint_url=far.address.s3_endpoint)
    iam.create_user(UserName="reader")
    statement = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    request.getfixturevalue("guarded")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    done = far.ridelake("sync", "--once")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "may not do this in s3://" in done.stderr
    assert "give them leave to list, read, write and delete" in done.stderr
    for name in FILE_ENGINES:
        asked = far.ridelake("sql", "--engine", name, "SELECT count(*) AS n FROM riders WHERE username <> ''")
        assert asked.stdout.split() == ["n", str(epoch.tables["riders"].rows)], asked.stderr


# ── The command line, and where the catalog is ───────────────────────────────────────────────────


@pytest.mark.slow
def test_the_commands_know_it_by_the_environment(far: Far):
    assert far.ridelake("epochs", "--json").stdout.strip() == "[]"
    taken = far.ridelake("snapshot", "--verify")
    assert taken.returncode == 0, taken.stderr
    far.change()
    assert "rows changed" in far.ridelake("sync", "--once").stdout
    listed = json.loads(far.ridelake("epochs", "--json").stdout)
    assert [epoch["epoch"] for epoch in listed] == [2, 1]
    status = json.loads(far.ridelake("status", "--json").stdout)
    assert (status["lake"], status["newest_epoch"]) == (far.address.root, 2)
    far.change()
    for arguments in (("--fresh",), ()):
        asked = far.ridelake("sql", "--engine", "all", *arguments, "SELECT count(*) FROM riders")
        assert asked.returncode == 0, asked.stderr
    then = far.ridelake("sql", "--as-of", "1", "SELECT count(*) FROM riders WHERE username LIKE 'changed %'")
    assert then.stdout.split() == ["count_star()", "0"]
    assert [path.name for path in far.settings.home.glob("*.sqlite")] == [far.address.catalog_file.name]


def test_the_endpoint_is_read_as_amazons_tools_read_it(tmp_path: Path):
    def endpoint(**environment: str) -> str | None:
        return Settings.read({"RIDELAKE_LAKE": "s3://b/x", **environment}).lake.s3_endpoint

    assert endpoint() is None
    assert endpoint(AWS_ENDPOINT_URL="http://a:1/") == "http://a:1"
    assert endpoint(AWS_ENDPOINT_URL="http://a:1", AWS_ENDPOINT_URL_S3="http://b:1") == "http://b:1"
    assert endpoint(AWS_ENDPOINT_URL_S3="http://b:1", RIDELAKE_S3_ENDPOINT="https://c") == "https://c"
    with pytest.raises(UsageError, match="RIDELAKE_S3_ENDPOINT takes an address like http"):
        endpoint(RIDELAKE_S3_ENDPOINT="localhost:9000")
    for root in ("s3://", "s3:///x", "s3://b/a b", "s3://b/a*", "s3://b//x", "s3://b/%41"):
        with pytest.raises(UsageError, match="is not s3://bucket/prefix"):
            LakeAddress.at(root)


def test_no_two_lakes_share_a_catalog_file(tmp_path: Path):
    files = {
        LakeAddress.at(f"s3://{name}", home=tmp_path).catalog_file for name in ("a/b-c", "a-b/c", "a/b/c")
    }
    assert len(files) == 3


@pytest.mark.slow
def test_the_catalog_may_be_in_postgres(far: Far):
    """By any SQLAlchemy URL; here in the store's own server."""
    with far.store.connect() as connection:
        info = connection.info
        connection.execute("CREATE SCHEMA catalog")
        host, port, user, name = info.host, info.port, info.user, info.dbname
    url = f"postgresql://{user}@/{name}?host={host}&port={port}&options=-csearch_path%3Dcatalog"
    address = LakeAddress.at(far.address.root, url, far.address.s3_endpoint)
    lake = Lake.create(address)
    take_snapshot(far.store, lake)
    far.change()
    assert take_changes(far.store, lake, verify=True).epoch.number == 2
    assert [epoch.number for epoch in read_epochs(address)] == [2, 1]
    answers_agree(replace(far.settings, lake=address), newest_epoch(address))


@pytest.mark.parametrize("url", ["nonsense", "nosuch://x/y", "oracle+nodriver://x/y"])
def test_a_catalog_that_is_none_is_refused(tmp_path: Path, url: str):
    with pytest.raises(UsageError, match="--catalog takes a database as SQLAlchemy writes it"):
        Lake.create(LakeAddress.at(tmp_path / "lake", url))


def test_a_catalog_that_is_away_is_a_sentence(tmp_path: Path):
    address = LakeAddress.at(tmp_path / "lake", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(CannotConnect, match="cannot reach the lake's catalog"):
        Lake.create(address)
    with pytest.raises(CannotConnect, match="cannot reach the lake's catalog"):
        read_epochs(address)


def test_no_epoch_yet_is_a_hint(far: Far):
    with pytest.raises(NotReady, match="no epoch yet in s3://"):
        newest_epoch(far.address)
    with pytest.raises(NotReady, match="run `ridelake snapshot`"):
        verify_now(far.store, far.lake())
