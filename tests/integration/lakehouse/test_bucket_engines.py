"""Every engine over a bucket: its credentials, and failures of the S3 server, reported in one line."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from bucket import S3Lake, new_bucket
from installed_engines import EVERY_ENGINE
from s3_proxy import S3Proxy, s3_proxy

from lakehouse.capture.overlay import open_overlay
from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import ENGINES, Engine, open_engine, open_engines
from lakehouse.source.tracking import track
from lakehouse.table import s3
from lakehouse.table.catalog import Lake
from ridelake.errors import CannotConnect, RidelakeError, UsageError
from ridelake.settings import Settings

pytestmark = pytest.mark.slow

READING_FILES = [one for one in EVERY_ENGINE if one.values[0] != "postgres"]
SECRET, TOKEN = "Zq9-secret-4711", "Zq9-token-4711"
BOUND_SECONDS = 300
SHOWING = [
    "EXPLAIN SELECT count(*) FROM rides WHERE fare_cents > 1",
    "SELECT nothing FROM rides",
    "SELECT * FROM system.tables",
    "SELECT * FROM system.settings",
    "SHOW CREATE TABLE rides",
    "SELECT _path AS path FROM rides LIMIT 1",
    "SELECT input_file_name() AS name FROM rides LIMIT 1",
]


@pytest.fixture(scope="module")
def proxy(endpoint: str) -> Iterator[S3Proxy]:
    with s3_proxy(endpoint) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_SESSION_TOKEN", TOKEN)
        yield proxy


@pytest.fixture(scope="module")
def published(seeded_store_once, tmp_path_factory, endpoint: str, proxy: S3Proxy):
    home = tmp_path_factory.mktemp("home")
    lake = new_bucket(endpoint, home)
    epoch = publish_snapshot(seeded_store_once, Lake.create(lake))
    return Settings(home, replace(lake, s3_endpoint=proxy.url), dsn=seeded_store_once.conninfo), epoch


@pytest.fixture(scope="module", params=READING_FILES)
def engine(request, published, proxy: S3Proxy) -> Iterator[Engine]:
    proxy.keys.clear()
    with open_engine(request.param, *published) as engine:
        yield engine


@pytest.fixture(autouse=True)
def no_failure(proxy: S3Proxy) -> Iterator[None]:
    yield
    proxy.reset()


def count(engine: Engine, table: str) -> int:
    """The number of rows. It reads all columns, so that the answer does not come from a cache."""
    (row,) = engine.sql(f"SELECT count(*) AS n FROM (SELECT DISTINCT * FROM {table}) AS x").to_pylist()
    return int(row["n"])


def refused(engine: Engine, table: str) -> RidelakeError:
    """The error of a query. It must be one line without credentials."""
    with pytest.raises(RidelakeError) as caught:
        count(engine, table)
    text = str(caught.value)
    assert "\n" not in text, text
    assert SECRET not in text
    assert TOKEN not in text
    return caught.value


def test_every_request_is_signed_with_the_credentials_of_the_environment(engine, published, proxy):
    assert count(engine, "cities") == published[1].tables["cities"].rows
    assert proxy.keys == {("testing", TOKEN)}


def test_a_query_does_not_show_the_credentials(engine):
    for query in SHOWING:
        try:
            shown = str(engine.sql(query).to_pylist())
        except RidelakeError as error:
            shown = str(error)
        assert SECRET not in shown, query
        assert TOKEN not in shown, query


def test_a_listing_that_lacks_new_objects_does_not_matter(engine, published, proxy):
    proxy.lists_nothing = True
    assert count(engine, "zones") == published[1].tables["zones"].rows
    with open_engine(engine.name, *published) as another:
        assert count(another, "zones") == published[1].tables["zones"].rows


def test_a_few_throttled_requests_are_tried_again(engine, published, proxy):
    proxy.failure, proxy.failures = (503, "SlowDown"), 1
    assert count(engine, "drivers") == published[1].tables["drivers"].rows
    assert proxy.failures == 0


def test_a_server_that_throttles_every_request_is_named(engine, published, proxy):
    proxy.failure = (503, "SlowDown")
    error = refused(engine, "riders")
    assert isinstance(error, CannotConnect)
    assert f"{proxy.url} limits the rate of requests" in str(error)
    proxy.reset()
    assert count(engine, "riders") == published[1].tables["riders"].rows


def test_a_bucket_that_is_deleted_between_two_queries_is_named(engine, published, proxy):
    proxy.failure = (404, "NoSuchBucket")
    error = refused(engine, "requests")
    assert isinstance(error, UsageError)
    assert f"there is no bucket {published[0].lake.bucket} at {proxy.url}" in str(error)
    proxy.reset()
    assert count(engine, "requests") == published[1].tables["requests"].rows


def test_credentials_that_are_no_longer_valid_are_named(engine, published, proxy):
    proxy.failure = (403, "InvalidAccessKeyId")
    error = refused(engine, "payments")
    assert isinstance(error, UsageError)
    assert "credentials" in str(error)
    proxy.reset()
    assert count(engine, "payments") == published[1].tables["payments"].rows


SEVERAL_SCANS = [
    "SELECT count(*) AS n FROM rides WHERE ride_id <= 10",
    "SELECT count(*) AS n FROM rides WHERE ride_id > 10",
    "SELECT count(*) AS n, min(fare_cents) AS f FROM rides",
    "SELECT count(*) AS n FROM rides AS a JOIN rides AS b ON a.ride_id = b.ride_id - 1"
    " WHERE a.ride_id <= 10 AND b.ride_id > 3",
    "WITH x AS (SELECT * FROM rides) SELECT (SELECT count(*) FROM x WHERE ride_id <= 10) AS a,"
    " (SELECT count(*) FROM x WHERE ride_id > 10) AS b",
    "SELECT count(*) AS n FROM rides WHERE ride_id <= 10 UNION ALL SELECT count(*) FROM rides ORDER BY n",
    "SELECT count(*) AS n FROM rides AS a WHERE ride_id <= 10 AND fare_cents >"
    " (SELECT avg(b.fare_cents) FROM rides AS b WHERE b.ride_id > a.ride_id)",
    "SELECT count(*) AS n FROM riders AS a WHERE a.rider_id > 5 AND EXISTS"
    " (SELECT 1 FROM rides AS b WHERE b.rider_id < a.rider_id AND b.ride_id <= 10)",
    "SELECT count(*) AS n FROM RideTable AS a JOIN rides AS b ON a.RideID = b.ride_id WHERE b.ride_id <= 50",
    "SELECT count(*) AS n FROM rides WHERE status = 'completed' AND started_at >= '2020-01-01 00:00:00+00'",
    "SELECT count(*) AS n FROM rides WHERE started_at IS NULL",
    "SELECT count(*) AS n FROM rides WHERE ride_id IN (1, 2, 3, NULL)",
    "SELECT count(*) AS n FROM (SELECT DISTINCT * FROM riders NATURAL JOIN cities) AS x",
]


@pytest.mark.skipif(not ENGINES["spark"].here, reason="not installed: pyspark")
def test_the_filters_of_one_scan_in_spark_do_not_affect_another(published):
    """Spark 4.3 applies the filters of one scan of a Python data source to other scans of that relation."""
    with open_engines(["duckdb", "spark"], *published) as (duckdb, spark):
        for query in [*SEVERAL_SCANS, *reversed(SEVERAL_SCANS)]:
            assert spark.sql(query).to_pylist() == duckdb.sql(query).to_pylist(), query


@pytest.mark.parametrize("name", READING_FILES)
def test_the_credentials_of_a_profile_are_used(published, proxy, tmp_path, monkeypatch, name):
    profile = f"[rides]\naws_access_key_id = of-profile\naws_secret_access_key = {SECRET}\n"
    (tmp_path / "credentials").write_text(profile)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "rides")
    s3._filesystem.cache_clear()  # the cached file system has the old credentials
    proxy.keys.clear()
    try:
        with open_engine(name, *published) as engine:
            assert count(engine, "cities") == published[1].tables["cities"].rows
    finally:
        s3._filesystem.cache_clear()
    assert proxy.keys == {("of-profile", None)}


@pytest.mark.parametrize("name", READING_FILES)
def test_a_table_with_any_name_and_rows_that_changed_since_the_epoch_are_read(s3_lake: S3Lake, name: str):
    """`--fresh` writes the changed rows to local files."""
    table, numbers = 'über "x" 100% a=b', "generate_series(1, 300)"
    quoted = '"' + table.replace('"', '""') + '"'
    with s3_lake.store.connect() as connection:
        connection.execute(f"CREATE TABLE {quoted} (id int PRIMARY KEY, word text)")
        connection.execute(f"INSERT INTO {quoted} SELECT n, 'old' FROM {numbers} AS n")
    track(s3_lake.store, f"ridelake.{quoted}")
    newest = publish_snapshot(s3_lake.store, s3_lake.lake(), tables=[f"ridelake.{quoted}"])
    with s3_lake.store.connect() as connection:
        connection.execute(f"UPDATE {quoted} SET word = 'new' WHERE id <= 7")
        connection.execute(f"DELETE FROM {quoted} WHERE id = 300")
    query = f"SELECT word, count(*) AS n FROM {quoted} GROUP BY word ORDER BY word"
    with (
        open_overlay(s3_lake.settings, newest) as fresh,
        open_engine(name, s3_lake.settings, fresh) as engine,
    ):
        answer = engine.sql(query).to_pylist()
    assert [(row["word"], int(row["n"])) for row in answer] == [("new", 7), ("old", 292)]


@pytest.mark.timeout(1200)
def test_a_server_that_stops_answering_is_named_in_bounded_time(published, proxy):
    """All engines run concurrently, because some of them wait for minutes."""
    names = [name for name, package in ENGINES.items() if package.here and name != "postgres"]

    def seconds(engine: Engine) -> float:
        began = time.monotonic()
        error = refused(engine, "accounts")
        assert isinstance(error, CannotConnect)
        assert f"{proxy.url} does not respond" in str(error)
        return time.monotonic() - began

    with open_engines(names, *published) as engines, ThreadPoolExecutor(len(engines)) as threads:
        proxy.silent = True
        waited = dict(zip(names, threads.map(seconds, engines), strict=True))
        proxy.reset()
        assert max(waited.values()) < BOUND_SECONDS, waited
        for engine in engines:
            assert count(engine, "accounts") == published[1].tables["accounts"].rows
