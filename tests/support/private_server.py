"""A separate server for one test, which can be stopped, killed and restarted."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from oltp.cluster.server import Cluster, open_cluster, start, stop
from oltp.store import Store, ensure_database, open_database


@dataclass(frozen=True, slots=True)
class PrivateServer:
    cluster: Cluster
    store: Store

    def stop(self) -> None:
        stop(self.cluster)

    def kill(self) -> None:
        """SIGKILL the whole process tree."""
        server = psutil.Process(self.cluster.server_pid())
        tree = [server, *server.children(recursive=True)]
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue  # it exited when another process was killed
        psutil.wait_procs(tree, timeout=20)

    def start(self) -> float:
        """Restart the server. Returns the seconds until it answers."""
        began = time.perf_counter()
        start(self.cluster)
        with self.store.connect() as connection:
            connection.execute("SELECT 1")
        return time.perf_counter() - began


@contextmanager
def private_server() -> Iterator[PrivateServer]:
    """A new server. Its folder is not in pytest's temporary folder, which the server's user cannot enter."""
    home = Path(tempfile.mkdtemp(prefix="ridelake-private-"))
    try:
        with open_cluster(home) as cluster:
            ensure_database(cluster.conninfo("postgres"), "rides")
            yield PrivateServer(cluster, open_database(cluster.conninfo("rides")))
    finally:
        shutil.rmtree(home, ignore_errors=True)
