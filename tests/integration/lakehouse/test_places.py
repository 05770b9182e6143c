"""Every command reports a lake that cannot be reached or written, with the reason."""

import os
from pathlib import Path

import pytest
from bucket import KEYS, S3Lake
from terminal import Done
from terminal import ridelake as run_here

from lakehouse.table.published import newest_epoch, read_epochs
from oltp.store import Store
from ridelake.errors import RidelakeError, UsageError
from ridelake.settings import LakeAddress

READING = [["sql", "SELECT 1"], ["epochs"], ["status"], ["verify"], ["ask", "average_price"], ["maintain"]]
WRITING = [["snapshot"], ["sync", "--once"]]


def ridelake(folder: Path, *arguments: str, **more: str) -> Done:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RIDELAKE_")}
    return run_here(*arguments, environment={**environment, **more}, folder=folder)


def test_a_lake_that_is_a_file_is_named_when_it_is_read(tmp_path: Path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "lake"):
        with pytest.raises(UsageError, match=rf"lake {root} cannot be read \({tmp_path}/file is a file"):
            read_epochs(LakeAddress.at(root))


def test_a_lake_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)  # root may read all files
    with pytest.raises(UsageError, match=rf"lake {tmp_path}/lake cannot be read \(Permission denied"):
        read_epochs(LakeAddress.at(tmp_path / "lake"))


def test_a_lake_that_does_not_exist_yet_has_no_epoch(tmp_path: Path):
    with pytest.raises(RidelakeError, match="no epoch yet"):
        newest_epoch(LakeAddress.at(tmp_path / "new" / "lake"))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [*READING, *WRITING], ids=lambda arguments: arguments[0])
def test_every_command_names_a_bad_place(seeded_store: Store, tmp_path: Path, arguments: list[str]):
    (tmp_path / "file").touch()
    dsn = ["--dsn", seeded_store.conninfo]
    for place in (["--lake", "file"], ["--lake", "file/lake"], ["--home", "file"]):
        done = ridelake(tmp_path, *arguments, *dsn, *place)
        assert done.returncode == 2, (place, done.stderr)
        assert f"{tmp_path}/file" in done.stderr
        assert "a file" in done.stderr
        assert done.stderr.count("\n") == 1
    done = ridelake(tmp_path, *arguments, *dsn, "--catalog", "postgresql://127.0.0.1:1/none")
    assert done.returncode == 3
    assert "cannot reach the lake's catalog" in done.stderr
    done = ridelake(
        tmp_path,
        *arguments,
        *dsn,
        "--lake",
        "s3://nobucket/x",
        RIDELAKE_S3_ENDPOINT="http://127.0.0.1:1",
        **KEYS,
    )
    assert done.returncode == 3
    assert "http://127.0.0.1:1 does not respond" in done.stderr


@pytest.mark.parametrize("arguments", WRITING, ids=lambda arguments: arguments[0])
def test_a_folder_that_cannot_be_created_is_named(seeded_store: Store, tmp_path: Path, arguments: list[str]):
    done = ridelake(tmp_path, *arguments, "--dsn", seeded_store.conninfo, "--home", "/proc/nope")
    assert done.returncode == 2
    assert "the lake /proc/nope/lake cannot be created (No such file or directory)" in done.stderr


def test_a_bucket_that_does_not_exist_is_named_when_it_is_read(s3_lake: S3Lake):
    address = LakeAddress.at("s3://nobucket/x", None, s3_lake.address.s3_endpoint, home=s3_lake.settings.home)
    with pytest.raises(UsageError, match=r"there is no bucket nobucket at http"):
        read_epochs(address)
    assert read_epochs(s3_lake.address) == []
