"""Runs a simulation, from the first request to the audit."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import numpy as np

from oltp.audit import AuditReport, audit
from oltp.batching import Batcher
from oltp.store import Store
from oltp.workload.client import (
    BATCH_CONNECTIONS,
    BOOKING_WORKERS,
    BatchClient,
    RunPool,
    SimulatedClient,
    play,
    warm_up,
)
from oltp.workload.metrics import Metrics, MetricsSnapshot, SimulationResult
from oltp.workload.requests import (
    RequestIds,
    draw_requests,
    draw_timed_requests,
    expire,
    riders_by_city,
    under_way,
)
from oltp.workload.runner import ClientGroup, in_one_thread
from oltp.workload.schedule import ArrivalMode, ArrivalSchedule, draw_scenarios
from ridelake.errors import CannotConnect, ProofFailed
from ridelake.ride import Outcome

REPORT_SECONDS = 0.25
POLL_SECONDS = 0.1  # how often a waiting client of an event loop checks whether the run was stopped


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The parameters of a run. `rate` None: closed loop."""

    clients: int
    rate: float | None
    batch: bool
    seed: int

    @property
    def mode(self) -> str:
        return "batch" if self.batch else "one by one"

    @property
    def loop(self) -> str:
        return "closed" if self.rate is None else "open"

    @property
    def connections(self) -> int:
        return BATCH_CONNECTIONS if self.batch else self.clients


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run, for display."""

    plan: RunPlan
    schedule: ArrivalSchedule
    now: float  # a time of perf_counter
    seen: MetricsSnapshot
    retried: Counter[str]
    auditing: bool  # the work is done


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of the work, before the audit."""

    seconds: float
    behind_seconds: float
    overdue: int
    batch_mean: float | None
    interrupted: bool
    failure: BaseException | None


def simulate(
    store: Store,
    *,
    rides: int | None = None,
    seconds: float | None = None,
    clients: int = 8,
    rate: float | None = None,
    batch: bool = False,
    seed: int = 1,
    report: Callable[[int], None] = lambda requests: None,
    show: Callable[[RunState], None] = lambda state: None,
) -> SimulationResult:
    """Book until `rides` requests are sent or `seconds` are over, then audit. Ctrl-C ends it early, with a
    result and an audit; a second Ctrl-C exits immediately. About four times a second, `report` is called with
    the number of requests decided so far, and `show` with the state of the run.

    Raises NotReady if the store has no riders, ProofFailed if an answer is incorrect or acknowledged
    decisions are not stored, CannotConnect if the server cannot be reached any more."""
    plan = RunPlan(clients, rate, batch, seed)
    streams = [np.random.default_rng([seed, number]) for number in range(4)]
    riders_of = riders_by_city(store)
    ids = RequestIds()
    schedule = ArrivalSchedule(
        draw_timed_requests(streams[0], riders_of, ids.new),
        draw_scenarios(streams[1]),
        None if rate is None else ArrivalMode(streams[2], rate),
        rides=rides,
        seconds=seconds,
    )
    metrics = Metrics()
    with RunPool(store, plan.connections) as line:

        def display(auditing: bool = False) -> None:
            retried = line.retries.by_reason.copy()
            report(metrics.requested)
            show(RunState(plan, schedule, perf_counter(), metrics.seen(), retried, auditing))

        expired = line.call(expire)
        met = line.call(under_way)
        warm_up(line, list(islice(draw_requests(streams[3], riders_of), plan.connections)))
        ended = _work(plan, line, schedule, metrics, display)
        if ended.failure is not None and not isinstance(ended.failure, ProofFailed):
            raise _with_acknowledged(ended.failure, metrics.seen())
        seen = metrics.seen()
        display(auditing=True)
        stored = line.call(ids.stored)
        of_others = line.call(ids.of_others)
        checked = line.call(audit)
        retried = line.retries.by_reason
    if ended.failure is not None:
        raise ProofFailed(f"{ended.failure}; {checked.verdict}")
    _check_stored(seen, stored, checked)
    return _result(plan, seen, ended, retried, (expired, met, of_others), checked)


def _with_acknowledged(failure: BaseException, seen: MetricsSnapshot) -> BaseException:
    if not isinstance(failure, CannotConnect):
        return failure
    return CannotConnect(
        f"{failure}; {seen.requested:,} requests were answered before that, {seen.assigned:,} assigned"
    )


def _work(
    plan: RunPlan, line: RunPool, schedule: ArrivalSchedule, metrics: Metrics, display: Callable[[], None]
) -> RunEnd:
    batches: list[float] = []
    group = clients_of(plan, line, schedule, metrics, batches)
    schedule.begin()
    group.start()
    interrupted = _watch(group, line, display)
    over = perf_counter()
    return RunEnd(
        over - schedule.began,
        schedule.behind_seconds(over),
        schedule.overdue(over),
        batches[0] if batches else None,
        interrupted,
        group.failure,
    )


def clients_of(
    plan: RunPlan, line: RunPool, schedule: ArrivalSchedule, metrics: Metrics, batches: list[float]
) -> ClientGroup:
    """The clients of the plan, not started yet. They send what the schedule returns, and end when it ends or
    they are stopped. In batches, the mean number of requests per batch is appended to `batches`."""
    if plan.batch:
        return ClientGroup([_batched_clients(plan, line, schedule, metrics, batches)], schedule.stop)
    return ClientGroup([_client(line, schedule, metrics)] * plan.clients, schedule.stop)


def _client(line: RunPool, schedule: ArrivalSchedule, metrics: Metrics) -> Callable[[ClientGroup], None]:
    """A client that is a thread and sends its operations one by one."""

    def work(group: ClientGroup) -> None:
        client = SimulatedClient(metrics)
        with _giving_up(group, line):
            while (turn := schedule.take()) is not None:
                while (seconds := schedule.seconds_until(turn)) > 0 and group.sleep(seconds):
                    pass
                if seconds <= 0:
                    play(client.turn(turn), line)
            play(client.leave(), line)

    return work


def _batched_clients(
    plan: RunPlan, line: RunPool, schedule: ArrivalSchedule, metrics: Metrics, batches: list[float]
) -> Callable[[ClientGroup], None]:
    """All clients, in one event loop. Appends the mean number of requests per batch to `batches`."""

    async def client(group: ClientGroup, desk: BatchClient) -> None:
        client = SimulatedClient(metrics)
        with _giving_up(group, line):
            while (turn := schedule.take()) is not None:
                while (seconds := schedule.seconds_until(turn)) > 0 and not group.stopped:
                    await asyncio.sleep(min(seconds, POLL_SECONDS))
                if seconds <= 0:
                    await desk.play(client.turn(turn))
            await desk.play(client.leave())

    def work(group: ClientGroup) -> None:
        with Batcher(line, booking_workers=BOOKING_WORKERS) as batcher:
            desk = BatchClient(line, batcher)
            try:
                in_one_thread([lambda group: client(group, desk)] * plan.clients)(group)
            finally:
                desk.close()
            lane = batcher.bookings
        batches.append(lane.items / max(lane.flushes, 1))

    return work


@contextmanager
def _giving_up(group: ClientGroup, line: RunPool) -> Iterator[None]:
    """If this client cannot connect, stop the others. Their errors are reported after this one."""
    try:
        yield
    except CannotConnect as error:
        group.fail(error)
        line.give_up()
        raise


def _watch(group: ClientGroup, line: RunPool, display: Callable[[], None]) -> bool:
    """Wait until all clients are done, or the server cannot be reached. True: ended early by Ctrl-C."""
    interrupted = False
    try:
        try:
            while not group.wait(REPORT_SECONDS) and not line.given_up:
                display()
            display()
        except KeyboardInterrupt:
            interrupted = True
            group.stop()
            # With a timeout: a signal that is delivered to another thread does not wake this one.
            while not group.wait(REPORT_SECONDS) and not line.given_up:
                pass
    except BaseException:  # the second Ctrl-C: do not wait for answers
        group.stop()
        line.give_up()
        raise
    return interrupted


def _check_stored(seen: MetricsSnapshot, stored: Counter[Outcome], checked: AuditReport) -> None:
    """Compare the acknowledged decisions with the store. Raises ProofFailed unless every acknowledged
    decision is stored with the same outcome."""
    lost = seen.outcomes - stored
    if lost:
        missing = ", ".join(f"{count:,} {outcome}" for outcome, count in lost.items())
        raise ProofFailed(
            f"of {seen.requested:,} acknowledged decisions the store lacks {missing}; {checked.verdict}"
        )


def _result(
    plan: RunPlan,
    seen: MetricsSnapshot,
    ended: RunEnd,
    retried: Counter[str],
    others: tuple[int, int, int],
    checked: AuditReport,
) -> SimulationResult:
    """`others`: rides ended before the run, rides active then, requests of other simulations during it."""
    expired, met, of_others = others
    is_open = plan.rate is not None
    return SimulationResult(
        requested=seen.requested,
        assigned=seen.assigned,
        refused=seen.refused,
        retries=retried.total(),
        retried=dict(retried.most_common()),
        completed=seen.events["completed"],
        cancelled={reason.value: count for reason, count in seen.cancelled.items()},
        abandoned=seen.events["abandoned"],
        settled=seen.events["settled"],
        sent_again=seen.events["sent_again"],
        topped_up=seen.events["topped_up"],
        refunded=seen.events["refunded"],
        went_offline=seen.events["went_offline"],
        expired_before=expired,
        others_requests=of_others,
        under_way_before=met,
        seconds=ended.seconds,
        rides_per_second=seen.assigned / ended.seconds,
        latency_ms_p50=seen.latencies.milliseconds(0.50),
        latency_ms_p99=seen.latencies.milliseconds(0.99),
        latency_ms_max=seen.latencies.seconds_max * 1e3,
        clients=plan.clients,
        mode=plan.mode,
        loop=plan.loop,
        rate=plan.rate,
        behind_seconds=ended.behind_seconds if is_open else None,
        overdue=ended.overdue if is_open else None,
        batch_mean=ended.batch_mean,
        seed=plan.seed,
        interrupted=ended.interrupted,
        audit=checked,
    )
