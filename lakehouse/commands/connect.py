"""`ridelake connect`: programs that read the lake without ridelake.

An Iceberg reader gets the folder of a table, whose `version-hint.text` names the newest state, or with
--epoch the metadata file of that epoch. Both list the rows that are deleted from the files. Plain Spark has
no Iceberg reader; its program applies the delete files of a manifest. With --rest, a reader gets the URL of
`ridelake catalog serve`, and all tables are of one epoch.
`tests/integration/lakehouse/test_connect.py` runs what is printed.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from ridelake.errors import UsageError
from ridelake.screen import say
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.table.epoch import Epoch
    from ridelake.settings import LakeAddress

PYICEBERG = """\
from pyiceberg.table import StaticTable

TABLES = {locations}

tables = {{name: StaticTable.from_metadata(location{properties}) for name, location in TABLES.items()}}
print(tables[{first!r}].scan(limit=10).to_arrow())
"""
POLARS = """\
import polars as pl

TABLES = {locations}

frames = {{name: pl.scan_iceberg(location{options}) for name, location in TABLES.items()}}
print(frames[{first!r}].limit(10).collect())
"""
DAFT = """\
import daft
from pyiceberg.table import StaticTable

TABLES = {locations}

frames = {{name: daft.read_iceberg(StaticTable.from_metadata(at)) for name, at in TABLES.items()}}
frames[{first!r}].show(10)
"""
CHDB = """\
import os

from chdb import session

os.chdir({root!r})  # chDB opens no file outside of the working folder
TABLES = {tables}

chdb = session.Session()
for name, location in TABLES.items():
    chdb.query(f"CREATE VIEW {{name}} AS SELECT * FROM icebergLocal({{location}})")
print(chdb.query({query!r}, "PrettyCompact"))
"""
SPARK = """\
import json
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, functions

LAKE = Path({root!r})
manifest = json.loads({manifest}.read_text())
spark = SparkSession.builder.getOrCreate()


def table(name: str) -> DataFrame:
    \"\"\"The rows of the data files that are not in the delete files.\"\"\"
    state = manifest["tables"][name]
    files, deletes = ([str(LAKE / file["location"]) for file in state[kind]] for kind in ("files", "deletes"))
    rows = spark.read.parquet(*files)
    if not deletes:
        return rows
    deleted = spark.read.parquet(*deletes).selectExpr(
        "element_at(split(file_path, '/'), -1) AS `file of the row`", "pos AS `number of the row`"
    )
    rows = rows.selectExpr(
        "*", "_metadata.file_name AS `file of the row`", "_metadata.row_index AS `number of the row`"
    )
    place = ["file of the row", "number of the row"]
    return rows.join(functions.broadcast(deleted), place, "left_anti").drop(*place)


table({first!r}).show(10)
"""
REST = """\
{imports}from pyiceberg.catalog import load_catalog

catalog = load_catalog("lake", type="rest", uri={url!r}, warehouse={warehouse!r}{token})
{values} = {{name: {value} for name in {names}}}
{show}
"""
REST_VALUES = {
    "pyiceberg": ("", "tables", "{}", "print(tables[{!r}].scan(limit=10).to_arrow())"),
    "polars": (
        "import polars as pl\n",
        "frames",
        "pl.scan_iceberg({})",
        "print(frames[{!r}].limit(10).collect())",
    ),
    "daft": ("import daft\n", "frames", "daft.read_iceberg({})", "frames[{!r}].show(10)"),
}
REST_READERS = ("duckdb", *REST_VALUES)
# Hadoop takes these characters of a path as a pattern.
PATTERN = re.compile(r"[\[\]*?{},\\]")


def duckdb(address: "LakeAddress", tables: Mapping[str, str], _: "Epoch | None") -> str:
    lines = _duckdb_start(address)
    for name, location in tables.items():
        lines.append(f"CREATE VIEW {_identifier(name)} AS FROM iceberg_scan({_literal(location)});")
    return "\n".join([*lines, f"FROM {_identifier(next(iter(tables)))} LIMIT 10;", ""])


def _duckdb_start(address: "LakeAddress") -> list[str]:
    lines = ["INSTALL iceberg;", "LOAD iceberg;"]
    if address.remote:
        lines += ["INSTALL httpfs;", "LOAD httpfs;", "INSTALL aws;", "LOAD aws;"]
        lines.append(f"CREATE SECRET (TYPE s3, {_duckdb_options(address)});")
    return lines


def _duckdb_options(address: "LakeAddress") -> str:
    options = ["PROVIDER credential_chain"]
    if address.s3_endpoint is not None:
        scheme, host = address.s3_endpoint.split("://")
        options += [
            f"ENDPOINT {_literal(host)}",
            "URL_STYLE 'path'",
            f"USE_SSL {str(scheme == 'https').lower()}",
        ]
    return ", ".join(options)


def pyiceberg(address: "LakeAddress", tables: Mapping[str, str], _: "Epoch | None") -> str:
    properties = f", {_properties(address)!r}" if address.remote else ""
    return PYICEBERG.format(locations=_dictionary(tables), properties=properties, first=next(iter(tables)))


def polars(address: "LakeAddress", tables: Mapping[str, str], _: "Epoch | None") -> str:
    options = f", storage_options={_properties(address)!r}" if address.remote else ""
    return POLARS.format(locations=_dictionary(tables), options=options, first=next(iter(tables)))


def _properties(address: "LakeAddress") -> dict[str, str]:
    from lakehouse.table.s3 import client_properties

    return client_properties(address)


def daft(_: "LakeAddress", tables: Mapping[str, str], __: "Epoch | None") -> str:
    return DAFT.format(locations=_dictionary(tables), first=next(iter(tables)))


def chdb(address: "LakeAddress", tables: Mapping[str, str], epoch: "Epoch | None") -> str:
    views = {}
    for name, location in tables.items():
        folder, _, file = address.relative(location).partition("/")
        setting = f"iceberg_metadata_file_path = {_literal(file)}" if file else "iceberg_use_version_hint = 1"
        views[_backquoted(name)] = f"{_literal(folder)}, SETTINGS {setting}"
    query = f"SELECT * FROM {next(iter(views))} LIMIT 10"  # noqa: S608
    return CHDB.format(root=address.root, tables=_dictionary(views), query=query)


def spark(address: "LakeAddress", tables: Mapping[str, str], epoch: "Epoch | None") -> str:
    if PATTERN.search(address.root):
        raise UsageError(
            f"spark reads {address.root} as a pattern, because of its special characters: move the lake, "
            "or use another reader"
        )
    manifest = f'(LAKE / "epochs/{epoch.number:05d}.json")' if epoch else 'max(LAKE.glob("epochs/*.json"))'
    return SPARK.format(root=address.root, manifest=manifest, first=next(iter(tables)))


def trino(address: "LakeAddress", tables: Mapping[str, str], _: "Epoch | None") -> str:
    if not address.remote:
        raise UsageError(
            f"trino cannot read {address.root}: its metadata has paths without a scheme; publish to "
            "s3://bucket/prefix (--lake), or use another reader"
        )
    lines = [
        "-- The catalog `iceberg` needs iceberg.register-table-procedure.enabled=true.",
        "CREATE SCHEMA IF NOT EXISTS iceberg.ridelake;",
    ]
    for name, location in tables.items():
        folder, _metadata, file = location.rsplit("/", 2)
        lines.append(
            f"CALL iceberg.system.register_table(schema_name => 'ridelake', table_name => {_literal(name)}, "
            f"table_location => {_literal(folder)}, metadata_file_name => {_literal(file)});"
        )
    first = _identifier(next(iter(tables)))
    return "\n".join([*lines, f"SELECT * FROM iceberg.ridelake.{first} LIMIT 10;", ""])  # noqa: S608


Snippet = Callable[["LakeAddress", Mapping[str, str], "Epoch | None"], str]
READERS: dict[str, Snippet] = {
    "duckdb": duckdb, "polars": polars, "pyiceberg": pyiceberg, "daft": daft, "chdb": chdb, "spark": spark,
    "trino": trino,
}  # fmt: skip
NOT_ON_S3 = ("daft", "chdb", "spark")


def rest(settings: Settings, reader: str, url: str, names: list[str], number: int | None) -> str:
    """A program that reads the tables from the catalog server at `url`. Raises UsageError if the reader has
    no program."""
    warehouse = "newest" if number is None else f"epoch-{number}"
    if reader == "duckdb":
        access = "TOKEN 'the token of the server'" if settings.catalog_token else "AUTHORIZATION_TYPE 'none'"
        options = f"TYPE iceberg, ENDPOINT {_literal(url)}, ACCESS_DELEGATION_MODE 'none', {access}"
        first = f"lake.ridelake.{_identifier(names[0])}"
        lines = [*_duckdb_start(settings.lake), f"ATTACH '{warehouse}' AS lake ({options});"]
        return "\n".join([*lines, f"FROM {first} LIMIT 10;", ""])
    if reader not in REST_VALUES:
        raise UsageError(
            f"there is no program for {reader} and --rest: use one of {', '.join(REST_READERS)}, or see "
            "docs/catalog.md"
        )
    imports, values, value, show = REST_VALUES[reader]
    if reader == "polars" and settings.lake.remote:  # it reads the files itself
        options = repr(_properties(settings.lake)).replace("{", "{{").replace("}", "}}")
        value = f"pl.scan_iceberg({{}}, storage_options={options})"
    token = ', token=environ["RIDELAKE_CATALOG_TOKEN"]' if settings.catalog_token else ""
    return REST.format(
        imports=f"from os import environ\n\n{imports}" if token else imports,
        url=url, warehouse=warehouse, token=token,
        values=values, value=value.format('catalog.load_table(("ridelake", name))'), names=names,
        show=show.format(names[0]),
    )  # fmt: skip


@click.command()
@click.argument("reader", type=click.Choice(list(READERS)), metavar=f"[{'|'.join(READERS)}]")
@click.argument("table", required=False)
@click.option(
    "--epoch", "number", type=click.IntRange(min=1, max=10**9), metavar="N",
    help="Read this epoch; one state of all tables [the newest state of each table].",
)  # fmt: skip
@click.option("--rest", "url", metavar="URL", help="Read from `ridelake catalog serve` at this address.")
@click.pass_obj
def connect(settings: Settings, reader: str, table: str | None, number: int | None, url: str | None) -> None:
    """Print a program that reads a TABLE of the lake, or all tables, without ridelake.

    The program omits deleted rows. Without --epoch, it reads the newest state of each table each time it
    runs; with --rest, all tables at the newest epoch. For Trino, it registers the current state. `ridelake
    maintain` expires an epoch once 100 newer ones exist.

    \b
        ridelake connect duckdb rides
        ridelake connect polars shop.orders --epoch 42
    """
    from lakehouse.table.published import newest_epoch, numbered_epoch

    address = settings.lake
    if url is not None and not re.fullmatch(r"https?://[^\s\"'/?#]+(/[^\s\"'?#]*)?", url):
        raise UsageError(f"--rest takes the address of a catalog such as http://127.0.0.1:8181, not {url}")
    if address.remote and reader in NOT_ON_S3 and (url is None or reader not in REST_READERS):
        others = ", ".join(name for name in READERS if name not in NOT_ON_S3)
        raise UsageError(f"{reader} cannot read the lake {address.root} on S3 this way: use one of {others}")
    epoch = newest_epoch(address) if number is None else numbered_epoch(address, number)
    names = sorted(epoch.tables) if table is None else [epoch.find_table(table)]
    if url is not None:
        say(rest(settings, reader, url.rstrip("/"), names, number).rstrip())
        return
    pinned = epoch if number is not None or reader == "trino" else None
    found = _locations(address, epoch, names, pinned=pinned is not None)
    say(READERS[reader](address, found, pinned).rstrip())


def _locations(address: "LakeAddress", epoch: "Epoch", names: list[str], *, pinned: bool) -> dict[str, str]:
    """The folder of each table, or its metadata file in the epoch: if `pinned`, or if the lake is of an older
    version, which wrote no hints."""
    from lakehouse.table.layout import hint_location
    from lakehouse.table.storage import Storage

    storage = Storage.of(address)
    found = {}
    for name in names:
        hint = hint_location(address, name)
        has_hint = not pinned and storage.exists(hint)
        found[name] = hint.rsplit("/", 2)[0] if has_hint else epoch.tables[name].metadata
    return found


def _dictionary(values: Mapping[str, str]) -> str:
    return "\n".join(["{", *(f"    {name!r}: {value!r}," for name, value in values.items()), "}"])


def _literal(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))


def _identifier(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _backquoted(name: str) -> str:
    return "`{}`".format(name.replace("\\", "\\\\").replace("`", "\\`"))
