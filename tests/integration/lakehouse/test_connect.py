"""The output of `ridelake connect` is a program that reads the lake in an interpreter without ridelake."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bare_database import bare_database, run
from bucket import S3Lake
from catalog_server import served_catalog
from iceberg_readers import duckdb_iceberg_folder  # noqa: F401  (a fixture)
from terminal import answer, place_options, refusal

from lakehouse.capture.publish import publish_changes
from lakehouse.commands.connect import NOT_ON_S3, READERS, REST_READERS, REST_VALUES
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from olap.answer import difference
from oltp.cluster.server import Cluster
from ridelake.settings import LakeAddress, Settings

# Runs without the module `site`, which would add this project to the path.
ALONE = """
import os, sys, warnings
sys.path.append(sys.argv[1])
try:
    import ridelake
except ModuleNotFoundError:
    exec(sys.stdin.read())
"""
# Appended to the program: writes the rows of the first table to `target`.
WRITE = {
    "pyiceberg": "rows = next(iter(tables.values())).scan().to_arrow()",
    "polars": "rows = next(iter(frames.values())).collect().to_arrow()",
    "daft": "rows = next(iter(frames.values())).to_arrow()",
    "chdb": "rows = chdb.query(f'SELECT * FROM {next(iter(TABLES))}', 'ArrowTable')",
    "spark": "spark.conf.set('spark.sql.session.timeZone', 'UTC')\nrows = table(TABLE).toArrow()",
}
IN_DUCKDB = """
import sys, duckdb
from pathlib import Path
connection = duckdb.connect()
for name in ("avro", "httpfs", "iceberg"):
    found = Path(duckdb.__file__).parents[1].rglob(f"{name}.duckdb_extension")
    connection.load_extension(str(next(found)))
connection.execute("SET TimeZone = 'UTC'")
connection.execute(sys.stdin.read())
connection.sql(f'FROM "{sys.argv[1]}"').write_parquet(sys.argv[2])
"""
SLOW = ("spark", "chdb", "daft")


@dataclass(frozen=True)
class Followed:
    """A lake of two tables with deleted rows in the newest epoch. `before` and `now`: the rows of `orders` in
    epoch 1 and in the newest epoch."""

    settings: Settings
    before: pa.Table
    now: pa.Table


@pytest.fixture(scope="module")
def followed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    folder = tmp_path_factory.mktemp("connect")
    with bare_database(cluster) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse.capture.writer.SEAL_ROWS", 60)
        settings = Settings(home=folder, lake=LakeAddress.at(folder / "the lake"), dsn=store.conninfo)
        lake = Lake.create(settings.lake)
        run(
            store,
            "CREATE SCHEMA shop",
            "CREATE TABLE shop.orders (id bigint PRIMARY KEY, total numeric(12, 2), note text, paid boolean,"
            " at timestamptz, day date, ratio double precision)",
            "INSERT INTO shop.orders SELECT n, n / 7.0, 'é ' || n, n % 3 = 0, '2024-02-29 12:00:00.123456Z',"
            " date '1969-12-31' + n::int, n / 3.0 FROM generate_series(1, 500) AS n",
            'CREATE TABLE shop."Order lines" (id int PRIMARY KEY)',
            'INSERT INTO shop."Order lines" VALUES (1), (2), (3)',
        )
        for table in ("shop.orders", 'shop."Order lines"'):
            track(store, table)
        publish_changes(store, lake, tables=["shop.orders", 'shop."Order lines"'])
        before = in_postgres(settings)
        run(
            store,
            "DELETE FROM shop.orders WHERE id % 50 = 0",
            "UPDATE shop.orders SET note = NULL, total = NULL, at = NULL, day = NULL WHERE id % 50 = 1",
        )
        epoch = publish_changes(store, lake).epoch
        assert any(file.deleted for file in epoch.files)
        yield Followed(settings, before, in_postgres(settings))


def in_postgres(settings: Settings, table: str = "orders") -> pa.Table:
    with open_engine("postgres", settings, newest_epoch(settings.lake)) as engine:
        return engine.sql(f"SELECT * FROM {table}")


def printed(settings: Settings, *arguments: str) -> str:
    return answer("connect", *arguments, *place_options(settings))


def read_alone(reader: str, program: str, folder: Path, table: str = "orders") -> pa.Table:
    target = folder / "rows.parquet"
    write = f"{WRITE[reader].replace('table(TABLE)', f'table({table!r})')}\nimport pyarrow.parquet\n"
    write += f"pyarrow.parquet.write_table(rows, {str(target)!r})\n"
    packages = Path(pa.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, packages],
        input=f"{program}\n{write}",
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return pq.read_table(target)


def same_rows(reference: pa.Table, other: pa.Table) -> None:
    assert difference(reference, other.select(reference.column_names), ordered=False) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "reader", [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in WRITE]
)
def test_the_program_reads_the_rows_of_postgres_without_ridelake(
    followed: Followed, tmp_path: Path, reader: str
):
    same_rows(followed.now, read_alone(reader, printed(followed.settings, reader, "shop.orders"), tmp_path))
    same_rows(
        followed.before,
        read_alone(reader, printed(followed.settings, reader, "orders", "--epoch", "1"), tmp_path),
    )


@pytest.mark.slow
def test_the_statements_for_duckdb_read_the_rows_of_postgres(
    followed: Followed,
    tmp_path: Path,
    duckdb_iceberg_folder: Path,  # noqa: F811
):
    for options, expected in (((), followed.now), (("--epoch", "1"), followed.before)):
        text = printed(followed.settings, "duckdb", "orders", *options)
        assert text.startswith("INSTALL iceberg;\nLOAD iceberg;\n")
        same_rows(expected, in_duckdb(duckdb_iceberg_folder, text, tmp_path))


def in_duckdb(packages: Path, text: str, folder: Path, table: str = "orders") -> pa.Table:
    # In this test the extensions are installed packages.
    statements = re.sub(r"(?m)^(INSTALL|LOAD) \w+;\n", "", text)
    program = f"import sys; sys.path.insert(0, {str(packages)!r})\n{IN_DUCKDB}"
    target = folder / "rows.parquet"
    command = [sys.executable, "-I", "-S", "-c", program, table, str(target)]
    done = subprocess.run(command, input=statements, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pq.read_table(target)


@pytest.mark.slow
@pytest.mark.parametrize(
    "reader", [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in REST_VALUES]
)
def test_the_program_reads_an_epoch_from_the_catalog_server(followed: Followed, tmp_path: Path, reader: str):
    with served_catalog(followed.settings.lake) as served:
        text = printed(followed.settings, reader, "shop.orders", "--rest", served.url)
        same_rows(followed.now, read_alone(reader, text, tmp_path))
        text = printed(followed.settings, reader, "orders", "--epoch", "1", "--rest", f"{served.url}/")
        same_rows(followed.before, read_alone(reader, text, tmp_path))


@pytest.mark.slow
def test_the_statements_for_duckdb_attach_the_catalog_server(
    followed: Followed,
    tmp_path: Path,
    duckdb_iceberg_folder: Path,  # noqa: F811
):
    with served_catalog(followed.settings.lake) as served:
        for options, expected in (((), followed.now), (("--epoch", "1"), followed.before)):
            text = printed(followed.settings, "duckdb", "orders", "--rest", served.url, *options)
            text += "\nUSE lake.ridelake;"
            same_rows(expected, in_duckdb(duckdb_iceberg_folder, text, tmp_path))
            tables = (
                "CREATE TEMP VIEW t AS SELECT table_name FROM duckdb_tables() WHERE schema_name = 'ridelake'"
            )
            names = in_duckdb(duckdb_iceberg_folder, f"{text}\n{tables};", tmp_path, "t")
            assert sorted(names["table_name"].to_pylist()) == ["Order lines", "orders"]


@pytest.mark.slow
def test_duckdb_sends_the_token(
    followed: Followed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    duckdb_iceberg_folder: Path,  # noqa: F811
):
    monkeypatch.setenv("RIDELAKE_CATALOG_TOKEN", "a-secret")
    with served_catalog(followed.settings.lake, "a-secret") as served:
        text = printed(followed.settings, "duckdb", "orders", "--rest", served.url) + "\nUSE lake.ridelake;"
        with pytest.raises(AssertionError, match="Unauthorized"):
            in_duckdb(duckdb_iceberg_folder, text, tmp_path)
        text = text.replace("the token of the server", "a-secret")
        same_rows(followed.now, in_duckdb(duckdb_iceberg_folder, text, tmp_path))


@pytest.mark.slow
def test_a_token_is_sent_and_not_printed(followed: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RIDELAKE_CATALOG_TOKEN", "a-secret")
    with served_catalog(followed.settings.lake, "a-secret") as served:
        for reader in REST_READERS:
            text = printed(followed.settings, reader, "orders", "--rest", served.url)
            assert "a-secret" not in text
            assert "TOKEN" in text
        text = printed(followed.settings, "pyiceberg", "orders", "--rest", served.url)
        same_rows(followed.now, read_alone("pyiceberg", text, tmp_path))


@pytest.mark.parametrize("reader", [name for name in READERS if name != "trino"])
def test_without_a_table_all_tables_are_opened(followed: Followed, reader: str):
    text = printed(followed.settings, reader)
    assert "Order lines" in text or reader == "spark"
    if reader != "duckdb":
        compile(text, "printed", "exec")


def test_a_table_with_a_special_name_is_opened(followed: Followed, tmp_path: Path):
    program = printed(followed.settings, "polars", 'shop."Order lines"')
    assert sorted(read_alone("polars", program, tmp_path)["id"].to_pylist()) == [1, 2, 3]


def test_an_invalid_argument_is_one_sentence(followed: Followed):
    places = place_options(followed.settings)
    assert "no table orderz: did you mean orders?" in refusal("connect", "polars", "orderz", *places)
    assert "there is no epoch 9" in refusal("connect", "polars", "--epoch", "9", *places)
    assert "trino cannot read" in refusal("connect", "trino", *places)
    for url in ("127.0.0.1:8181", "ftp://host", "http://host/'", "http://host?a"):
        assert "--rest takes the address" in refusal("connect", "polars", "--rest", url, *places)
    line = refusal("connect", "spark", "--rest", "http://host", *places)
    assert "no program for spark and --rest: use one of duckdb, pyiceberg, polars, daft" in line
    assert "did you mean duckdb" in refusal("connect", "duck", *places)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["pyiceberg", "polars"])
def test_a_lake_in_a_bucket_is_read_without_ridelake(s3_lake: S3Lake, tmp_path: Path, reader: str):
    publish_changes(s3_lake.store, s3_lake.lake())
    s3_lake.change()
    publish_changes(s3_lake.store, s3_lake.lake())
    printed = s3_lake.ridelake("connect", reader, "riders")
    assert printed.returncode == 0, printed.stderr
    same_rows(in_postgres(s3_lake.settings, "riders"), read_alone(reader, printed.stdout, tmp_path))


@pytest.mark.slow
def test_duckdb_reads_a_lake_in_a_bucket(s3_lake: S3Lake, tmp_path: Path, duckdb_iceberg_folder: Path):  # noqa: F811
    publish_changes(s3_lake.store, s3_lake.lake())
    s3_lake.change()
    publish_changes(s3_lake.store, s3_lake.lake())
    text = s3_lake.ridelake("connect", "duckdb", "riders").stdout
    # The provider of credentials is in the extension `aws`, which is not installed.
    text = text.replace("PROVIDER credential_chain", "KEY_ID 'testing', SECRET 'testing', REGION 'us-east-1'")
    same_rows(
        in_postgres(s3_lake.settings, "riders"), in_duckdb(duckdb_iceberg_folder, text, tmp_path, "riders")
    )


@pytest.mark.slow
@pytest.mark.parametrize("reader", REST_READERS)
def test_a_lake_in_a_bucket_is_read_by_way_of_the_catalog_server(
    s3_lake: S3Lake,
    tmp_path: Path,
    reader: str,
    duckdb_iceberg_folder: Path,  # noqa: F811
):
    publish_changes(s3_lake.store, s3_lake.lake())
    s3_lake.change()
    publish_changes(s3_lake.store, s3_lake.lake())
    expected = in_postgres(s3_lake.settings, "riders")
    with served_catalog(s3_lake.address) as served:
        text = s3_lake.ridelake("connect", reader, "riders", "--rest", served.url).stdout
        if reader == "duckdb":
            text = text.replace(
                "PROVIDER credential_chain", "KEY_ID 'testing', SECRET 'testing', REGION 'us-east-1'"
            )
            found = in_duckdb(duckdb_iceberg_folder, f"{text}\nUSE lake.ridelake;", tmp_path, "riders")
        else:
            found = read_alone(reader, text, tmp_path)
    same_rows(expected, found)


@pytest.mark.slow
def test_in_a_bucket_the_programs_name_the_bucket_and_no_secret(s3_lake: S3Lake):
    publish_changes(s3_lake.store, s3_lake.lake())
    for reader in READERS:
        done = s3_lake.ridelake("connect", reader, "riders")
        if reader in NOT_ON_S3:
            assert "on S3 this way: use one of duckdb, polars, pyiceberg, trino" in done.stderr
        else:
            assert f"{s3_lake.address.root}/riders" in done.stdout
            assert "testing" not in done.stdout
    text = s3_lake.ridelake("connect", "trino", "riders").stdout
    metadata = newest_epoch(s3_lake.address).tables["riders"].metadata.rsplit("/", 1)[1]
    assert f"table_location => '{s3_lake.address.root}/riders', metadata_file_name => '{metadata}'" in text
