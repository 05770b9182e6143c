"""A query reads only the files of the epoch in a bucket, and writes nothing. Errors are one sentence."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bucket import FILE_ENGINES, S3Lake, only

from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.published import read_epochs
from ridelake.errors import CannotConnect, QueryRejected, UsageError
from ridelake.settings import LakeAddress

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


def test_no_other_object_is_read_and_none_is_written(s3_lake: S3Lake, tmp_path: Path):
    epoch = publish_snapshot(s3_lake.store, s3_lake.lake())
    other = s3_lake.address.join("secret.parquet")
    pinned = epoch.tables["cities"].locations[0]
    with s3_lake.storage.create(other) as stream:
        pq.write_table(pa.table({"secret": [1]}), stream)
    before = {location: s3_lake.storage.bytes_and_sha256(location) for location in s3_lake.objects()}
    words = {
        "other": other, "bucket": s3_lake.bucket, "name": "secret.parquet", "pinned": pinned,
        "endpoint": s3_lake.address.s3_endpoint, "out": tmp_path / "out",
    }  # fmt: skip
    for name in FILE_ENGINES:
        with open_engine(name, s3_lake.settings, epoch) as engine:
            for query in OUTSIDE:
                with pytest.raises(QueryRejected):
                    engine.sql(query.format(**words))
            assert only(engine.sql("SELECT count(*) FROM rides WHERE fare_cents > 1")) == 2000
    assert {location: s3_lake.storage.bytes_and_sha256(location) for location in s3_lake.objects()} == before
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_duckdb_can_read_one_file_with_many_threads(s3_lake: S3Lake):
    """DuckDB uses one file handle in all threads. Our file handle has a position for each thread."""
    with s3_lake.store.connect() as connection:
        connection.execute("CREATE TABLE many (id bigint PRIMARY KEY, word text)")
        connection.execute("INSERT INTO many SELECT n, md5(n::text) FROM generate_series(1, 400000) AS n")
    track(s3_lake.store, "ridelake.many")
    epoch = publish_snapshot(s3_lake.store, s3_lake.lake(), tables=["ridelake.many"])
    query = "SELECT count(*) AS n, sum(id) AS s, count(DISTINCT word) AS w FROM many"
    with open_engine("duckdb", s3_lake.settings, epoch) as engine:
        for _ in range(10):
            (row,) = engine.sql(query).to_pylist()
            assert [int(value) for value in row.values()] == [400_000, 80_000_200_000, 400_000]


def test_a_missing_bucket_is_reported(s3_lake: S3Lake):
    address = LakeAddress.at(
        "s3://no-such-bucket/x", s3_endpoint=s3_lake.address.s3_endpoint, home=s3_lake.settings.home
    )
    with pytest.raises(UsageError, match="there is no bucket no-such-bucket at http"):
        Lake.create(address)


@pytest.mark.slow
@pytest.mark.parametrize("answers", ["by refusing", pytest.param("never", marks=pytest.mark.slow)])
def test_an_unresponsive_server_is_reported_in_bounded_time(s3_lake: S3Lake, answers: str):
    epoch = publish_snapshot(s3_lake.store, s3_lake.lake())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if answers == "never":
            silent.listen()
        address = replace(s3_lake.address, s3_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        settings = replace(s3_lake.settings, lake=address)
        began = time.monotonic()
        with pytest.raises(CannotConnect, match=r"http://127.0.0.1:[0-9]+ does not respond"):
            Lake.create(address)
        for name in FILE_ENGINES:
            with pytest.raises(CannotConnect, match="does not respond"):
                with open_engine(name, settings, epoch) as engine:
                    engine.sql("SELECT count(*) FROM riders WHERE username = 'x'")
        assert time.monotonic() - began < (150 if answers == "never" else 20)


@pytest.fixture
def guarded(endpoint: str) -> Iterator[None]:
    """The server checks credentials during the test."""

    def check_after(requests: float) -> None:
        url, plain = f"{endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urlopen(Request(url, str(requests).encode(), plain, method="POST")).close()

    check_after(0)
    yield
    check_after(float("inf"))


@pytest.mark.slow
def test_invalid_credentials_are_reported(s3_lake: S3Lake, request):
    publish_snapshot(s3_lake.store, s3_lake.lake())
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
        done = s3_lake.ridelake(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr.count("\n") == 1
        assert "does not accept the credentials" in done.stderr or "permission denied" in done.stderr
    assert [epoch.number for epoch in read_epochs(s3_lake.address)] == [1]


@pytest.mark.slow
def test_a_read_only_bucket_can_be_queried(s3_lake: S3Lake, request, monkeypatch):
    epoch = publish_snapshot(s3_lake.store, s3_lake.lake())
    boto3 = pytest.importorskip("boto3", reason="boto3, which moto brings, is not installed")
    iam = boto3.client("iam", "us-east-1", endpoint_url=s3_lake.address.s3_endpoint)
    iam.create_user(UserName="reader")
    statement = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    request.getfixturevalue("guarded")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    done = s3_lake.ridelake("sync", "--once")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "permission denied for s3://" in done.stderr
    assert "allow these credentials to list, read, write and delete" in done.stderr
    for name in FILE_ENGINES:
        done = s3_lake.ridelake(
            "sql", "--engine", name, "SELECT count(*) AS n FROM riders WHERE username <> ''"
        )
        assert done.stdout.split() == ["n", str(epoch.tables["riders"].rows)], done.stderr
