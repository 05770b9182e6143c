"""Bookings and questions at once: what each set-up keeps of both, on one plot (`bench/frontier`)."""

from bench.claims.words import Saying
from bench.conftest import SEED, Ground
from bench.figure import Axis, Cell, Chart, Figure, Mark, Series
from bench.frontier.envelope import as_words, frontier
from bench.frontier.grid import Effort, Measured, measure
from bench.frontier.setups import (
    duckdb_alone,
    postgres_alone,
    postgres_and_epochs,
    postgres_and_standby,
)
from bench.frontier.verdict import judge

EFFORTS = {
    "quick": Effort(clients=(0, 2), rehearsal_seconds=0.5, warm_seconds=0.05, seconds=0.3),
    "default": Effort(clients=(0, 1, 4), rehearsal_seconds=1.0, warm_seconds=0.2, seconds=0.75),
    "full": Effort(clients=(0, 1, 2, 4), rehearsal_seconds=5.0, warm_seconds=1.0, seconds=5.0, rounds=3),
}


def bench_frontier(figure: Figure, ground: Ground) -> None:
    figure.title = "How many questions can be asked beside how many bookings?"
    effort = EFFORTS[figure.scale.name]
    setups = [
        postgres_alone(ground.settings, ground.store),
        postgres_and_epochs(ground.settings, ground.store),
    ]
    if figure.scale.level > 0:
        setups.append(postgres_and_standby(ground.settings, ground.store))
        setups.append(duckdb_alone(ground.settings, ground.store))
    measured = figure.once(lambda: [measure(setup, effort, SEED) for setup in setups])
    figure.rows = figure.scale.rides
    figure.checked("; ".join(f"{one.name}: {one.proof}" for one in measured))
    for one in measured:
        figure.table(one.name, [_row(one, number) for number in range(len(one.points))])
    figure.table("Areas", [_area(one) for one in measured])
    figure.chart(_plane(measured))
    figure.chart(_shares(measured))
    verdict, because = judge(measured)
    figure.state(Saying.OUTDATED_TERMS, verdict, because)
    _warn(figure, effort)


def _row(one: Measured, number: int) -> dict[str, Cell]:
    point = one.points[number]
    bookings_per_second, questions_per_second = point.xy
    return {
        "booking clients": point.booking_clients,
        "asking clients": point.asking_clients,
        "bookings/s": bookings_per_second,
        "questions/s": questions_per_second,
        "booking p50 ms": point.latency_ms_p50,
        "booking p99 ms": point.latency_ms_p99,
        "refused": point.refused,
        "tried again": point.conflicts,
        "oldest missing change p95 s": point.age_seconds_p95,
    }


def _area(one: Measured) -> dict[str, Cell]:
    bookings, questions = one.best
    return {
        "set-up": one.name,
        "bookings/s at best": bookings,
        "questions/s at best": questions,
        "area under the frontier": one.area,
        "lowest round": min(one.areas),
        "highest round": max(one.areas),
        "which is": as_words(one.area),
        "oldest missing change p95 s": one.age_seconds_p95,
    }


def _plane(measured: list[Measured]) -> Chart:
    """All points as they were measured. Logarithmic, for the set-ups are orders apart; points on an axis
    (one kind of client alone) are in the tables."""
    series = []
    for one in measured:
        inner = [point for point in one.points if min(point.xy) > 0]
        series.append(
            Series(
                one.name,
                x=[point.xy[0] for point in inner],
                y=[point.xy[1] for point in inner],
                colour=[point.age_seconds_p95 for point in inner],
                text=[f"{point.booking_clients} booking, {point.asking_clients} asking" for point in inner],
            )
        )
    return Chart(
        kind="points",
        title="Bookings and questions at once",
        x=Axis("bookings/s", log=True),
        y=Axis("questions/s", log=True),
        series=series,
        colour="age of the oldest missing change, p95, seconds",
    )


def _shares(measured: list[Measured]) -> Chart:
    """The frontiers, each as a share of its own box, between the two lines that tell what they mean."""
    series = [
        Series("bounding box: neither notices the other", x=[0.0, 1.0, 1.0], y=[1.0, 1.0, 0.0]),
        Series("proportional line: one resource, shared", x=[0.0, 1.0], y=[1.0, 0.0]),
    ]
    for one in measured:
        bookings, questions = one.best
        edge = frontier([point.xy for point in one.points])
        series.append(
            Series(
                f"{one.name}: {as_words(one.area)} ({one.area:.2f})",
                x=[x / bookings for x, _ in edge],
                y=[y / questions for _, y in edge],
            )
        )
    return Chart(
        kind="lines",
        title="What is left of each beside the other",
        x=Axis("bookings/s, as a share of the most"),
        y=Axis("questions/s, as a share of the most"),
        series=series,
        marks=[Mark("bounding box", 1.0, 1.0), Mark("proportional line", 0.5, 0.5)],
    )


def _warn(figure: Figure, effort: Effort) -> None:
    figure.warn(
        "clients, server and engines share the same cores, so that no set-up can reach its bounding box: "
        "what two machines would isolate, one machine shares, at best in proportion"
    )
    figure.warn(
        "DuckDB lets one process in: its clients are threads of one Python, those of Postgres are processes"
    )
    if figure.scale.level == 0:
        figure.warn(
            f"only {figure.scale.rides:,} rides, which favours the row store, and DuckDB alone and the hot "
            "standby are left out: for all of it see the default scale"
        )
    if effort.rounds == 1:
        figure.warn(
            f"each point was measured once, for {effort.seconds:g} s: neighbouring points may change places"
        )
