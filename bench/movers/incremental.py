"""Incremental copies of one table by all movers at once, beside writers with long transactions.

The table and its writers are those of `bench.polling`: inserts, updates, deletes, savepoints, rollbacks. Each
mover polls as its documentation says, with the column `updated_now`; ridelake syncs the tracked table.
After the last COMMIT each mover runs once more. Then the newest versions in its files are compared with the
table.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.bench_loss import CopyDifference, compare
from bench.movers import copied
from bench.movers.mover import Mover, move
from bench.polling import QUERIES, Writer
from oltp.scratch import scratch_on_server
from oltp.store import Store, install_tracking, transaction
from oltp.workload.runner import ClientGroup, run_clients, running_clients
from ridelake.queries import load_script

TABLE = "public.loss_rows"
POLL_SECONDS = 1.0  # between two polls of a mover
STOP_SECONDS_MAX = 200.0


@dataclass(frozen=True, slots=True)
class PollPlan:
    seconds: float  # of writing
    first_rows: int
    writers: int = 6
    seed: int = 1


@dataclass(slots=True)
class MoverPolls:
    """The result of a mover. `difference`: None after an error."""

    mover: Mover
    polls: int = 0
    error: str | None = None
    difference: CopyDifference | None = None


@dataclass(frozen=True, slots=True)
class PollRun:
    movers: tuple[MoverPolls, ...]
    rows: int  # in the table at the end
    transactions: int
    long_transactions: int


def measure_polls(server: str, pythons: Mapping[Mover, str], plan: PollPlan, folder: Path) -> PollRun:
    """Measure in a new database on the server of the connection string `server`. `folder` must be empty."""
    with scratch_on_server(server) as scratch:
        store = Store(scratch.dsn, scratch.small.server_version)
        with store.connect() as connection:
            with transaction(connection):
                install_tracking(connection)
            connection.execute(load_script("bench", "polled_rows.sql"))
            connection.execute(copied.QUERIES["first_rows"], {"rows": plan.first_rows})
        found = [MoverPolls(mover) for mover in pythons if mover.polls]
        writers = [Writer(number, plan.seed) for number in range(plan.writers)]

        def poll(one: MoverPolls) -> None:
            _poll(one, store, pythons[one.mover], folder)

        def poll_until_stopped(one: MoverPolls, group: ClientGroup) -> None:
            while one.error is None:
                poll(one)
                if not group.sleep(POLL_SECONDS):
                    return

        with running_clients([partial(poll_until_stopped, one) for one in found], STOP_SECONDS_MAX):
            run_clients([partial(one.write_until_stopped, store) for one in writers], seconds=plan.seconds)
        with ThreadPoolExecutor(len(found) or 1) as threads:
            list(threads.map(poll, [one for one in found if one.error is None]))
        with store.connect() as connection:
            truth: dict[int, str] = dict(connection.execute(QUERIES["truth"]).fetchall())
        for one in found:
            if one.error is None:
                one.difference = compare(_latest(one.mover, _home(folder, one.mover)), truth)
    return PollRun(
        tuple(found), len(truth), sum(one.transactions for one in writers), sum(one.long for one in writers)
    )


def _home(folder: Path, mover: Mover) -> Path:
    return folder / mover.tool


def _poll(one: MoverPolls, store: Store, python: str, folder: Path) -> None:
    home = _home(folder, one.mover)
    run = move(one.mover, python, store.conninfo, home, [TABLE], poll=True, own_tables=True)
    one.error = run.error
    one.polls += 1


def _latest(mover: Mover, home: Path) -> dict[int, str]:
    with copied.open_copy(mover, home, [TABLE]) as connection:
        return copied.latest(connection, "loss_rows")
