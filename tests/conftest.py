"""Fixtures with a real Postgres server: one embedded server per run, one database per test."""

import fcntl
import itertools
import os
import pwd
import readline  # noqa: F401  (see pytest_configure)
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path

import psycopg
import pytest
from old_pair import DEBIAN_15
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from oltp.cluster.server import Cluster, open_cluster
from oltp.ingest.seed import seed_rides
from oltp.store import Store, ensure_database, open_database

REAL_DATA = Path(os.environ.get("RIDELAKE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
RUN_HOME = "RIDELAKE_TEST_HOME"
IN_MEMORY = Path("/dev/shm")
IN_MEMORY_BYTES_MIN = 12 * 2**30
SEEDED_RIDES = 2_000
SECONDS_MAX = 300.0  # the default timeout of a test, as in pyproject.toml
_numbers = itertools.count()


def pytest_report_header() -> str:
    return f"real trip files: {REAL_DATA if REAL_DATA.is_dir() else 'none (set RIDELAKE_TEST_DATA)'}"


@pytest.hookimpl(tryfirst=True)  # before pytest chooses the folder for temporary files
def pytest_configure(config: pytest.Config) -> None:
    """Create the folder of the run: for its server and for all temporary files. Parallel workers get its path
    from the environment. It is not below pytest's temporary folder: pytest makes that folder private to its
    owner at each run, and a server that runs as another user could no longer enter it."""
    # Output wraps at COLUMNS, and a pager starts at LINES. Tests of them set them. Loading readline sets both
    # in the environment of child processes.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
        os.unsetenv(name)
    # Write bytecode files. Otherwise every worker and every child process compiles all modules again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if not hasattr(config, "workerinput"):
        home = tempfile.mkdtemp(prefix="ridelake-tests-", dir=_folder_in_memory())
        Path(home).chmod(0o711)  # servers below it run as other users
        os.environ[RUN_HOME] = os.environ["TMPDIR"] = tempfile.tempdir = home
        config.option.basetemp = config.option.basetemp or str(Path(os.environ[RUN_HOME], "tmp"))


def _folder_in_memory() -> Path | None:
    """/dev/shm if it has enough free space, otherwise None. Creating a database copies 300 files, which takes
    several times as long on a disk."""
    if not IN_MEMORY.is_dir() or shutil.disk_usage(IN_MEMORY).free < IN_MEMORY_BYTES_MIN:
        return None
    return IN_MEMORY


@pytest.hookimpl(trylast=True)  # after the deselection of tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests with the longest timeouts first: a long test that starts last would run alone. The other
    tests keep their order, so that the tests of a module share its fixtures. `--dist worksteal` gives each
    worker a contiguous part of the list. Each part begins with an equal share of the longest tests."""
    items.sort(key=_seconds_max, reverse=True)
    longest = [item for item in items if _seconds_max(item) > SECONDS_MAX]
    others = items[len(longest) :]
    size = len(items)
    items.clear()
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    for worker in range(workers):
        part = longest[worker::workers]
        filling = max((size - len(items)) // (workers - worker) - len(part), 0)
        items += part + others[:filling]
        del others[:filling]
    items += others


def _seconds_max(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return max(float(marker.args[0]), SECONDS_MAX) if marker else SECONDS_MAX


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        # multiprocessing removes its folder in `home` at exit, with priority -100. Then `home` is removed.
        home = os.environ.pop(RUN_HOME)
        Finalize(None, shutil.rmtree, (home,), {"ignore_errors": True}, exitpriority=-200)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The server of the run, shared by parallel workers."""
    with open_cluster(Path(os.environ[RUN_HOME])) as cluster:
        with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
            # Without fsync, the checkpoint of a DROP DATABASE does not wait for the disk. No test simulates a
            # power failure, and tests that kill a server start a separate one.
            admin.execute("ALTER SYSTEM SET fsync = off")
            admin.execute("SELECT pg_reload_conf()")
        yield cluster


@pytest.fixture(scope="session")
def templates(cluster: Cluster) -> dict[str, str]:
    """Template databases: `empty` has the schema, `seeded` also 2,000 rides."""
    with (cluster.folder / "templates.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, rides in (("template_empty", 0), ("template_seeded", SEEDED_RIDES)):
            if not _exists(cluster, name):
                ensure_database(cluster.conninfo("postgres"), f"{name}_draft")
                store = open_database(cluster.conninfo(f"{name}_draft"))
                if rides:
                    seed_rides(store, rides, seed=1)
                _rename(cluster, f"{name}_draft", name)
    return {"empty": "template_empty", "seeded": "template_seeded"}


@pytest.fixture
def store(cluster: Cluster, templates: dict[str, str]) -> Iterator[Store]:
    """A new store with the schema and the zones, without riders and drivers."""
    with _copy_of(cluster, templates["empty"]) as store:
        yield store


@pytest.fixture
def seeded_store(cluster: Cluster, templates: dict[str, str]) -> Iterator[Store]:
    """A new store with 2,000 past rides, and their riders and drivers."""
    with _copy_of(cluster, templates["seeded"]) as store:
        yield store


@pytest.fixture
def other_seeded_store(cluster: Cluster, templates: dict[str, str]) -> Iterator[Store]:
    """A second store on the same server, for a lake of several stores."""
    with _copy_of(cluster, templates["seeded"]) as store:
        yield store


@pytest.fixture(scope="module")
def store_once(cluster: Cluster, templates: dict[str, str]) -> Iterator[Store]:
    """Like `store`, once per module."""
    with _copy_of(cluster, templates["empty"]) as store:
        yield store


@pytest.fixture(scope="module")
def seeded_store_once(cluster: Cluster, templates: dict[str, str]) -> Iterator[Store]:
    """Like `seeded_store`, once per module, for tests that do not change it."""
    with _copy_of(cluster, templates["seeded"]) as store:
        yield store


@pytest.fixture(scope="module")
def other_seeded_store_once(cluster: Cluster, templates: dict[str, str]) -> Iterator[Store]:
    with _copy_of(cluster, templates["seeded"]) as store:
        yield store


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip("there are no real trip files; set RIDELAKE_TEST_DATA to their folder")
    return REAL_DATA


@pytest.fixture(scope="session")
def postgres_15() -> Iterator[str]:
    """The DSN of a server of the oldest supported version; skips the test if it is not installed."""
    if not (DEBIAN_15 / "pg_ctl").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    account = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="ridelake-15-"))
    if account is not None:
        os.chown(folder, account, -1)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [DEBIAN_15 / program, "-D", folder / "data", *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            user=account,
        )

    run("initdb", "--auth=trust", "--username=ridelake", "--no-sync")
    run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses=''")
    yield make_conninfo(host=str(folder), user="ridelake", dbname="postgres")
    run("pg_ctl", "stop", "-w", "-m", "immediate")
    shutil.rmtree(folder)


@contextmanager
def _copy_of(cluster: Cluster, template: str) -> Iterator[Store]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
        try:
            yield open_database(cluster.conninfo(name))
        finally:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def _exists(cluster: Cluster, name: str) -> bool:
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        return admin.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None


def _rename(cluster: Cluster, old: str, new: str) -> None:
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(SQL("ALTER DATABASE {} RENAME TO {}").format(Identifier(old), Identifier(new)))
