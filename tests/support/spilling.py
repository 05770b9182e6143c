"""Sorts more data than the memory limit of an engine. It runs in a separate process.

Standard input is a pickle of the engine's name, the settings and an epoch with a table `numbers`. Standard
output is the result as JSON. Each engine has its own way to set a memory limit. Daft has none. The limit of
Spark is the size of its heap.
"""

import json
import os
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import psutil

from lakehouse.engines.subprocess_engine import SPILL_FOLDERS
from lakehouse.table.epoch import Epoch
from ridelake.settings import Settings

MEGABYTES = 64
# With less memory, DataFusion cannot merge the sorted runs.
MEGABYTES_OF = {"chdb": MEGABYTES, "datafusion": 256}
SORTED = "SELECT * FROM numbers ORDER BY word"


def sorted_with_memory_limit(name: str, settings: Settings, epoch: Epoch, folder: Path) -> dict:
    """Returns the number of `rows`, whether they are `in_order`, and the bytes `written`."""
    environment = {
        **os.environ,
        **dict.fromkeys(SPILL_FOLDERS, str(folder)),
        "POLARS_OOC_MEMORY_BUDGET_MB": str(MEGABYTES),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, __file__],
        input=pickle.dumps((name, settings, epoch)),
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])


def bytes_written() -> int:
    """Bytes written by this process and its children, as counted by the kernel."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(one.io_counters().write_chars for one in processes)


def _limit_memory(name: str) -> None:
    if name in ("duckdb", "pyarrow"):
        import duckdb

        connect = duckdb.connect
        duckdb.connect = lambda path: connect(path, config={"memory_limit": f"{MEGABYTES}MB"})
    elif name in MEGABYTES_OF:
        module = import_module(f"lakehouse.engines.{name}")
        module.MEMORY_SHARE = MEGABYTES_OF[name] * 2**20 / psutil.virtual_memory().total


def main() -> None:
    name, settings, epoch = pickle.load(sys.stdin.buffer)
    _limit_memory(name)
    with import_module(f"lakehouse.engines.{name}").opened(settings, epoch) as engine:
        engine.sql("SELECT max(id) AS id FROM numbers")  # the writes of the first query do not count
        before = bytes_written()
        words = engine.sql(SORTED)["word"].to_pylist()
        written = bytes_written() - before
    print(
        json.dumps({"rows": len(words), "in_order": words == sorted(words), "written": written}), flush=True
    )
    os._exit(0)  # do not wait for the threads of some libraries


if __name__ == "__main__":
    main()
