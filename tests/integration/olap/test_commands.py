"""`ridelake sql` and `ridelake ask` in shell scripts."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from factories import Town
from terminal import Done, place_options
from terminal import ridelake as run_here

from lakehouse.engines import BASE_ENGINES
from olap.question import questions
from oltp.store import Store
from ridelake.settings import LakeAddress, Settings

AVERAGE_PRICE = "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"
CITIES = "SELECT city_id, name FROM cities ORDER BY city_id LIMIT 2"


@pytest.fixture
def settings(settings_once: Settings) -> Settings:
    return settings_once


def ridelake(settings: Settings, *arguments: str, stdin: str | bytes = b"") -> Done:
    return run_here(*arguments, *place_options(settings), stdin=stdin)


def test_a_query_is_read_from_an_argument_a_file_or_a_pipe(settings: Settings, tmp_path: Path):
    file = tmp_path / "cities.sql"
    file.write_text(f"-- two cities\n{CITIES};\n")
    calls = [
        ridelake(settings, "sql", CITIES),
        ridelake(settings, "sql", "-f", str(file)),
        ridelake(settings, "sql", "-", stdin=CITIES),
        ridelake(settings, "sql", stdin=f"{CITIES};\n"),
    ]
    for done in calls:
        assert (done.returncode, done.stdout) == (0, "city_id,name\n1,Stanford\n2,San Francisco\n"), (
            done.stderr
        )
        assert done.stderr.startswith("2 rows in 0.")
        assert "duckdb" in done.stderr
        assert "epoch 1" in done.stderr


@pytest.mark.slow
def test_only_the_answer_is_on_stdout_in_each_format(settings: Settings):
    def out(*options: str) -> str:
        done = ridelake(settings, "sql", CITIES, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    rows = [{"city_id": 1, "name": "Stanford"}, {"city_id": 2, "name": "San Francisco"}]
    assert json.loads(out("--format", "json")) == rows
    assert [json.loads(line) for line in out("--format", "jsonl").splitlines()] == rows
    assert out("--format", "markdown").startswith("| city_id | name |\n| --: | --- |\n| 1 | Stanford |")
    assert out("--format", "table").splitlines()[:2] == ["city_id  name", "integer  text"]
    assert out("--format", "csv", "--limit", "1") == "city_id,name\n1,Stanford\n"


@pytest.mark.slow
def test_every_engine_gives_the_same_average_price(settings: Settings):
    done = ridelake(settings, "sql", AVERAGE_PRICE, "--engine", "all", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("✓") >= len(BASE_ENGINES)
    (row,) = json.loads(done.stdout)
    for name in ("postgres", "duckdb", "polars"):
        alone = ridelake(settings, "sql", AVERAGE_PRICE, "--engine", name)
        assert float(alone.stdout.splitlines()[1]) == pytest.approx(*row.values(), rel=1e-9)


def test_a_limited_answer_is_reported_and_a_pipe_gets_all_rows(settings: Settings):
    done = ridelake(settings, "sql", "SELECT ride_id FROM rides", "--format", "table", "--limit", "100")
    assert len(done.stdout.splitlines()) == 3 + 100
    assert "the first 100 of 2,000 rows; --limit 0 shows all" in done.stderr
    for more in ((), ("--limit", "0")):
        done = ridelake(settings, "sql", "SELECT ride_id FROM rides", "--format", "table", *more)
        assert len(done.stdout.splitlines()) == 3 + 2_000
        assert "shows all" not in done.stderr


@pytest.mark.slow
def test_a_parameter_is_bound_by_every_engine(settings: Settings):
    query = "SELECT name FROM cities WHERE city_id = $n OR name = $name OR name = $attack ORDER BY name"
    values = ["-p", "n=1", "-p", "name=Austin", "-p", "attack=x' OR '1'='1"]
    done = ridelake(settings, "sql", query, *values, "--engine", "all")
    assert (done.returncode, done.stdout) == (0, "name\nAustin\nStanford\n"), done.stderr
    asked = ridelake(settings, "ask", "ride_by_id", "-p", "ride_id=7", "--format", "json")
    assert json.loads(asked.stdout)[0]["ride_id"] == 7
    report = json.loads(ridelake(settings, "ask", "driver_ranking", "-p", "alpha=0.3", "--json").stdout)
    assert report["parameters"] == {"alpha": "0.3", "beta": "0.5"}


def test_an_answer_is_written_to_a_file_and_messages_to_stderr(settings: Settings, tmp_path: Path):
    file = tmp_path / "cities.parquet"
    done = ridelake(settings, "sql", CITIES, "-o", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("2 rows in 0.")
    assert pq.read_table(file).to_pylist()[0] == {"city_id": 1, "name": "Stanford"}
    before = file.read_bytes()
    done = ridelake(settings, "sql", "SELECT nothing FROM cities", "-o", str(file))
    assert (done.returncode, file.read_bytes()) == (1, before)
    piped = ridelake(settings, "sql", CITIES, "--format", "none")
    assert (piped.returncode, piped.stdout) == (0, "")


ENDLESS = (
    "SELECT COUNT(*) FROM rides a, rides b, rides c, rides d"
    " WHERE a.fare_cents * b.fare_cents % 7 + c.fare_cents * d.fare_cents % 11 = 3"
)


@pytest.mark.parametrize("name", ["postgres", "duckdb", "polars"])
def test_a_timeout_is_exit_code_4_and_one_line(settings: Settings, name: str):
    started = time.monotonic()
    done = ridelake(settings, "sql", ENDLESS, "--engine", name, "--timeout", "0.5")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        f"ridelake: {name}: cancelled after 0.5 s without an answer; raise the limit (--timeout), "
        "or query fewer rows\n"
    )
    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_the_report_has_engines_seconds_rows_and_a_common_checksum(settings: Settings):
    base = ",".join(BASE_ENGINES)
    done = ridelake(settings, "ask", "revenue_by_city_and_month", "--json", "--engine", base)
    report = json.loads(done.stdout)
    assert (report["question"], report["epoch"], report["equal"]) == ("revenue_by_city_and_month", 1, True)
    assert [run["engine"] for run in report["engines"]] == list(BASE_ENGINES)
    assert all(run["seconds"] > 0 and run["rows"] == report["rows"] for run in report["engines"])
    for name in ("postgres", "duckdb", "polars"):
        alone = json.loads(
            ridelake(settings, "ask", "revenue_by_city_and_month", "--json", "--engine", name).stdout
        )
        assert alone["checksum"] == report["checksum"]


def test_the_list_of_questions_needs_neither_store_nor_lake(tmp_path: Path):
    nowhere = Settings(home=tmp_path / "no", lake=LakeAddress.at(tmp_path / "none"))
    done = ridelake(nowhere, "ask")
    assert done.returncode == 0
    assert all(name in done.stdout for name in questions())
    listed = json.loads(ridelake(nowhere, "ask", "--json").stdout)
    assert {row["question"]: row["purpose"] for row in listed} == {
        q.name: q.purpose for q in questions().values()
    }
    (ranking,) = (row for row in listed if row["question"] == "driver_ranking")
    assert set(ranking["parameters"]) == {"alpha", "beta"}
    assert not nowhere.home.exists()


def test_an_sql_error_shows_the_message_of_the_engine_and_a_caret(settings: Settings):
    done = ridelake(settings, "sql", "SELECT Prise FROM RideTable", "--engine", "postgres")
    assert (done.returncode, done.stdout) == (1, "")
    line, caret, *_, sentence = done.stderr.splitlines()
    assert line == "LINE 1: SELECT Prise FROM RideTable"
    assert caret.index("^") == line.index("Prise")
    assert sentence == 'ridelake: postgres: column "prise" does not exist'
    for name in ("duckdb", "polars"):
        done = ridelake(settings, "sql", "SELECT Prise FROM RideTable", "--engine", name)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines()[-1].startswith(f"ridelake: {name}: ")
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_engine_that_rejects_the_query_is_named_and_fails_the_command(settings: Settings):
    query = "SELECT CAST(percentile_disc(0.5) WITHIN GROUP (ORDER BY fare_cents) AS BIGINT) FROM rides"
    done = ridelake(settings, "sql", query, "--engine", "postgres,duckdb,polars")
    assert done.returncode == 1
    assert done.stderr.count("✓") == 2
    assert "refused" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ridelake: polars: ")
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.slow
def test_a_wrong_call_is_exit_code_2_and_one_line(settings: Settings, tmp_path: Path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    no_epoch = Settings(home=settings.home, lake=LakeAddress.at(tmp_path / "empty"))
    calls = {
        "there is no engine 'oracle': choose from": ridelake(settings, "sql", CITIES, "--engine", "oracle"),
        "cannot read nowhere.sql": ridelake(settings, "sql", "-f", "nowhere.sql"),
        "is not text in UTF-8": ridelake(settings, "sql", "-f", str(tmp_path / "image.png")),
        "stdin is not text in UTF-8": ridelake(settings, "sql", "-", stdin=b"\xff"),
        "there are two queries": ridelake(settings, "sql", CITIES, "-f", "x.sql"),
        "no query; give one": ridelake(settings, "sql"),
        "no epoch yet": ridelake(no_epoch, "sql", CITIES),
        "run `ridelake snapshot`": ridelake(no_epoch, "ask", "average_price"),
        "did you mean average_price": ridelake(settings, "ask", "average_prise"),
        "'yaml' is not one of": ridelake(settings, "sql", CITIES, "--format", "yaml"),
        "-p takes name=value": ridelake(settings, "sql", CITIES, "-p", "alpha"),
        "$n of the query has no value: pass it with -p n=VALUE": ridelake(settings, "sql", "SELECT $n"),
        "the query has no parameter $n": ridelake(settings, "sql", CITIES, "-p", "n=1"),
        "driver_ranking has no parameter n": ridelake(settings, "ask", "driver_ranking", "-p", "n=1"),
        "no format is known for the suffix of x.xls": ridelake(settings, "sql", CITIES, "-o", "x.xls"),
        "--json prints a report": ridelake(settings, "sql", CITIES, "-o", "x.csv", "--json"),
        "'--timeout': nan": ridelake(settings, "sql", CITIES, "--timeout", "nan"),
        "'--timeout': 0: must be": ridelake(settings, "sql", CITIES, "--timeout", "0"),
        "'--timeout': -1: must be": ridelake(settings, "sql", CITIES, "--timeout", "-1"),
        "'abc' is not a number": ridelake(settings, "sql", CITIES, "--timeout", "abc"),
        "'abc' is not a whole number": ridelake(settings, "sql", CITIES, "--limit", "abc"),
        "'--limit': -1 is not in the range": ridelake(settings, "sql", CITIES, "--limit", "-1"),
        "there is no epoch 9, the newest is 1": ridelake(settings, "sql", CITIES, "--as-of", "9"),
        "--as-of must be an epoch number": ridelake(settings, "sql", CITIES, "--as-of", "abc"),
        "no query; give one, as in": ridelake(settings, "sql", "-- a comment alone"),
        "this is 2 statements; give one": ridelake(settings, "sql", "SELECT 1; SELECT 2"),
        "Is a directory; name a file": ridelake(settings, "sql", "-f", str(tmp_path)),
        "-o has an empty file name": ridelake(settings, "sql", CITIES, "-o", ""),
        "is a folder; name a file in it": ridelake(settings, "sql", CITIES, "-o", str(tmp_path)),
    }
    for message, done in calls.items():
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_query_may_begin_with_a_comment_and_end_with_several_semicolons(settings: Settings):
    for query in ("-- two; cities\n" + CITIES, "--two\n" + CITIES, CITIES + ";; -- end", "/* a */" + CITIES):
        done = ridelake(settings, "sql", query)
        assert (done.returncode, done.stdout.count("\n")) == (0, 3), done.stderr


def test_postgres_answers_before_the_first_epoch(settings: Settings, tmp_path: Path):
    no_epoch = Settings(home=settings.home, lake=LakeAddress.at(tmp_path / "empty"), dsn=settings.dsn)
    done = ridelake(no_epoch, "sql", CITIES, "--engine", "postgres")
    assert (done.returncode, done.stdout.count("\n")) == (0, 3)
    assert "the rows as of now" in done.stderr


def test_an_unreachable_server_is_exit_code_3(settings: Settings, tmp_path: Path):
    unreachable = Settings(home=settings.home, lake=settings.lake, dsn=f"host={tmp_path} dbname=none")
    done = ridelake(unreachable, "sql", CITIES, "--engine", "postgres")
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot connect to Postgres" in done.stderr


@pytest.mark.slow
def test_ctrl_c_is_exit_code_130_and_cancels_the_query_in_the_server(settings: Settings, seeded_store: Store):
    endless = "SELECT COUNT(*) FROM generate_series(1, 10000000000000) AS r(i) WHERE i % 7 = 3"
    started = subprocess.Popen(
        [sys.executable, "-m", "ridelake", "sql", endless, "--engine", "postgres", *place_options(settings)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Background jobs ignore SIGINT by default.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_until(lambda: running(seeded_store, "generate_series"))
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=20)
    finally:
        started.kill()
    assert (started.returncode, out) == (130, b"")
    assert err.strip() == b"ridelake: interrupted"
    wait_until(lambda: not running(seeded_store, "generate_series"))


@pytest.mark.slow
def test_a_query_on_duckdb_imports_only_what_it_needs(settings: Settings):
    """So that a query takes less than half a second."""
    code = (
        "import sys; from ridelake.__main__ import _run; assert _run(sys.argv[1:]) == 0;"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--lake", settings.lake.root, "sql", CITIES],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"duckdb", "pyarrow"} < loaded
    assert not loaded & {
        "polars",
        "pyiceberg",
        "sqlalchemy",
        "psycopg",
        "pandas",
        "rich",
        "sqlglot",
        "prompt_toolkit",
    }


def running(store: Store, text: str) -> bool:
    query = (
        "SELECT FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE %s"
    )
    return bool(Town(store).ask(query, f"%{text}%"))


def wait_until(holds) -> None:
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("the condition did not hold within 30 s")
