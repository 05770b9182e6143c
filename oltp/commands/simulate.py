"""`ridelake simulate`."""

import math

import click

from oltp.commands import json_option, seed_option
from ridelake import signals
from ridelake.errors import ProofFailed, UsageError
from ridelake.screen import note, say, say_json
from ridelake.settings import Settings

CLIENTS, CLIENTS_MAX = 8, 150  # one connection each
WORKERS = 32  # default number of clients of the open loop; an idle client costs nothing
CALLERS, CALLERS_MAX = 256, 4_096  # of the batcher; the limit stays below the size of its queue
RATE_MAX = 1_000_000  # several hundred times the throughput of one machine
SCARCE_SHARE = 0.2
BUSY_SHARE = 0.02


@click.command()
@click.option("--rides", type=click.IntRange(min=1), help="Number of requests [10,000].")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Duration, instead of a number of requests.",
)
@click.option(
    "--clients",
    type=click.IntRange(min=1),
    help="Concurrent clients [8; 32 with --rate; 256 with --batch].",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Open loop: requests per second, independent of the answers.",
)
@click.option("--batch", is_flag=True, help="Send concurrent requests in batches.")
@seed_option("The same seed gives the same requests.")
@json_option
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
    """Book rides from many concurrent clients, then audit the store. Run `ridelake seed` first.

    Payments fail, riders and drivers cancel, clients disconnect or send a request twice. Every decision is
    counted and must be stored. Without --rate, a client sends its next request when the previous one is
    answered. With --rate, requests are due at random times, and latency counts from the time a request was
    due.

    Ctrl-C ends the run early and audits the store; a second Ctrl-C exits immediately.
    """
    if rides is not None and seconds is not None:
        raise UsageError("--rides and --seconds exclude each other; leave out one of them")
    for name, value in (("--seconds", seconds), ("--rate", rate)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{name} must be finite, not {value}")
    if rate is not None and rate > RATE_MAX:
        raise UsageError(f"--rate must be at most {RATE_MAX:,} requests/s, not {rate:g}")
    from oltp.store import open_existing_store
    from oltp.workload import simulate as run
    from oltp.workload.dashboard import open_dashboard

    total = 10_000 if rides is None and seconds is None else rides
    number = _clients(clients, batch, rate)
    with open_existing_store(settings) as store, open_dashboard() as show, signals.no_time_limit():
        done = run(
            store, rides=total, seconds=seconds, clients=number, rate=rate, batch=batch, seed=seed, show=show
        )
    if done.expired_before:
        note(f"ended {done.expired_before:,} rides that a killed simulation had left active")
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
            f"{busy:,} requests were refused because the rider was busy: another simulation sent "
            f"{done.others_requests:,} requests at the same time; with the same --seed it uses the same "
            "riders, so give one of them another --seed"
        )
    note(done.audit.verdict)
    if done.interrupted:
        raise KeyboardInterrupt
    if not done.audit.passed:
        raise ProofFailed(done.audit.verdict)


def _why_scarce(under_way_before: int) -> str:
    if not under_way_before:
        return "too few drivers: use fewer --clients, or add drivers with `ridelake seed --rides N`"
    return (
        f"{under_way_before:,} drivers were busy with rides of another simulation when this one began; if "
        "that simulation was killed, run this command again in a minute, and it ends those rides first"
    )


def _clients(given: int | None, batch: bool, rate: float | None) -> int:
    if batch:
        if given is not None and given > CALLERS_MAX:
            raise UsageError(f"--clients must be at most {CALLERS_MAX:,} with --batch, not {given}")
        return given or CALLERS
    if given is not None and given > CLIENTS_MAX:
        raise UsageError(
            f"--clients must be at most {CLIENTS_MAX}, not {given}, because each client has a connection; "
            f"with --batch at most {CALLERS_MAX:,}"
        )
    return given or (CLIENTS if rate is None else WORKERS)
