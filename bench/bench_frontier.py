"""Concurrent bookings and queries: the throughput frontier of several set-ups (`bench/frontier`)."""

from bench.env import SEED, BenchEnv
from bench.figure import Axis, Cell, Chart, Figure, Mark, Series
from bench.frontier.grid import FrontierConfig, FrontierResult, frontier, judge, measure, sharing_name
from bench.frontier.setups import (
    duckdb_alone,
    postgres_alone,
    postgres_and_epochs,
    postgres_and_standby,
)
from bench.textbook import ClaimId

CONFIGS = {
    "quick": FrontierConfig(clients=(0, 2), warmup_seconds=0.5, warm_seconds=0.05, seconds=0.3),
    "default": FrontierConfig(clients=(0, 1, 4), warmup_seconds=1.0, warm_seconds=0.2, seconds=0.75),
    "full": FrontierConfig(clients=(0, 1, 2, 4), warmup_seconds=5.0, warm_seconds=1.0, seconds=5.0, rounds=3),
}


def bench_frontier(figure: Figure, env: BenchEnv) -> None:
    figure.title = "How many queries per second are possible at how many bookings per second?"
    config = CONFIGS[figure.scale.name]
    setups = [
        postgres_alone(env.settings, env.store),
        postgres_and_epochs(env.settings, env.store),
    ]
    if figure.scale.level > 0:
        setups.append(postgres_and_standby(env.settings, env.store))
        setups.append(duckdb_alone(env.settings, env.store))
    measured = figure.once(lambda: [measure(setup, config, SEED) for setup in setups])
    figure.rows = figure.scale.rides
    figure.checked("; ".join(f"{one.name}: {one.proof}" for one in measured))
    for one in measured:
        figure.table(one.name, [_row(one, number) for number in range(len(one.points))])
    figure.table("Areas", [_area(one) for one in measured])
    figure.chart(_points_chart(measured))
    figure.chart(_frontier_chart(measured))
    figure.set_verdict(ClaimId.OUTDATED_TERMS, judge(measured))
    _add_warnings(figure, config)


def _row(one: FrontierResult, number: int) -> dict[str, Cell]:
    point = one.points[number]
    bookings_per_second, queries_per_second = point.xy
    return {
        "booking clients": point.booking_clients,
        "querying clients": point.querying_clients,
        "bookings/s": bookings_per_second,
        "queries/s": queries_per_second,
        "booking p50 ms": point.latency_ms_p50,
        "booking p99 ms": point.latency_ms_p99,
        "refused": point.refused,
        "retries": point.conflicts,
        "data age p95 s": point.age_seconds_p95,
    }


def _area(one: FrontierResult) -> dict[str, Cell]:
    bookings, questions = one.best
    return {
        "set-up": one.name,
        "bookings/s at best": bookings,
        "queries/s at best": questions,
        "area under the frontier": one.area,
        "lowest round": min(one.areas),
        "highest round": max(one.areas),
        "sharing": sharing_name(one.area),
        "data age p95 s": one.age_seconds_p95,
    }


def _points_chart(measured: list[FrontierResult]) -> Chart:
    """The points with both kinds of client. The axes are logarithmic, because the set-ups differ by orders of
    magnitude. The tables also contain the other points."""
    series = []
    for one in measured:
        inner = [point for point in one.points if min(point.xy) > 0]
        series.append(
            Series(
                one.name,
                x=[point.xy[0] for point in inner],
                y=[point.xy[1] for point in inner],
                colour=[point.age_seconds_p95 for point in inner],
                text=[
                    f"{point.booking_clients} booking, {point.querying_clients} querying" for point in inner
                ],
            )
        )
    return Chart(
        kind="points",
        title="Bookings and queries at the same time",
        x=Axis("bookings/s", log=True),
        y=Axis("queries/s", log=True),
        series=series,
        colour="age of the oldest missing change, p95, seconds",
    )


def _frontier_chart(measured: list[FrontierResult]) -> Chart:
    """Each frontier as a share of its own bounding box, and the two reference lines."""
    series = [
        Series("bounding box: full isolation", x=[0.0, 1.0, 1.0], y=[1.0, 1.0, 0.0]),
        Series("proportional line: one shared resource", x=[0.0, 1.0], y=[1.0, 0.0]),
    ]
    for one in measured:
        bookings, questions = one.best
        edge = frontier([point.xy for point in one.points])
        series.append(
            Series(
                f"{one.name}: {sharing_name(one.area)} ({one.area:.2f})",
                x=[x / bookings for x, _ in edge],
                y=[y / questions for _, y in edge],
            )
        )
    return Chart(
        kind="lines",
        title="Bookings against queries, as shares of the best rates",
        x=Axis("bookings/s, share of the best"),
        y=Axis("queries/s, share of the best"),
        series=series,
        marks=[Mark("bounding box", 1.0, 1.0), Mark("proportional line", 0.5, 0.5)],
    )


def _add_warnings(figure: Figure, config: FrontierConfig) -> None:
    figure.warn(
        "clients, server and engines share the same cores: no set-up can reach its bounding box, and "
        "proportional sharing is the best possible result on one machine"
    )
    figure.warn(
        "DuckDB allows one process per file: its clients are threads, those of Postgres are processes"
    )
    if figure.scale.level == 0:
        figure.warn(
            f"only {figure.scale.rides:,} rides, which favours Postgres; the default scale also measures "
            "DuckDB alone and a hot standby"
        )
    if config.rounds == 1:
        figure.warn(
            f"each point was measured once, for {config.seconds:g} s; the order of close points is not "
            "significant"
        )
