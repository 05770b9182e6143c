"""A full disk and other limits: exit code 1, and one line that names the resource and the place."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest

from oltp.cluster.server import Cluster
from ridelake.resources import describe_shortage

MODULE = [sys.executable, "-m", "ridelake"]
MEGABYTES = 120


def run(folder: Path, *arguments: str, before: Callable[[], None] | None = None) -> tuple[int, str]:
    """The exit code and stderr of a command."""
    done = subprocess.run(
        [*MODULE, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        preexec_fn=before,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a disk of 120 MB."""
    folder = Path(tempfile.mkdtemp(prefix="ridelake-small-"))
    folder.chmod(0o755)
    options = f"size={MEGABYTES}m,mode=755"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    for pid_file in folder.rglob("postmaster.pid"):  # a fast stop would write a checkpoint
        with suppress(ProcessLookupError):
            os.kill(int(pid_file.read_text("utf-8").split()[0]), signal.SIGQUIT)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def filled(folder: Path, leave_bytes: int) -> None:
    """Fill the disk of the folder, except `leave_bytes`."""
    with (folder / "filler").open("wb") as filler:
        left = shutil.disk_usage(folder).free - leave_bytes
        while left > 0:
            left -= filler.write(b"\0" * min(left, 1 << 20))


@pytest.mark.slow
def test_a_disk_that_fills_during_a_seed_is_named(small_disk: Path, tmp_path: Path):
    exit_code, error = run(tmp_path, "--home", str(small_disk / "home"), "seed", "--rides", "200000")
    assert exit_code == 1
    assert error.count("\n") == 1, error
    assert error.startswith(f"ridelake: the disk that holds {small_disk / 'home'}/postgres is full ("), error
    assert "free some space or choose another place with --home" in error


@pytest.mark.slow
def test_a_disk_that_is_full_before_the_first_server_is_named(small_disk: Path, tmp_path: Path):
    filled(small_disk, 10_000_000)
    exit_code, error = run(tmp_path, "--home", str(small_disk / "home"), "seed", "--rides", "100")
    assert (exit_code, error.count("\n")) == (1, 1), error
    assert f"the disk that holds {small_disk / 'home'}/postgres is full" in error


@pytest.mark.slow
def test_a_demo_without_enough_disk_space_is_refused_before_it_begins(small_disk: Path, tmp_path: Path):
    home = small_disk / "home"
    exit_code, error = run(tmp_path, "--home", str(home), "demo", "--rides", "200000")
    assert (exit_code, error.count("\n")) == (1, 1), error
    assert f"the demo needs about 526 MB, but the disk of {home} has" in error
    assert not home.exists()


@pytest.mark.slow
def test_a_full_disk_of_the_lake_the_answer_and_the_quarantine_is_named(
    small_disk: Path, tmp_path: Path, real_data: Path
):
    filled(small_disk, 60_000)
    for arguments in (("seed", "--rides", "20000"), ("snapshot",)):
        assert run(tmp_path, *arguments)[0] == 0
    answer = ("sql", "SELECT * FROM rides", "-o", str(small_disk / "answer.csv"))
    rejected = (
        "load",
        str(real_data / "yellow_sample_2019.parquet"),
        "--quarantine",
        str(small_disk / "aside"),
    )
    for arguments, option in (
        (("snapshot", "--lake", str(small_disk / "lake")), "--lake"),
        (answer, "-o"),
        (rejected, "--quarantine"),
    ):
        exit_code, error = run(tmp_path, *arguments)
        assert exit_code == 1, error
        assert f"ridelake: the disk that holds {small_disk}" in error, error
        assert error.strip().splitlines()[-1].endswith(f"choose another place with {option}"), error


@pytest.mark.slow
def test_a_limit_of_open_files_is_named(tmp_path: Path):
    assert run(tmp_path, "seed", "--rides", "500")[0] == 0
    assert run(tmp_path, "snapshot")[0] == 0
    for files in (6, 8, 13, 24):
        limit = (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        limited = partial(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        exit_code, error = run(tmp_path, "snapshot", before=limited)
        assert exit_code == 1, f"{files}: {error}"
        assert "the limit of open files is reached" in error, f"{files}: {error}"
        assert error.count("\n") == 1, f"{files}: {error}"


@pytest.mark.slow
def test_a_limit_of_the_file_size_is_named(tmp_path: Path):
    assert run(tmp_path, "seed", "--rides", "5000")[0] == 0
    limit = (50_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert run(tmp_path, "up")[0] == 0
    try:
        exit_code, error = run(
            tmp_path, "snapshot", before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        )
    finally:
        run(tmp_path, "down")
    assert (exit_code, error.count("\n")) == (1, 1), error
    assert "a file has reached the largest size allowed" in error


@pytest.mark.slow
def test_a_server_without_free_connections_is_named(cluster: Cluster, tmp_path: Path):
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS crowded")
        admin.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
        try:
            dsn = psycopg.conninfo.make_conninfo(cluster.conninfo("postgres"), user="crowded")
            exit_code, error = run(tmp_path, "--dsn", dsn, "audit")
        finally:
            admin.execute("DROP ROLE crowded")
    assert exit_code == 1
    assert "the server takes no more connections" in error
    assert "max_connections" in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full does not exist")
def test_an_output_that_cannot_be_written_is_named(tmp_path: Path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MODULE, "engines"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "full" in done.stderr or "No space" in done.stderr


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "the limit of open files is reached"),
        (MemoryError(), "there is not enough memory"),
        (psycopg.errors.DiskFull("could not extend file"), "a disk is full"),
        (psycopg.errors.TooManyConnections("no free connection"), "takes no more connections"),
        (psycopg.errors.OutOfMemory("out of shared memory"), "raise max_locks_per_transaction"),
        (psycopg.errors.DiskFull("could not resize shared memory segment"), "/dev/shm"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "the disk quota is used up"),
    ],
)
def test_a_shortage_is_found_behind_another_error(error: Exception, expected: str):
    with pytest.raises(RuntimeError) as outer:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("something else") from cause
    assert expected in (describe_shortage(outer.value) or "")
    assert describe_shortage(ValueError("no such thing")) is None
