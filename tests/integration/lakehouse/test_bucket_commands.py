"""Commands with a lake in a bucket, and the location of its catalog."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bucket import S3Lake, answers_agree

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch, read_epochs
from lakehouse.verify import verify_now
from ridelake.errors import CannotConnect, NotReady, UsageError
from ridelake.settings import LakeAddress, Settings


@pytest.mark.slow
def test_the_commands_use_the_bucket_of_the_environment(s3_lake: S3Lake):
    assert s3_lake.ridelake("epochs", "--json").stdout.strip() == "[]"
    taken = s3_lake.ridelake("snapshot", "--verify")
    assert taken.returncode == 0, taken.stderr
    s3_lake.change()
    assert "rows changed" in s3_lake.ridelake("sync", "--once").stdout
    listed = json.loads(s3_lake.ridelake("epochs", "--json").stdout)
    assert [epoch["epoch"] for epoch in listed] == [2, 1]
    status = json.loads(s3_lake.ridelake("status", "--json").stdout)
    assert (status["lake"], status["newest_epoch"]) == (s3_lake.address.root, 2)
    s3_lake.change()
    for arguments in (("--fresh",), ()):
        done = s3_lake.ridelake("sql", "--engine", "all", *arguments, "SELECT count(*) FROM riders")
        assert done.returncode == 0, done.stderr
    then = s3_lake.ridelake(
        "sql", "--as-of", "1", "SELECT count(*) FROM riders WHERE username LIKE 'changed %'"
    )
    assert then.stdout.split() == ["count_star()", "0"]
    assert [path.name for path in s3_lake.settings.home.glob("*.sqlite")] == [
        s3_lake.address.catalog_file.name
    ]


def test_the_endpoint_is_read_as_in_aws_tools(tmp_path: Path):
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
def test_the_catalog_may_be_in_postgres(s3_lake: S3Lake):
    """The URL may be any SQLAlchemy URL. Here the catalog is in the store's server."""
    with s3_lake.store.connect() as connection:
        info = connection.info
        connection.execute("CREATE SCHEMA catalog")
        host, port, user, name = info.host, info.port, info.user, info.dbname
    url = f"postgresql://{user}@/{name}?host={host}&port={port}&options=-csearch_path%3Dcatalog"
    address = LakeAddress.at(s3_lake.address.root, url, s3_lake.address.s3_endpoint)
    lake = Lake.create(address)
    publish_snapshot(s3_lake.store, lake)
    s3_lake.change()
    assert publish_changes(s3_lake.store, lake, verify=True).epoch.number == 2
    assert [epoch.number for epoch in read_epochs(address)] == [2, 1]
    answers_agree(replace(s3_lake.settings, lake=address), newest_epoch(address))


@pytest.mark.parametrize("url", ["nonsense", "nosuch://x/y", "oracle+nodriver://x/y"])
def test_an_invalid_catalog_url_is_refused(tmp_path: Path, url: str):
    with pytest.raises(UsageError, match="--catalog must be a SQLAlchemy URL"):
        Lake.create(LakeAddress.at(tmp_path / "lake", url))


def test_an_unreachable_catalog_is_reported_in_a_sentence(tmp_path: Path):
    address = LakeAddress.at(tmp_path / "lake", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(CannotConnect, match="cannot reach the lake's catalog"):
        Lake.create(address)
    with pytest.raises(CannotConnect, match="cannot reach the lake's catalog"):
        read_epochs(address)


@pytest.mark.slow
def test_a_lake_without_epochs_has_a_hint(s3_lake: S3Lake):
    with pytest.raises(NotReady, match="no epoch yet in s3://"):
        newest_epoch(s3_lake.address)
    with pytest.raises(NotReady, match="run `ridelake snapshot`"):
        verify_now(s3_lake.store, s3_lake.lake())
