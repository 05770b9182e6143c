"""A lake in a bucket of an in-memory S3 server."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pyarrow as pa
import pytest
from terminal import Done, ridelake

from bench.seaweedfs import KEYS
from lakehouse.engines import open_engine
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.storage import Storage
from oltp.store import Store
from ridelake.settings import LakeAddress, Settings

FILE_ENGINES = ("duckdb", "polars")
PLACES = ["folder", pytest.param("bucket", marks=pytest.mark.slow)]


@dataclass(frozen=True)
class S3Lake:
    """A new store, and an empty lake in a new bucket."""

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
        change_rows(self.store)

    def ridelake(self, *arguments: str) -> Done:
        return ridelake(*arguments, "--home", self.settings.home, environment=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "RIDELAKE_LAKE": self.address.root,
            "RIDELAKE_S3_ENDPOINT": self.address.s3_endpoint or "",
            "RIDELAKE_DSN": self.store.conninfo,
        }


def change_rows(store: Store) -> None:
    """Change, insert and delete rows."""
    with store.connect() as connection:
        connection.execute("UPDATE riders SET username = 'changed ' || rider_id WHERE rider_id % 50 = 1")
        connection.execute("SELECT top_up(rider_id, 1234) FROM riders WHERE rider_id % 7 = 0")
        connection.execute(
            "DELETE FROM requests WHERE outcome <> 'assigned' AND ctid IN (SELECT ctid FROM requests"
            " WHERE outcome <> 'assigned' LIMIT 5)"
        )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of an in-memory S3 server on a free local port; one per module."""
    moto = pytest.importorskip("moto.server", reason="moto, an S3 server for tests, is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
            patch.delenv(name, raising=False)
        server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.stop()


@pytest.fixture
def s3_lake(seeded_store: Store, endpoint: str, tmp_path: Path) -> S3Lake:
    lake = new_bucket(endpoint, tmp_path)
    return S3Lake(seeded_store, Settings(home=tmp_path, lake=lake, dsn=seeded_store.conninfo), lake.bucket)


def new_bucket(endpoint: str, home: Path) -> LakeAddress:
    """A lake in a new bucket. `home`: the folder of its catalog."""
    bucket = f"bucket-{os.getpid()}-{time.monotonic_ns()}"
    urlopen(Request(f"{endpoint}/{bucket}", method="PUT")).close()
    return LakeAddress.at(f"s3://{bucket}/some/pre.fix=1", s3_endpoint=endpoint, home=home)


def lake_at(place: str, request: pytest.FixtureRequest, folder: Path) -> LakeAddress:
    """A new lake. `place`: one of PLACES."""
    if place == "bucket":
        return new_bucket(request.getfixturevalue("endpoint"), folder)
    return LakeAddress.at(folder / "la[k]e *? #%20 'q")  # special in globs, URIs and SQL


def answers_agree(settings: Settings, epoch: Epoch) -> None:
    """Check that each engine over files returns the same rows as Postgres for each table."""
    with ExitStack() as opened:
        postgres = opened.enter_context(open_engine("postgres", settings, None))
        engines = [opened.enter_context(open_engine(name, settings, epoch)) for name in FILE_ENGINES]
        for table in epoch.tables:
            expected = postgres.sql(f"SELECT * FROM {table}")
            wanted = sorted(map(str, expected.to_pylist()))
            for engine in engines:
                found = engine.sql(f"SELECT * FROM {table}").select(expected.column_names)
                assert sorted(map(str, found.to_pylist())) == wanted, (engine.name, table)


def only(table: pa.Table):
    assert table.shape == (1, 1)
    return table[0][0].as_py()


def counted(settings: Settings, epoch: Epoch, engine_name: str) -> int:
    with open_engine(engine_name, settings, epoch) as engine:
        return int(only(engine.sql("SELECT count(*) FROM riders WHERE username LIKE 'changed %'")))
