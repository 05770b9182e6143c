"""A server of a test's own, to be stopped, killed and started again."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from oltp.cluster import Cluster, start, stop
from oltp.embedded import open_cluster
from oltp.store import Store, ensure_database, open_database


@dataclass(frozen=True, slots=True)
class PrivateServer:
    cluster: Cluster
    store: Store

    def stop(self) -> None:
        stop(self.cluster)

    def kill(self) -> None:
        """SIGKILL for the whole tree: no process of it has a word to say."""
        server = psutil.Process(self.cluster.server_pid())
        tree = [server, *server.children(recursive=True)]
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue  # it ended by itself when its neighbour died
        psutil.wait_procs(tree, timeout=20)

    def start(self) -> float:
        """Start it again. Seconds from here until it has answered."""
        began = time.perf_counter()
        start(self.cluster)
        with self.store.connect() as connection:
            connection.execute("SELECT 1")
        return time.perf_counter() - began


@contextmanager
def private_server() -> Iterator[PrivateServer]:
    """Not in pytest's temporary folder: another user, who runs the server for root, may not pass there."""
    home = Path(tempfile.mkdtemp(prefix="ridelake-private-"))
    try:
        with open_cluster(home) as cluster:
            ensure_database(cluster.conninfo("postgres"), "rides")
            yield PrivateServer(cluster, open_database(cluster.conninfo("rides")))
    finally:
        shutil.rmtree(home, ignore_errors=True)
