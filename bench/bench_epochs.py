"""The time of bulk loads and epochs, the age of an epoch, and the effect of a sync on bookings.

The epochs are compared with Postgres row by row before a figure is recorded.

The lag is the time from a commit to the first epoch that contains it. One client tops up the account of a
rider 20 times per second and records the time and the transaction ID of each COMMIT. The lag of such a probe
ends when the first epoch is published whose token includes the transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter, time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.sql import SQL, Identifier, Literal

from bench.env import (
    MORE_DRIVERS,
    SYNC_EVERY_SECONDS,
    BenchEnv,
    SizedStore,
    assert_audited,
    sized_stores,
    syncing,
)
from bench.figure import Cell, Figure
from bench.statistics import percentile
from lakehouse.capture.overlay import open_overlay
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp import booking, lifecycle
from oltp.ingest.seed import seed_rides
from oltp.ingest.tlc import check_files, load_files
from oltp.store import Store, transaction
from oltp.workload import draw_requests, riders_by_city, simulate
from oltp.workload.runner import ClientGroup, running_clients
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress

QUERIES = load_queries("bench")

pytestmark = pytest.mark.scale("full")

SEEDED_RIDES = 100_000
BULK_ROUNDS = 3
CHANGED_RIDES = 1_000
UPDATED_ROWS = 1_000
KEYED_ROWS = 3_000_000
# Table → its key made from a number, and its rows.
KEYED_TABLES = {
    "bigint key": (SQL("n::bigint"), KEYED_ROWS),
    "text key": (SQL("md5(n::text)"), KEYED_ROWS),
    "uuid key": (SQL("md5(n::text)::uuid"), KEYED_ROWS),
    "a tenth": (SQL("n::bigint"), KEYED_ROWS // 10),
}
INCREMENTAL_ROUNDS = 15
FRESH_ROUNDS = 9

RIDES_PER_SECOND = 1_000.0
STEADY_SECONDS = 20.0
PEAK_SECONDS = 8.0
FRESHNESS_ROUNDS = 3
CLIENTS, PEAK_CLIENTS = 512, 384
PROBES_PER_SECOND = 20


def bench_seed(figure: Figure, env: BenchEnv) -> None:
    figure.title = "How long does it take to generate past rides?"
    seeds = count(1_000)  # a repeated seed stores nothing

    def compare(seeded: dict[str, int]) -> None:
        assert set(seeded.values()) == {SEEDED_RIDES}

    times = figure.interleaved(
        {"seed": lambda: seed_rides(env.store, SEEDED_RIDES, next(seeds)).rides},
        compare,
        seconds=0.0,
        rounds_min=BULK_ROUNDS,
    )
    assert_audited(env.store)
    figure.checked("all rides are stored; the audit passed")
    figure.rows = SEEDED_RIDES
    figure.facts["rides/s"] = SEEDED_RIDES / times.median_seconds("seed")


def bench_load(figure: Figure, env: BenchEnv, yellow_trips: Path, tmp_path: Path) -> None:
    """Run once, because a file that is loaded again adds no rows."""
    figure.title = "How long does it take to load a file of trips?"
    began = perf_counter()
    done = figure.once(lambda: load_files(env.store, check_files([yellow_trips]), tmp_path / "quarantine"))
    seconds = perf_counter() - began
    assert done.loaded > 0
    assert done.read == done.loaded + sum(done.rejected.values())
    assert_audited(env.store)
    figure.checked("each row was loaded or rejected; the audit passed")
    figure.rows = done.read
    figure.facts["rows/s"] = done.read / seconds


def bench_snapshot(figure: Figure, env: BenchEnv) -> None:
    figure.title = "How long does it take to publish an epoch of all rides?"
    lake = Lake.create(env.settings.lake)

    def compare(epochs: dict[str, Epoch]) -> None:
        with env.store.connect() as connection:
            counted = connection.execute("SELECT count(*) FROM rides").fetchone()
        assert {(epoch.tables["rides"].rows,) for epoch in epochs.values()} == {counted}

    times = figure.interleaved(
        {"snapshot": lambda: publish_snapshot(env.store, lake)}, compare, seconds=0.0, rounds_min=BULK_ROUNDS
    )
    verify_now(env.store, lake).prove()
    figure.checked("the epoch equals the store row by row")
    epoch = newest_epoch(lake.address)
    figure.rows = epoch.rows
    figure.facts |= {"rows/s": epoch.rows / times.median_seconds("snapshot"), "bytes": epoch.bytes}


@dataclass(slots=True)
class ChangingStore:
    """A store and its lake, and the active rides of the last round."""

    store: Store
    lake: Lake
    active: list[int] = field(default_factory=list)
    round: int = 0

    def change(self) -> None:
        """Cancel the active rides of the previous round, book CHANGED_RIDES rides, and cancel half of
        these."""
        self.round += 1
        requests = draw_requests(np.random.default_rng(self.round), riders_by_city(self.store))
        with self.store.connect() as connection:
            lifecycle.cancel_many(connection, self.active)
            decided = booking.book_many(connection, [next(requests) for _ in range(CHANGED_RIDES)])
            booked = [one.ride_id for one in decided if one.ride_id is not None]
            self.active = booked[: CHANGED_RIDES // 2]
            lifecycle.cancel_many(connection, booked[CHANGED_RIDES // 2 :])


def bench_incremental_epoch(figure: Figure, sizes: tuple[int, ...]) -> None:
    figure.title = (
        f"Does the time of an epoch of about {CHANGED_RIDES:,} changed rides depend on the store's size?"
    )
    changed: list[int] = []

    def published(one: ChangingStore) -> float:
        one.change()
        began = perf_counter()
        taken = publish_changes(one.store, one.lake)
        seconds = perf_counter() - began
        changed.append(taken.epoch.tables["rides"].changed)
        return seconds

    with sized_stores(sizes, MORE_DRIVERS) as stores:
        changing = {_name(one): ChangingStore(one.store, Lake.create(one.settings.lake)) for one in stores}
        variants: dict[str, Callable[[], float]] = {
            name: partial(published, one) for name, one in changing.items()
        }
        times = figure.self_timed(variants, INCREMENTAL_ROUNDS)
        for one in changing.values():
            verify_now(one.store, one.lake).prove()
    figure.checked("the last epoch of each store equals it row by row")
    figure.rows = sizes[-1]
    smallest, *larger = changing
    for name in larger:
        figure.ratio(times.ratio(name, smallest))
    rows: list[dict[str, Cell]] = [
        {
            "store": name,
            "p50 s": percentile(times.samples[name].seconds, 50),
            "p99 s": percentile(times.samples[name].seconds, 99),
        }
        for name in changing
    ]
    figure.table(f"An epoch of {median(changed):,.0f} changed rides", rows)


def _name(one: SizedStore) -> str:
    return f"{one.rides:,} rides"


def bench_random_updates(figure: Figure, env: BenchEnv) -> None:
    figure.title = (
        f"How long does an epoch of {UPDATED_ROWS:,} random updates of a table of {KEYED_ROWS:,} rows take?"
    )
    lake = Lake.create(LakeAddress.at(env.settings.home / "random-updates"))
    with env.store.connect() as connection:
        for table, (key, size) in KEYED_TABLES.items():
            made = SQL(QUERIES["keyed_table"])
            connection.execute(made.format(table=Identifier(table), key=key, rows=Literal(size)))
            connection.execute(SQL("VACUUM ANALYZE {}").format(Identifier(table)))
    for table in KEYED_TABLES:
        track(env.store, f'"{table}"')
    epoch = publish_snapshot(env.store, lake, tables=[f'"{table}"' for table in KEYED_TABLES])
    written: dict[str, list[int]] = {table: [] for table in KEYED_TABLES}

    def published(table: str) -> float:
        nonlocal epoch
        before = {file.location for file in epoch.stored_files}
        key, size = KEYED_TABLES[table]
        update = SQL(QUERIES["update_random_rows"]).format(table=Identifier(table), key=key)
        with env.store.connect() as connection:
            connection.execute(update, {"updates": UPDATED_ROWS, "rows": size})
        began = perf_counter()
        epoch = publish_changes(env.store, lake).epoch
        seconds = perf_counter() - began
        written[table].append(sum(file.bytes for file in epoch.stored_files if file.location not in before))
        return seconds

    times = figure.self_timed(
        {table: partial(published, table) for table in KEYED_TABLES}, INCREMENTAL_ROUNDS
    )
    verify_now(env.store, lake).prove()
    figure.checked("the last epoch equals the tables row by row")
    figure.rows = KEYED_ROWS
    for table in ("text key", "uuid key", "a tenth"):
        figure.ratio(
            times.ratio("bigint key", table) if table == "a tenth" else times.ratio(table, "bigint key")
        )
    rows: list[dict[str, Cell]] = [
        {
            "table": table,
            "rows": size,
            "p50 s": percentile(times.samples[table].seconds, 50),
            "p99 s": percentile(times.samples[table].seconds, 99),
            "bytes written": median(written[table]),
        }
        for table, (_, size) in KEYED_TABLES.items()
    ]
    figure.table("An epoch; the first one, which writes the index of the keys, is not counted", rows)


def bench_freshness(figure: Figure, env: BenchEnv) -> None:
    figure.title = (
        f"How old is an epoch at {RIDES_PER_SECOND:,.0f} rides/s, and how much does a sync slow bookings?"
    )
    lake = Lake.create(env.settings.lake)
    publish_snapshot(env.store, lake)
    probes: list[Probe] = []
    with syncing(env.store, lake) as epochs, running_clients([partial(_probe, env.store, probes)]):
        steady = simulate(
            env.store, seconds=STEADY_SECONDS, clients=CLIENTS, rate=RIDES_PER_SECOND, batch=True, seed=1
        )
    assert steady.audit.passed, steady.audit.verdict
    lags = [lag for lag in (_lag_seconds(probe, epochs) for probe in probes) if lag is not None]
    assert len(lags) >= 0.9 * len(probes), "the sync did not keep up"
    seeds = count(10)

    def alone() -> float:
        return _peak_seconds(env.store, next(seeds))

    def during() -> float:
        with syncing(env.store, lake):
            return _peak_seconds(env.store, next(seeds))

    times = figure.self_timed({"bookings alone": alone, "bookings during a sync": during}, FRESHNESS_ROUNDS)
    verify_now(env.store, lake).prove()
    figure.checked(f"the last epoch equals the store row by row; {steady.audit.verdict}")
    figure.ratio(times.ratio("bookings during a sync", "bookings alone"))
    figure.facts |= {
        "rides/s": steady.assigned / steady.seconds,
        "seconds between epochs, minimum": SYNC_EVERY_SECONDS,
        "lag p50 s": percentile(lags, 50),
        "lag p99 s": percentile(lags, 99),
        "longest lag s": max(lags),
        "probes": len(lags),
        "epochs": len(epochs),
        "peak rides/s alone": 1 / times.median_seconds("bookings alone"),
        "peak rides/s during a sync": 1 / times.median_seconds("bookings during a sync"),
    }


Probe = tuple[int, float]
"""A transaction ID and the time of its commit."""


def _probe(store: Store, probes: list[Probe], group: ClientGroup) -> None:
    with store.connect() as connection:
        rider = connection.execute("SELECT max(rider_id) FROM riders").fetchone()
        assert rider is not None
        while group.sleep(1 / PROBES_PER_SECOND):
            with transaction(connection):
                connection.execute("SELECT top_up(%s, 1)", rider)
                row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
            assert row is not None
            probes.append((row[0], time()))


def _lag_seconds(probe: Probe, epochs: list[Epoch]) -> float | None:
    tx, committed_at = probe
    first = next((epoch for epoch in epochs if epoch.token.has_seen(tx)), None)
    return first.published_at.timestamp() - committed_at if first else None


def _peak_seconds(store: Store, seed: int) -> float:
    """Seconds per ride at the peak."""
    done = simulate(store, seconds=PEAK_SECONDS, clients=PEAK_CLIENTS, batch=True, seed=seed)
    assert done.audit.passed, done.audit.verdict
    return done.seconds / done.assigned


def bench_fresh_answer(figure: Figure, env: BenchEnv) -> None:
    """`--fresh` compared with the newest epoch: the same query, interleaved."""
    figure.title = "How long does an up-to-date answer take?"
    lake = Lake.create(env.settings.lake)
    publish_snapshot(env.store, lake)
    ChangingStore(env.store, lake).change()
    newest = newest_epoch(lake.address)
    query = "SELECT status, count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents FROM rides GROUP BY 1"

    def plain() -> pa.Table:
        with open_engine("duckdb", env.settings, newest) as engine:
            return engine.sql(query)

    def fresh() -> pa.Table:
        with open_overlay(env.settings, newest) as now, open_engine("duckdb", env.settings, now) as engine:
            return engine.sql(query)

    def compare(answers: dict[str, pa.Table]) -> None:
        with open_engine("postgres", env.settings, None) as engine:
            assert engine.sql(query).sort_by("status").equals(answers[FRESH].sort_by("status"))

    variants = {PLAIN: plain, FRESH: fresh}
    times = figure.interleaved(variants, compare, seconds=0.0, rounds_min=FRESH_ROUNDS)
    figure.checked("the up-to-date answer equals that of Postgres")
    figure.ratio(times.ratio(FRESH, PLAIN))


PLAIN, FRESH = "DuckDB over the newest epoch", "DuckDB with --fresh"


def bench_space(figure: Figure, env: BenchEnv, tmp_path: Path) -> None:
    figure.title = "How many bytes does a ride take?"
    lake = Lake.create(LakeAddress.at(tmp_path / "lake"))
    rides = figure.once(lambda: publish_snapshot(env.store, lake)).tables["rides"]
    rows = pl.read_parquet(rides.locations, glob=False)
    rows.write_csv(tmp_path / "rides.csv")
    pq.write_table(rows.to_arrow(), tmp_path / "default.parquet")
    assert pl.read_parquet(tmp_path / "default.parquet").equals(rows)
    with env.store.connect() as connection:
        found = connection.execute(QUERIES["ride_bytes"]).fetchone()
    assert found is not None
    heap, indexes, counted = found
    assert counted == rides.rows
    figure.checked("the epoch has as many rides as the store; the Parquet file has the rows of the epoch")
    figure.rows = rides.rows
    sizes = {
        "Postgres, the table": heap,
        "Postgres, its indexes": indexes,
        "CSV": (tmp_path / "rides.csv").stat().st_size,
        "Parquet with defaults": (tmp_path / "default.parquet").stat().st_size,
        "epoch": rides.bytes,
    }
    figure.table(
        "Bytes per ride", [{"form": form, "bytes": size / rides.rows} for form, size in sizes.items()]
    )
