"""Spark on the loopback interface: a standalone master and two workers, or a Connect server."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyspark

SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
SPARK_SUBMIT = SPARK_CLASS.with_name("spark-submit")
START_SECONDS = 60
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
ENVIRONMENT = (
    "env", *(word for name in SECRETS for word in ("-u", name)),
    "SPARK_LOCAL_IP=127.0.0.1", "SPARK_DAEMON_MEMORY=512m",
)  # fmt: skip


@dataclass(frozen=True)
class SparkCluster:
    master: str
    workers: list[subprocess.Popen[bytes]]

    def busiest_worker(self, seconds: float = 1.0) -> subprocess.Popen[bytes]:
        """The worker whose executor used the most CPU time in that period."""
        executors = {
            child: worker
            for worker in self.workers
            for child in psutil.Process(worker.pid).children(recursive=True)
        }
        before = {child: child.cpu_times().user for child in executors}
        time.sleep(seconds)
        return executors[max(executors, key=lambda child: child.cpu_times().user - before[child])]


@contextmanager
def spark_cluster(folder: Path, workers: int = 2) -> Iterator[SparkCluster]:
    """Its processes do not have the credentials of a bucket, as on other machines."""
    port = _free_port()
    address = f"spark://127.0.0.1:{port}"
    with ExitStack() as running:
        log = running.enter_context((folder / "cluster.log").open("wb"))

        def start(part: str, *arguments: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [
                    *ENVIRONMENT,
                    SPARK_CLASS,
                    f"org.apache.spark.deploy.{part}",
                    "--host",
                    "127.0.0.1",
                    *arguments,
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            running.callback(end, process)
            return process

        start("master.Master", "--port", str(port), "--webui-port", "0")
        _wait_for(folder / "cluster.log", "I have been elected leader", 1)
        started = [
            start(
                "worker.Worker", "--cores", "1", "--memory", "1200m", "--webui-port", "0",
                "--work-dir", str(folder / f"work-{number}"), address,
            )
            for number in range(workers)
        ]  # fmt: skip
        _wait_for(folder / "cluster.log", "Successfully registered with master", workers)
        yield SparkCluster(address, started)


def python_without_ridelake(folder: Path) -> Path:
    """A command that starts Python with the installed packages except ridelake, as on other machines."""
    program = folder / "python"
    packages = Path(pyspark.__file__).parents[1]
    program.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{packages}" exec {sys.executable} -S "$@"\n')
    program.chmod(0o755)
    for name, expected in (("pyarrow", 0), ("lakehouse", 1)):
        done = subprocess.run([program, "-c", f"import {name}"], cwd=folder, stderr=subprocess.DEVNULL)
        assert done.returncode == expected, name
    return program


@contextmanager
def spark_connect(folder: Path) -> Iterator[str]:
    """The address of a local Spark Connect server."""
    port = _free_port()
    log = folder / "connect.log"
    conf = {"grpc.binding.address": "127.0.0.1", "grpc.binding.port": str(port)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *ENVIRONMENT, SPARK_SUBMIT, "--master", "local[2]", "--conf", "spark.ui.enabled=false",
                *(word for key, value in conf.items() for word in ("--conf", f"spark.connect.{key}={value}")),
                "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal",
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )  # fmt: skip
        try:
            _wait_for(log, "Spark Connect server started", 1)
            yield f"sc://127.0.0.1:{port}"
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process and its executors, which are in its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_for(log: Path, words: str, times: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while log.read_text(errors="replace").count(words) < times:
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
