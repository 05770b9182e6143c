"""A process with a store and its hot standby. Tests kill it: `python standby_process.py HOME`."""

import sys
from pathlib import Path
from time import sleep

from oltp.drill.pair import open_standby
from oltp.store import open_store
from ridelake.settings import LakeAddress, Settings

if __name__ == "__main__":
    home = Path(sys.argv[1])
    with open_store(Settings(home, LakeAddress.at(home / "lake"))) as store, open_standby(store) as dsn:
        print(dsn, flush=True)
        sleep(60.0)
