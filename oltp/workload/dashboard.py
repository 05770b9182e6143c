"""Displays a run on stderr: a live table on a terminal, otherwise a line every two seconds."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from oltp.workload.metrics import LatencyHistogram, format_counts
from oltp.workload.schedule import ArrivalSchedule
from oltp.workload.simulation import RunPlan, RunState
from ridelake.screen import note

if TYPE_CHECKING:
    from rich.console import RenderableType

BARS = "▁▂▃▄▅▆▇█"
BARS_SHOWN = 60
BAR_SECONDS = 0.5
LINE_SECONDS = 2.0
RECENT_SECONDS = 1.0


@contextmanager
def open_dashboard() -> Iterator[Callable[[RunState], None]]:
    """The function that `simulate` calls to display its state."""
    if not sys.stderr.isatty():
        yield LineDisplay().show
        return
    from rich.console import Console  # imported here, because the import takes 0.1 s
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    if console.is_dumb_terminal:
        yield LineDisplay().show
        return
    screen = LiveDisplay()
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as shown:
        yield lambda state: shown.update(screen.draw(state), refresh=True)


class LineDisplay:
    """Prints one line every two seconds."""

    def __init__(self) -> None:
        self._recent = RecentMetrics(LINE_SECONDS)

    def show(self, state: RunState) -> None:
        if not self._recent.follow(state):
            return
        recent, schedule, seen = self._recent, state.schedule, state.seen
        behind = f", {schedule.behind_seconds(state.now):.1f} s behind" if schedule.open_loop else ""
        note(
            f"{state.now - schedule.began:.0f} s: {seen.requested:,} requests{left(state)}; "
            f"{recent.rides_per_second:,.0f} rides/s, {percentiles(recent.latencies)}, "
            f"refused {sum(seen.refused.values()):,}, retries {state.retried.total():,}{behind}"
        )


class LiveDisplay:
    """A table of about ten lines, redrawn on every update."""

    def __init__(self) -> None:
        self._recent = RecentMetrics(RECENT_SECONDS)
        self._pace = RecentMetrics(BAR_SECONDS)
        self._bars: deque[float] = deque(maxlen=BARS_SHOWN)

    def draw(self, state: RunState) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        self._recent.follow(state)
        if self._pace.follow(state):
            self._bars.append(self._pace.rides_per_second)
        seen, schedule = state.seen, state.schedule
        seconds = max(state.now - schedule.began, 1e-9)
        recent = self._recent
        pace = f"{seen.assigned / seconds:,.0f} rides/s on average"
        if recent.known:
            pace = f"{recent.rides_per_second:,.0f} rides/s now, {pace}"
        rows: list[tuple[str, str | Text]] = [
            ("", Text(sparkline(self._bars), style="green")),
            ("rides", Text(pace, style="bold")),
            ("requests", f"{seen.requested:,} in {seconds:.0f} s{left(state)}"),
            ("last second", percentiles(recent.latencies) if recent.known else "…"),
            ("all", f"{percentiles(seen.latencies)}, max {seen.latencies.seconds_max * 1e3:.1f} ms"),
            ("refused", format_counts(seen.refused)),
            ("cancelled", f"by {format_counts(seen.cancelled)}" if seen.cancelled else "none"),
            ("retries", Text(format_counts(state.retried), style="yellow" if state.retried else "")),
        ]
        if schedule.open_loop:
            behind = schedule.behind_seconds(state.now)
            rows.append(("behind", Text(f"{behind:.2f} s", style="red" if behind > 1 else "")))
        if state.auditing:
            rows.append(("audit", "reading every row …"))
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="dim", no_wrap=True, min_width=len("last second"))
        table.add_column(overflow="ellipsis", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        return Group(Text(headline(state.plan, schedule), style="dim"), table)


class RecentMetrics:
    """The throughput and latencies of about the last `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.latencies = LatencyHistogram([], 0.0)
        self.rides_per_second = 0.0
        self._seconds = seconds
        self._before: RunState | None = None

    @property
    def known(self) -> bool:
        return self._before is not None

    def follow(self, state: RunState) -> bool:
        """Update the figures. True if they have changed."""
        if self._before is None:
            began = state.schedule.began
            since, assigned, latencies = began, 0, None
        else:
            since, assigned = self._before.now, self._before.seen.assigned
            latencies = self._before.seen.latencies
        if state.now - since < self._seconds:
            return False
        self.rides_per_second = (state.seen.assigned - assigned) / (state.now - since)
        now = state.seen.latencies
        self.latencies = now if latencies is None else now.since(latencies)
        self._before = state
        return True


def headline(plan: RunPlan, schedule: ArrivalSchedule) -> str:
    pace = "" if plan.rate is None else f" at {plan.rate:,g} requests/s"
    return (
        f"{plan.clients} clients, {plan.mode}, {plan.loop} loop{pace}, seed {plan.seed}; "
        f"simulated time: day {schedule.day}, {schedule.hour} h"
    )


def percentiles(latencies: LatencyHistogram) -> str:
    if not any(latencies.counts):
        return "no answers"
    return f"p50 {latencies.milliseconds(0.5):.2f} ms, p99 {latencies.milliseconds(0.99):.2f} ms"


def left(state: RunState) -> str:
    """The estimated remaining time; empty if it is unknown."""
    schedule, requested = state.schedule, state.seen.requested
    elapsed = state.now - schedule.began
    if schedule.seconds is not None:
        return f", {max(schedule.seconds - elapsed, 0):.0f} s left"
    if schedule.rides is not None and requested:
        return (
            f" of {schedule.rides:,}, {elapsed * max(schedule.rides - requested, 0) / requested:.0f} s left"
        )
    return ""


def sparkline(values: "deque[float]") -> str:
    """Bars of rides per second, scaled to the highest."""
    most = max(values, default=0.0)
    return "".join(BARS[round(value / most * (len(BARS) - 1))] if most else BARS[0] for value in values)
