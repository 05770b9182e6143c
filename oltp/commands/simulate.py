"""`ridelake simulate`."""

import math

import click

from ridelake import signals
from ridelake.errors import ProofFailed, UsageError
from ridelake.screen import note, say, say_json
from ridelake.settings import Settings

CLIENTS, CLIENTS_MAX = 8, 150  # a connection each
WORKERS = 32  # of the open loop: who waits for a turn costs nothing
CALLERS, CALLERS_MAX = 256, 4_096  # of the batching front; some thousand more would have to wait outside
RATE_MAX = 1_000_000  # some hundred times what any machine books
SCARCE_SHARE = 0.2
BUSY_SHARE = 0.02


@click.command()
@click.option("--rides", type=click.IntRange(min=1), help="How many requests [10,000].")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="How long, instead of how many.")
@click.option(
    "--clients",
    type=click.IntRange(min=1),
    help="Clients at the same time [8; 32 with --rate; 256 with --batch].",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Open loop: so many requests/s, answered or not; --clients send them.",
)
@click.option("--batch", is_flag=True, help="Gather concurrent requests into few round trips.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="The same seed, the same requests.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def simulate(
    settings: Settings,
    /,
    rides: int | None,
    seconds: float | None,
    clients: int | None,
    rate: float | None,
    batch: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Book rides from many clients at once, then audit the store. It needs the riders of `ridelake seed`.

    Payments fail, riders and drivers cancel, clients hang up or send twice; every decision is counted, and
    must be stored. Without --rate, a client sends its next request when the last one is answered. With it,
    requests come when they come, and latency counts from the moment they were due.

    Ctrl-C ends the run early and audits it; a second one leaves at once.
    """
    if rides is not None and seconds is not None:
        raise UsageError("--rides and --seconds: how many or how long, not both")
    for name, value in (("--seconds", seconds), ("--rate", rate)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{name} {value}: a number with an end")
    if rate is not None and rate > RATE_MAX:
        raise UsageError(
            f"--rate {rate:g}: at most {RATE_MAX:,} requests/s, which is beyond any store already"
        )
    from oltp.simulate import simulate as run
    from oltp.simulate.live import live
    from oltp.store import open_existing_store

    total = 10_000 if rides is None and seconds is None else rides
    number = _clients(clients, batch, rate)
    with open_existing_store(settings) as store, live() as show, signals.patience():
        done = run(
            store, rides=total, seconds=seconds, clients=number, rate=rate, batch=batch, seed=seed, show=show
        )
    if done.expired_before:
        note(f"{done.expired_before:,} rides of a killed simulation were ended first")
    if as_json:
        say_json(done.as_dict())
    else:
        for line in done.lines():
            say(line)
    if done.refused.get("no_driver_available", 0) > SCARCE_SHARE * done.requested:
        note(_why_scarce(done.under_way_before))
    busy = done.refused.get("rider_busy", 0)
    if done.others_requests and busy > BUSY_SHARE * done.requested:
        note(
            f"{busy:,} requests found their rider busy: another simulation sent {done.others_requests:,} "
            f"requests meanwhile; with the same --seed it draws the same riders, so give one of them another"
        )
    note(done.audit.verdict)
    if done.interrupted:
        raise KeyboardInterrupt
    if not done.audit.passed:
        raise ProofFailed(done.audit.verdict)


def _why_scarce(under_way_before: int) -> str:
    if not under_way_before:
        return "drivers are scarce: use fewer --clients, or get more drivers by `ridelake seed --rides N`"
    return (
        f"{under_way_before:,} drivers were taken by another simulation when this one began: if that was "
        "killed, wait a minute and begin again, which ends its rides first"
    )


def _clients(asked: int | None, batch: bool, rate: float | None) -> int:
    if batch:
        if asked is not None and asked > CALLERS_MAX:
            raise UsageError(f"--clients {asked}: with --batch at most {CALLERS_MAX:,}")
        return asked or CALLERS
    if asked is not None and asked > CLIENTS_MAX:
        raise UsageError(
            f"--clients {asked}: at most {CLIENTS_MAX}, as each has a connection of its own; "
            f"--batch takes {CALLERS_MAX:,}"
        )
    return asked or (CLIENTS if rate is None else WORKERS)
