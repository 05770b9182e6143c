"""Stops an embedded server whose last user was killed. A program of its own, standard library only.

    keeper.py FOLDER PG_CTL

It waits for the lock that every user holds (see `embedded`). Getting it means that nobody is left:
then it stops the server, unless `ridelake up` holds it. It ends in any case; the next start of the
server starts the next keeper.
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path


def main(folder: Path, pg_ctl: str) -> None:
    with (folder / "users.lock").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        data = folder / "data"
        if (folder / "held").exists() or not (data / "postmaster.pid").exists():
            return
        owner = data.stat()
        if os.geteuid() == 0:
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
        subprocess.run([pg_ctl, "stop", "-w", "-t", "60", "-m", "fast", "-D", data], check=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
