"""The embedded server: it is started on demand, shared by processes, restarted after a kill, and stopped when
no process uses it."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from lakehouse.source.tables import table_errors
from oltp.cluster import server
from oltp.cluster.process import binaries
from oltp.cluster.server import SOCKET_FOLDER_MAX_BYTES, Cluster, open_cluster
from ridelake.errors import CannotConnect, UsageError

USER = """
import sys, time
from pathlib import Path
from oltp.cluster.server import open_cluster
with open_cluster(Path(sys.argv[1])) as cluster:
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    cluster = Cluster(tmp_path / "home" / "postgres")
    cluster.held.unlink(missing_ok=True)
    assert stops(cluster), "a test left its server running"


def stops(cluster: Cluster, seconds: float = 20) -> bool:
    """Whether the server stops within `seconds`."""
    until = time.monotonic() + seconds
    while cluster.server_pid() is not None:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def answers(cluster: Cluster) -> bool:
    with psycopg.connect(cluster.conninfo("postgres")) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def another_user(home: Path, **environment: str) -> "subprocess.Popen[str]":
    user = subprocess.Popen(
        [sys.executable, "-c", USER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert user.stdout is not None
    assert user.stdout.readline() == "in\n"
    return user


def leave(user: "subprocess.Popen[str]") -> None:
    user.communicate(timeout=60)


def test_the_server_starts_serves_and_stops_with_its_user(home: Path):
    with open_cluster(home) as cluster:
        assert answers(cluster)
    assert cluster.server_pid() is None


@pytest.mark.slow
def test_the_server_listens_on_a_private_socket_and_on_no_port(home: Path):
    with open_cluster(home) as cluster:
        pid = cluster.server_pid()
        assert pid is not None
        assert psutil.Process(pid).net_connections("inet") == []
        assert cluster.socket_folder.stat().st_mode & 0o077 == 0
        assert cluster.data.stat().st_mode & 0o077 == 0


def test_the_server_keeps_at_most_300_mb_of_wal(home: Path):
    with open_cluster(home) as cluster, psycopg.connect(cluster.conninfo("postgres")) as connection:
        limits = connection.execute(
            "SELECT sum(setting::int) FROM pg_settings WHERE name IN ('max_wal_size', 'wal_keep_size')"
        ).fetchone()
    assert limits is not None
    assert limits[0] <= 300  # MB


@pytest.mark.slow
def test_a_second_process_shares_the_server_and_outlives_the_first(home: Path):
    with open_cluster(home) as cluster:
        pid = cluster.server_pid()
        user = another_user(home)
    assert cluster.server_pid() == pid  # the other process uses it
    assert answers(cluster)
    leave(user)
    assert cluster.server_pid() is None


@pytest.mark.slow
def test_ten_concurrent_first_users_get_one_server(home: Path):
    pids = []

    def use():
        with open_cluster(home) as cluster:
            pids.append(cluster.server_pid())
            time.sleep(0.5)

    users = [threading.Thread(target=use) for _ in range(10)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert len(pids) == 10
    assert None not in pids


@pytest.mark.slow
def test_the_server_stops_after_its_only_user_is_killed(home: Path):
    user = another_user(home)
    cluster = Cluster(home / "postgres")
    assert cluster.server_pid() is not None
    user.kill()
    user.communicate()
    assert stops(cluster)


def test_the_server_stops_after_its_only_user_is_killed_in_an_ascii_locale(tmp_path: Path):
    home = tmp_path / "café"
    user = another_user(home, LC_ALL="C")
    cluster = Cluster(home / "postgres")
    pid = cluster.server_pid()
    assert pid is not None
    user.kill()
    user.communicate()
    try:
        assert stops(cluster)
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGINT)


# pg_ctl that starts the server a second later, by a shell whose arguments do not name the data folder.
SLOW_PG_CTL = """#!/bin/sh
export DATA="$6" OPTIONS="${10}"
echo $$ > "$DATA/../pg_ctl.pid"
setsid /bin/sh -c 'echo $$ > "$DATA/../shell.pid"; sleep 1; eval exec POSTGRES -D "$DATA" "$OPTIONS"' &
wait
"""
SLOW_USER = """
import sys
from pathlib import Path
from oltp.cluster import process, server
process.binaries = lambda: Path(sys.argv[2])
with server.open_cluster(Path(sys.argv[1])):
    pass
"""


def test_a_server_that_starts_after_its_user_and_pg_ctl_were_killed_stops(home: Path, tmp_path: Path):
    with open_cluster(home) as cluster:
        pass
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "pg_ctl").write_text(SLOW_PG_CTL.replace("POSTGRES", shlex.quote(str(binaries() / "postgres"))))
    (folder / "pg_ctl").chmod(0o755)
    cluster.folder.chmod(0o777)  # the scripts write their process ids
    user = subprocess.Popen([sys.executable, "-c", SLOW_USER, str(home), str(folder)])
    shell = psutil.Process(read_pid(cluster.folder / "shell.pid"))
    user.kill()
    user.wait()
    os.kill(read_pid(cluster.folder / "pg_ctl.pid"), signal.SIGKILL)
    try:
        shell.wait(timeout=20)  # its process becomes the server's
    finally:
        if shell.is_running():
            shell.send_signal(signal.SIGINT)


def read_pid(file: Path) -> int:
    """The process id in the file, once it is written."""
    while not (file.exists() and file.read_text().endswith("\n")):
        time.sleep(0.01)
    return int(file.read_text())


INTERRUPTED = """
import signal, subprocess, sys
from pathlib import Path
from oltp.cluster import server
from ridelake import signals

class Interrupted(subprocess.Popen):
    def __init__(self, words, **options):
        super().__init__(words, **options)
        if str(words[0]).endswith("pg_ctl"):
            signal.raise_signal(signal.SIGINT)

subprocess.Popen = Interrupted
signals.GRACE_SECONDS = 30.0  # pg_ctl is slow on a busy machine
signals.install()
home = Path(sys.argv[1])
try:
    with server.open_cluster(home):
        pass
except KeyboardInterrupt:
    print(len(server.processes_in(home)))
"""


def test_ctrl_c_during_the_call_of_pg_ctl_does_not_lose_the_server(home: Path):
    with open_cluster(home):
        pass
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(home)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.timeout(60)
def test_an_error_of_the_shutdown_releases_the_server(home: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(cluster: Cluster) -> None:
        raise CannotConnect("injected")

    with monkeypatch.context() as patched:
        patched.setattr(server, "stop", fail)
        with pytest.raises(CannotConnect, match="injected"), open_cluster(home):
            pass
    with open_cluster(home) as cluster:
        assert answers(cluster)


@pytest.mark.timeout(60)
def test_a_user_waits_for_a_server_that_is_stopping(home: Path):
    with open_cluster(home) as cluster:
        pid = cluster.server_pid()
        assert pid is not None
        children = psutil.Process(pid).children()
        (checkpointer,) = (child for child in children if "checkpointer" in " ".join(child.cmdline()))
        checkpointer.suspend()  # the shutdown waits for it
        os.kill(pid, signal.SIGINT)
        time.sleep(0.5)
        threading.Timer(1.0, checkpointer.resume).start()
        with open_cluster(home) as again:
            assert answers(again)
            assert again.server_pid() != pid


def test_a_stale_pid_file_of_another_server_counts_as_no_server(home: Path, tmp_path: Path):
    with open_cluster(home) as cluster:
        written = (tmp_path / "home/postgres/data/postmaster.pid").read_text().split("\n")
    with open_cluster(tmp_path / "other") as other:
        (cluster.data / "postmaster.pid").write_text("\n".join([str(other.server_pid()), *written[1:]]))
        assert cluster.server_pid() is None
        with open_cluster(home) as again:
            assert answers(again)
        assert answers(other)


def test_a_killed_server_is_restarted_with_all_acknowledged_commits(home: Path):
    with (
        open_cluster(home) as cluster,
        psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as connection,
    ):
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        pid = cluster.server_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    with open_cluster(home) as again, psycopg.connect(again.conninfo("postgres")) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


@pytest.mark.slow
def test_a_stale_pid_file_of_another_program_counts_as_no_server(home: Path):
    with open_cluster(home) as cluster:
        written = (cluster.data / "postmaster.pid").read_text().split("\n")
    stale = "\n".join([str(os.getpid()), *written[1:]])
    (cluster.data / "postmaster.pid").write_text(stale)
    assert cluster.server_pid() is None
    with open_cluster(home) as again:
        assert answers(again)


@pytest.mark.slow
def test_up_keeps_the_server_running_and_down_stops_it(home: Path):
    cluster = server.keep_running(home)
    assert answers(cluster)
    with open_cluster(home):
        pass
    assert answers(cluster)
    assert server.stop_when_unused(home)
    assert cluster.server_pid() is None
    assert server.stop_when_unused(home)  # a second call is allowed


@pytest.mark.slow
def test_down_stops_a_server_in_use_when_the_last_user_leaves(home: Path):
    cluster = server.keep_running(home)
    user = another_user(home)
    assert not server.stop_when_unused(home)
    assert answers(cluster)
    leave(user)
    assert stops(cluster)


@pytest.mark.skipif(os.geteuid() != 0, reason="the server runs as another user only for root")
@pytest.mark.slow
def test_closed_folder_permissions_are_reported_and_repaired_for_the_next_user(home: Path):
    def read_control_file(cluster: Cluster) -> None:
        with psycopg.connect(cluster.conninfo("postgres")) as connection, table_errors():
            connection.execute("SELECT system_identifier FROM pg_control_system()")

    with open_cluster(home) as cluster:
        home.parent.chmod(0o700)
        with pytest.raises(CannotConnect, match="give the server's user the permission to enter"):
            read_control_file(cluster)
        with open_cluster(home):
            read_control_file(cluster)


@pytest.mark.slow
def test_an_incomplete_cluster_is_created_again(home: Path):
    draft = home / "postgres" / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")  # as left by a killed initdb
    with open_cluster(home) as cluster:
        assert answers(cluster)


def test_a_path_that_is_too_long_for_a_socket_works(tmp_path: Path):
    home = tmp_path / ("long" * 30)
    with open_cluster(home) as cluster:
        assert len(str(cluster.folder)) > SOCKET_FOLDER_MAX_BYTES
        assert answers(cluster)
    assert not cluster.socket_folder.exists() or not any(cluster.socket_folder.iterdir())


def test_tmp_is_used_if_the_temporary_folder_is_too_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", f"/{'long' * 30}")
    assert Cluster(Path(f"/{'home' * 30}")).socket_folder.parent == Path("/tmp")
    assert Cluster(Path("/home")).socket_folder == Path("/home/socket")


@pytest.mark.slow
def test_a_path_with_spaces_and_quotes_works(tmp_path: Path):
    with open_cluster(tmp_path / "it's a home") as cluster:
        assert answers(cluster)


@pytest.mark.slow
def test_a_cluster_of_another_postgres_version_is_refused_with_a_hint(home: Path):
    with open_cluster(home) as cluster:
        pass
    (cluster.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(CannotConnect, match=r"created by Postgres 17.*--home"), open_cluster(home):
        pass


def test_a_home_that_cannot_be_written_is_refused_with_a_hint(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--home"), open_cluster(tmp_path / "file"):
        pass
