"""Mistakes on the command line: the exit code, one line on stderr, and no file in the current folder."""

import io
import os
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from bare_database import run
from made_up_records import record, write

import ridelake.__main__ as front_door
from oltp.store import Store

# Mistakes of a user who knows README.md and `ridelake --help`. RIDELAKE_DSN and RIDELAKE_LAKE are set.
FIRST_USE = [
    ("rides seed", 2, "run `ridelake help` for the list"),
    ("engine", 2, "did you mean engines?"),
    ("seed 1000", 2, "see `ridelake seed --help`"),
    ("seed --rides 10k", 2, "'10k' is not a whole number"),
    ("seed --rides 1,000", 2, "'1,000' is not a whole number"),
    ("seed --rides 99999999999999999999", 2, "is not in the range 1<=x<=1000000000"),
    ("sql SELECT count from rides", 2, "put it in quotes"),
    ("sql", 2, "no query; give one"),
    ("sql 'SELECT * FROM RideTable WHERE City = \"Stanford\"'", 1, "single quotes: 'Stanford'"),
    ('sql "SELECT * FROM RideTable WHERE City = ‘Stanford’"', 1, "typographic; write 'Stanford'"),
    ("sql 'SELECT * FROM ride'", 1, 'Did you mean "rides"?'),
    ("sql 'SELECT AVG(Price FROM RideTable'", 1, "syntax error"),
    ("sql 'DELETE FROM rides'", 1, "DELETE is not allowed, because an epoch is read-only: use SELECT"),
    ("sql 'SELECT 1' --engine postgress", 2, "did you mean postgres?"),
    ("sql 'SELECT 1' --timeout 5s", 2, "'5s' is not a number"),
    ("sql 'SELECT 1' --limit -1", 2, "--limit"),
    ("sql 'SELECT 1' --as-of 99", 2, "there is no epoch 99, the newest is 1: see `ridelake epochs`"),
    ("sql 'SELECT 1' --as-of 31.12.2025", 2, "a time such as 2026-07-01T12:00:00+00:00"),
    ("sql 'SELECT 1' -o folder", 2, "folder is a folder; name a file in it"),
    ("sql 'SELECT 1' -o answer.xlsx", 2, "the suffix of answer.xlsx; use .csv"),
    (
        "sql 'SELECT 1' -o answer.csv --format parquet",
        2,
        "--format parquet does not match the suffix of answer.csv",
    ),
    ("sql -f absent.sql", 2, "name a file with a query"),
    ("sql -f latin1.sql", 2, "not text in UTF-8; convert it"),
    ("ask tipshare", 2, "did you mean tip_share?"),
    ("ask driver_ranking -p alpha=0,3", 2, "parameter alpha takes a number, not '0,3'"),
    ("verify 77", 2, "there is no epoch 77"),
    ("--dsn mysql://root:secret@localhost/db status", 3, "write postgresql://user@host:5432/database"),
    ("--dsn localhost:5432 snapshot", 3, "write postgresql://user@host:5432/database"),
    ("--dsn postgresql://127.0.0.1:1/x snapshot", 3, "Start the server or correct --dsn"),
    ("load folder", 2, "folder is a folder: name the files in it"),
    ("load https://example.org/trips.parquet", 2, "download it"),
    ("report absent.json", 2, "run `ridelake bench`"),
    ("report list.json", 2, "list.json is not a record of `ridelake bench`: name another file"),
    ("RIDELAKE_HOME=list.json RIDELAKE_DSN= up", 2, "choose another folder with --home"),
]

# Mistakes that are found by reading the code.
FROM_THE_CODE = [
    ("--lake gs://bucket/x epochs", 2, "give a folder or s3://bucket/prefix"),
    ("--lake list.json epochs", 2, "choose another folder with --lake"),
    ("--lake s3:// epochs", 2, "is not s3://bucket/prefix"),
    ("--catalog nonsense epochs", 2, "--catalog must be a SQLAlchemy URL"),
    ("--spark-master nonsense status", 2, "--spark-master takes local[4]"),
    ("RIDELAKE_S3_ENDPOINT=nonsense epochs", 2, "RIDELAKE_S3_ENDPOINT takes an address"),
    ("--dsn 'host=localhost prot=5432' audit", 3, 'invalid connection option "prot"'),
    ("--dsn 'host=/nowhere' acid", 3, "correct --dsn"),
    ("acid --dsn mysql://root:secret@localhost/db", 3, "write postgresql://user@host:5432/database"),
    ("--dsn x=y down", 2, "leave out --dsn"),
    ("RIDELAKE_DSN= audit", 2, "run `ridelake seed`"),
    ("RIDELAKE_DSN= track shop.orders", 2, "pass the database of the table with --dsn"),
    ("RIDELAKE_DSN= untrack shop.orders", 2, "pass the database of the table with --dsn"),
    ("track shop.absent", 2, "write SCHEMA.TABLE as in SQL, and check --dsn"),
    ("track shop.Big", 2, 'did you mean shop."Big"'),
    ("track shop.recent", 2, "shop.recent is not a table: pass the name of a table"),
    ("track shop.keyless", 2, "shop.keyless has no primary key"),
    ("track a.b.c", 2, "write it as in SQL"),
    ("track pg_catalog.pg_class", 2, "is a system catalog: name a table of your own"),
    ("track ''", 2, "there is no table ''"),
    ("untrack shop.orders", 2, "shop.orders is not tracked: there is nothing to remove"),
    ("untrack rides", 2, "the ride store needs its tracking; name a table of your own"),
    ("snapshot --without-column rides.absent", 2, "write TABLE.COLUMN"),
    ("snapshot --without-column rides.ride_id", 2, "it is part of the primary key"),
    ("sync --once --every 5", 2, "--once publishes one epoch and --every repeats: give one of them"),
    ("sync --every -1", 2, "--every"),
    ("maintain --keep all", 2, "'all' is not a whole number"),
    ("verify 0", 2, "is not in the range"),
    ("--lake new verify", 2, "run `ridelake snapshot`"),
    ("--lake new maintain", 2, "run `ridelake snapshot`"),
    ("--lake {lakes}/no_files sql 'SELECT 1'", 1, "is missing; restore the file"),
    ("--lake {lakes}/no_files sql 'SELECT 1' --engine pyarrow", 1, "is missing; restore the file"),
    ("--lake {lakes}/no_files sql 'SELECT 1' --fresh", 1, "is missing; restore the file"),
    ("--lake {lakes}/no_files xray", 1, "is missing; restore the file"),
    ("--lake {lakes}/no_files audit", 1, "is missing; restore the file"),
    ("--lake {lakes}/no_catalog sql 'SELECT 1'", 2, "does not list: pass the catalog they were"),
    ("--lake {lakes}/bad_catalog sql 'SELECT 1'", 2, "cannot be read as a catalog"),
    ("--lake {lakes}/newer sql 'SELECT 1'", 2, "of a newer version of ridelake"),
    ("--lake {lakes}/newer sync --once", 2, "of a newer version of ridelake"),
    ("sql 'SELECT 1; SELECT 2'", 2, "this is 2 statements; give one"),
    ("sql 'SELECT 1' -f crlf.sql", 2, "give one as an argument or with -f"),
    ("sql -f comment.sql", 2, "no query; give one"),
    ("sql \"SELECT '\udcff'\"", 2, "the query is not UTF-8"),
    ("sql 'SELECT $a' -p a=\udcff", 2, "is not UTF-8; set the terminal to UTF-8"),
    ("sql 'SELECT $a'", 2, "pass it with -p a=VALUE"),
    ("sql 'SELECT 1' -p a", 2, "-p takes name=value"),
    ("sql 'SELECT 1' -p a=3", 2, "remove -p a"),
    ("sql 'SELECT 1' --json --format csv", 2, "give one of them"),
    ("sql 'SELECT 1' --json -o answer.csv", 2, "give one of them"),
    ("sql 'SELECT 1' --fresh --as-of 1", 2, "give one of them"),
    ("sql 'SELECT 1' --as-of 2020-01-01", 2, "no epoch was published at or before 2020-01-01"),
    ("sql 'SELECT 1' --timeout nan", 2, "must be from 0.001 to 1,000,000 seconds"),
    ("sql 'SELECT count(*) FROM range(1000000000000)' --timeout 0.2", 4, "raise the limit (--timeout)"),
    ("sql 'SELECT 1' -o /proc/answer.csv", 2, "name another file with -o"),
    ("sql 'SELECT 1' -o absent/answer.csv", 2, "does not exist; create it first"),
    ("sql 'SELECT 1' -o ''", 2, "-o has an empty file name"),
    ("sql 'SELECT 1' --engine duckdb,,polars", 2, "there is no engine ''"),
    ("ask driver_ranking -p aplha=0.3", 2, "did you mean alpha?"),
    ("xray --ride 999999999", 2, "choose another with --ride"),
    ("xray --column fare", 2, "choose one of"),
    ("load list.json", 2, "list.json is not a trip file"),
    ("load twice.csv", 2, "has two columns named 'fare': remove one of them"),
    ("load empty.csv", 2, "empty.csv is empty"),
    ("report broken.json", 2, "broken.json is not JSON"),
    ("report old.json", 2, "record format 0, and this version reads"),
    ("report folder", 2, "'folder' is a directory"),
    ("compare run.json run.json --threshold abc", 2, "abc"),
    ("compare run.json run.json --group x", 2, "write NAME=PERCENT"),
    ("bench --record folder", 2, "'folder' is a directory"),
    ("bench --quick --full", 2, "choose one of them"),
    ("bench --table absent.parquet", 2, "correct the path"),
    ("simulate --clients 100000", 2, "at most 150"),
]


@pytest.fixture(scope="module")
def store(seeded_store_once: Store) -> Store:
    """2,000 rides, and a schema `shop` with other tables, some of which cannot be in a lake."""
    run(
        seeded_store_once,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id int PRIMARY KEY)",
        "CREATE VIEW shop.recent AS SELECT * FROM shop.orders",
        'CREATE TABLE shop."Big" (id int PRIMARY KEY)',
        "CREATE TABLE shop.keyless (id int)",
    )
    return seeded_store_once


@pytest.fixture(scope="module")
def lakes(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole` is a lake with one epoch. The others are copies of it, each with one fault."""
    folder = tmp_path_factory.mktemp("lakes")
    whole = folder / "whole"
    assert front_door._run(["snapshot", "--dsn", store.conninfo, "--lake", str(whole)]) == 0
    for name in ("no_files", "no_catalog", "bad_catalog", "newer"):
        shutil.copytree(whole, folder / name)
    for file in (folder / "no_files").glob("*/data/*.parquet"):
        file.unlink()
    (folder / "no_catalog" / "catalog.sqlite").unlink()
    (folder / "bad_catalog" / "catalog.sqlite").write_text("not a database\n" * 100)
    with closing(sqlite3.connect(folder / "newer" / "catalog.sqlite")) as catalog:
        catalog.execute("UPDATE lake SET format = 99")
        catalog.commit()
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with files of the wrong kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    contents = {
        "latin1.sql": "SELECT 'é'".encode("latin1"),
        "crlf.sql": b"\xef\xbb\xbfSELECT 1 AS one\r\n",
        "comment.sql": b"-- nothing\n",
        "list.json": b"[1, 2]",
        "broken.json": b"{",
        "old.json": b'{"format": 0}',
        "empty.csv": b"",
        "twice.csv": b"fare,fare\n1,2\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    write(record(), tmp_path / "run.json")
    return tmp_path


@pytest.fixture
def environment(store: Store, lakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RIDELAKE_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)  # set by xdist; messages would wrap
    monkeypatch.setenv("RIDELAKE_DSN", store.conninfo)
    monkeypatch.setenv("RIDELAKE_LAKE", str(lakes / "whole"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


def call(line: str, lakes: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command line. As in a shell, variables may precede the command."""
    words = shlex.split(line.replace("{lakes}", str(lakes)))
    while "=" in words[0] and words[0].startswith("RIDELAKE_"):
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    return front_door._run(words)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("line", "exit_code", "phrase"), FIRST_USE + FROM_THE_CODE)
def test_a_mistake_gets_one_line_that_says_what_to_do(
    line: str, exit_code: int, phrase: str, lakes: Path, folder: Path, monkeypatch, capsys
):
    before = sorted(folder.rglob("*"))
    assert call(line, lakes, monkeypatch) == exit_code
    out, err = capsys.readouterr()
    *excerpt, last = err.splitlines()
    assert phrase in last
    assert last.startswith("ridelake: ")
    assert out == ""
    assert not excerpt or excerpt[0].startswith("LINE 1: ")  # the query with a caret
    assert "internal error" not in err
    assert "secret" not in err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.usefixtures("environment")
def test_an_audit_with_a_lake_of_some_tables_skips_the_last_condition(
    folder: Path, lakes: Path, monkeypatch, capsys
):
    assert call("snapshot --lake part --table ridelake.rides", lakes, monkeypatch) == 0
    assert call("audit --lake part", lakes, monkeypatch) == 0
    assert "F12 was not checked" in capsys.readouterr().err


@pytest.mark.usefixtures("environment", "folder")
def test_output_that_cannot_be_encoded_is_an_error(lakes: Path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True))
    assert call("sql \"SELECT 'é'\"", lakes, monkeypatch) == 1
    assert "set PYTHONIOENCODING=utf-8" in capsys.readouterr().err
