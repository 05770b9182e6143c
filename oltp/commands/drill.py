"""`ridelake drill`."""

from typing import TYPE_CHECKING

import click

from ridelake.errors import ProofFailed, UsageError
from ridelake.progress import progress
from ridelake.screen import note, say, say_json
from ridelake.settings import Settings

if TYPE_CHECKING:
    from oltp.drill.result import Drilled
    from oltp.drill.standby_dies import StandbyDied


@click.command()
@click.option(
    "--rounds", type=click.IntRange(min=1), help="How often the primary of the moment is killed [3]."
)
@click.option(
    "--clients",
    type=click.IntRange(min=2, max=64),
    default=8,
    show_default=True,
    help="Clients at the same time.",
)
@click.option(
    "--async",
    "asynchronous",
    is_flag=True,
    help="Commits do not wait for the standby, which is 0.1 s behind: see what is lost.",
)
@click.option("--standby-dies", is_flag=True, help="Kill the standby instead: block, then degrade.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="The same seed, the same requests.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
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
    """Kill the primary under load, and see that nothing acknowledged is lost.

    Two embedded servers in a temporary folder: a primary, and a standby that every commit waits for. While
    clients book, the primary is killed with SIGKILL and fenced, the standby promoted, and the old primary
    brought back by pg_rewind. Then every answer that a client was given is looked up, and the store audited.

    With --async something is lost, and is shown; that is no failure of the drill.
    """
    if settings.dsn is not None:
        raise UsageError(
            "a drill kills servers, and only ones that it has made itself: leave --dsn and RIDELAKE_DSN out"
        )
    if standby_dies and (asynchronous or rounds is not None):
        raise UsageError("--standby-dies is a drill of its own: leave --async and --rounds out")
    from oltp.drill.rounds import drill as run
    from oltp.drill.standby_dies import standby_dies as run_standby_dies

    done: Drilled | StandbyDied
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
        raise ProofFailed(f"the promise is broken: {done.lines()[1]}; {done.audit.verdict}")
