"""`ridelake drill`."""

from typing import TYPE_CHECKING

import click

from oltp.commands import json_option, seed_option
from ridelake.errors import ProofFailed, UsageError
from ridelake.progress import progress
from ridelake.screen import note, say, say_json
from ridelake.settings import Settings

if TYPE_CHECKING:
    from oltp.drill.failover import DrillResult, StandbyFailureResult


@click.command()
@click.option(
    "--rounds", type=click.IntRange(min=1), help="Number of failovers; each kills the current primary [3]."
)
@click.option(
    "--clients",
    type=click.IntRange(min=2, max=64),
    default=8,
    show_default=True,
    help="Concurrent clients.",
)
@click.option(
    "--async",
    "asynchronous",
    is_flag=True,
    help="Use an asynchronous standby that lags 0.1 s, and report what is lost.",
)
@click.option("--standby-dies", is_flag=True, help="Kill the standby instead; block commits, then degrade.")
@seed_option("The same seed gives the same requests.")
@json_option
@click.pass_obj
def drill(
    settings: Settings,
    /,
    rounds: int | None,
    clients: int,
    asynchronous: bool,
    standby_dies: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Kill the primary under load, and check that no acknowledged request is lost.

    The drill starts two embedded servers in a temporary folder: a primary, and a standby that every commit
    waits for. While clients book rides, it kills the primary with SIGKILL, fences it, promotes the standby
    and rejoins the old primary with pg_rewind. At the end it looks up every answer that a client received,
    and audits the store.

    With --async the drill reports what is lost, and does not count it as a failure.
    """
    if settings.dsn is not None:
        raise UsageError(
            "drill kills servers and uses only those that it starts itself; leave out --dsn and RIDELAKE_DSN"
        )
    if standby_dies and (asynchronous or rounds is not None):
        raise UsageError("--standby-dies cannot be used with --async or --rounds; leave them out")
    from oltp.drill.failover import drill_standby as run_standby_dies
    from oltp.drill.failover import run_drill as run

    done: DrillResult | StandbyFailureResult
    with progress("drill"):
        if standby_dies:
            done = run_standby_dies(clients=clients, seed=seed)
        else:
            done = run(
                rounds=rounds or 3,
                clients=clients,
                seed=seed,
                synchronous=not asynchronous,
                show=lambda one: note(one.line()),
            )
    if as_json:
        say_json(done.as_dict())
    else:
        for line in done.lines():
            say(line)
    note(done.audit.verdict)
    if not done.as_promised:
        raise ProofFailed(f"the drill failed: {done.lines()[1]}; {done.audit.verdict}")
