"""`ridelake simulate`."""

import click

from ridelake.errors import ProofFailed, UsageError
from ridelake.screen import note, progress, say, say_json
from ridelake.settings import Settings


@click.command()
@click.option("--rides", type=click.IntRange(min=1), help="How many requests [10,000].")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="How long, instead of how many.")
@click.option(
    "--clients", type=click.IntRange(1, 150), default=8, show_default=True, help="Clients at the same time."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same requests.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def simulate(
    settings: Settings, rides: int | None, seconds: float | None, clients: int, seed: int, as_json: bool
) -> None:
    """Book rides from many clients at once, then audit the store."""
    if rides is not None and seconds is not None:
        raise UsageError("--rides and --seconds: how many or how long, not both")
    from oltp.simulate import simulate as run
    from oltp.store import open_store

    total = rides if rides is not None or seconds is not None else 10_000
    with open_store(settings) as store, progress("requests", total or 0) as shown:
        done = run(store, rides=total, seconds=seconds, clients=clients, seed=seed, report=shown.reach)
    if as_json:
        say_json(done.as_dict())
    else:
        for line in done.lines():
            say(line)
    note(done.audit.verdict)
    if done.interrupted:
        raise KeyboardInterrupt
    if not done.audit.passed:
        raise ProofFailed(done.audit.verdict)
