"""The scenes: each does one thing, checks it, and says in one sentence what was seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import median

from bench.freshness import syncing
from lakehouse.catalog import Lake
from lakehouse.engines import Engine
from lakehouse.epoch import Epoch
from lakehouse.take import estimate_rows, take_changes, take_snapshot
from olap.ask import Asked, ask
from olap.question import find, questions
from oltp.load import CheckedFile, load_files
from oltp.seed import seed_rides
from oltp.simulate import simulate
from oltp.store import Store
from ridelake.errors import ProofFailed
from ridelake.progress import progress
from ridelake.screen import grouped

CLIENTS = 16
SYNC_EVERY_SECONDS = 0.5
ROUNDS = 4  # one cold, three warm
ROUNDS_OF_ALL = 3  # there are many questions
LECTURE, LECTURE_EVERYWHERE = "average_price", "average_price_by_city_and_month"
ROWS, COLUMNS = "postgres", "duckdb"  # who stands for what


@dataclass(frozen=True, slots=True)
class Bars:
    """Seconds of each engine for one question: what a chart draws. The shortest bar wins."""

    label: str
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a scene showed: one sentence, and the figures behind it."""

    verdict: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    bars: tuple[Bars, ...] = ()
    notes: tuple[str, ...] = ()


def row_store(store: Store, seconds: float, embedded: bool) -> Seen:
    number = f"{store.server_version // 10000}.{store.server_version % 10000}"
    where = "on a private unix socket, no port open" if embedded else "at the DSN"
    return Seen(
        f"Postgres {number} {where}: ready in {seconds:.1f} s.",
        notes=("Its rules are in oltp/schema.sql: read that file first.",),
    )


def seeded_past(store: Store, rides: int, seed: int) -> Seen:
    done = seed_rides(store, rides, seed)
    if done.rides == 0:
        return Seen(f"All {rides:,} rides of seed {seed} were there from before.")
    there = f" ({done.there_before:,} were there from before)" if done.there_before else ""
    speed = f"{done.rides_per_second:,.0f} rides/s, seed {seed}"
    return Seen(f"{done.rides:,} past rides of 2025 in {done.seconds:.1f} s{there}: {speed}.")


def loaded_past(store: Store, checked: Sequence[CheckedFile], quarantine: Path) -> Seen:
    """Real trip files."""
    done = load_files(store, checked, quarantine)
    rejected = sum(done.rejected.values())
    if done.read != done.loaded + rejected:
        raise ProofFailed(f"{done.read:,} rows read are not {done.loaded:,} loaded + {rejected:,} rejected")
    return Seen(
        f"{done.read:,} rows read = {done.loaded:,} loaded + {rejected:,} rejected, in {done.seconds:.1f} s.",
        ("rejected because", "rows"),
        tuple((reason, grouped(count)) for reason, count in done.rejected.items()),
    )


def rides_booked(store: Store, rides: int, seed: int) -> Seen:
    """Raises ProofFailed if the audit finds anything."""
    with progress("requests", rides) as shown:
        done = simulate(store, rides=rides, clients=CLIENTS, seed=seed, report=shown.reach)
    if done.interrupted:
        raise KeyboardInterrupt
    if not done.audit.passed:
        raise ProofFailed(done.audit.verdict)
    declined = done.refused.get("payment_declined", 0)
    refused = tuple((reason, grouped(count)) for reason, count in done.refused.items())
    return Seen(
        f"{done.assigned:,} of {done.requested:,} requests got a driver ({done.rides_per_second:,.0f} "
        f"rides/s, p99 {done.latency_ms_p99:.1f} ms); {declined:,} payments failed and took no driver along; "
        f"{done.audit.verdict}.",
        ("outcome", "requests"),
        (("assigned", grouped(done.assigned)), *refused),
        notes=(
            f"A booking takes {done.latency_ms_p50:.2f} ms (median), and is on disk when it is answered.",
            f"The audit read every row, in {done.audit.seconds:.1f} s: no cent lost, nobody driving twice.",
        ),
    )


def epoch_published(store: Store, lake: Lake) -> Seen:
    with progress("rows", estimate_rows(store)) as shown:
        epoch = take_snapshot(store, lake, shown.advance)
    with store.connect() as connection:
        sized = connection.execute(files("bench.demo").joinpath("store_bytes.sql").read_bytes()).fetchone()
    store_bytes = int(sized[0]) if sized else 0
    return Seen(
        f"Epoch {epoch.number}: {epoch.rows:,} rows in {epoch.seconds:.1f} s; "
        f"{store_bytes / 1e6:,.0f} MB of rows and indexes became {epoch.bytes / 1e6:,.0f} MB of columns "
        f"({store_bytes / epoch.bytes:.1f}× smaller).",
        ("table", "rows", "files", "MB"),
        tuple(
            (name, grouped(table.rows), grouped(len(table.files)), f"{table.bytes / 1e6:,.2f}")
            for name, table in epoch.tables.items()
        ),
    )


def lake_followed(store: Store, lake: Lake, rides: int, seed: int) -> Seen:
    """Raises ProofFailed if the audit finds anything, or a row of the last epoch is not what Postgres has."""
    with syncing(store, lake, SYNC_EVERY_SECONDS) as epochs:
        done = simulate(store, rides=rides, clients=CLIENTS, seed=seed)
    if done.interrupted:
        raise KeyboardInterrupt
    if not done.audit.passed:
        raise ProofFailed(done.audit.verdict)
    last = take_changes(store, lake, verify=True).epoch
    epochs = [epoch for epoch in epochs if epoch.kind == "changes"]
    changed = sum(epoch.changed for epoch in epochs)
    return Seen(
        f"{len(epochs)} epochs while {done.assigned:,} rides were booked, {changed:,} changed rows in all; "
        f"the usual one took {median(epoch.seconds for epoch in epochs):.2f} s. The last is equal to "
        f"Postgres, all {last.rows:,} rows, by hashes that each side computes.",
        ("epoch", "rows changed", "rows", "files", "seconds"),
        tuple(
            (
                str(epoch.number),
                grouped(epoch.changed),
                grouped(epoch.rows),
                grouped(len(epoch.files)),
                f"{epoch.seconds:.2f}",
            )
            for epoch in epochs
        ),
        notes=("What has changed is told by one condition on one column: docs/lake.md proves it.",),
    )


def lecture_asked(engines: Sequence[Engine], epoch: Epoch) -> Seen:
    """Raises ProofFailed if two answers differ."""
    asked = ask(find(LECTURE), engines, epoch, rounds_max=ROUNDS)
    price = asked.answer.column(0)[0].as_py()
    if price is not None:
        said = f"${float(price):.4f}"
    else:  # real trips, of other places and months
        asked = ask(find(LECTURE_EVERYWHERE), engines, epoch, rounds_max=ROUNDS)
        city, month, _, price = asked.answer.slice(0, 1).to_pylist()[0].values()
        said = f"No ride there then; in {city} in {month} it is ${float(price):.4f}"
    bars = _bars(asked)
    return Seen(
        f"{said}, on every engine; {_ratio(bars)}.",
        ("engine", "first, ms", "then, ms"),
        tuple(
            (run.engine, f"{run.first_seconds * 1e3:.1f}", f"{run.usual_seconds * 1e3:.1f}")
            for run in asked.runs
        ),
        (bars,),
    )


def all_asked(engines: Sequence[Engine], epoch: Epoch) -> Seen:
    """Raises ProofFailed if two answers differ."""
    results = []
    with progress("questions", len(questions())) as shown:
        for question in questions().values():
            results.append(ask(question, engines, epoch, rounds_max=ROUNDS_OF_ALL))
            shown.advance(1)
    bars = tuple(sorted((_bars(asked) for asked in results), key=_row_to_column))
    won = [bar.label for bar in bars if bar.seconds[ROWS] <= min(bar.seconds.values())]
    mostly = f" ({', '.join(won)}; most are look-ups, where an index leads to the row)" if won else ""
    return Seen(
        f"All {len(bars) * len(engines)} answers are equal. The rows win {len(won)} of {len(bars)} "
        f"questions{mostly}, the columns the rest.",
        ("question", *(f"{engine.name}, ms" for engine in engines), "rows ÷ columns"),
        tuple(
            (
                bar.label,
                *(f"{seconds * 1e3:,.1f}" for seconds in bar.seconds.values()),
                f"{_row_to_column(bar):.2g}×",
            )
            for bar in bars
        ),
        bars,
        ("Times are medians of warm, interleaved runs; a factor below 1 is a win for the rows.",),
    )


def same_files(engines: Sequence[Engine], epoch: Epoch) -> Seen:
    """The readers of files, over one and the same file list."""
    readers = [engine for engine in engines if engine.name != ROWS]
    asked = ask(find("revenue_by_city_and_month"), readers, epoch, rounds_max=ROUNDS)
    rides = epoch.tables["rides"]
    names = " and ".join(engine.name for engine in readers)
    return Seen(
        f"{names} read the same {len(epoch.files)} files and say the same: {asked.answer.num_rows} rows, "
        "value by value. Where data lies no longer decides who answers.",
        ("engine", "version", "ms"),
        tuple((run.engine, run.version, f"{run.usual_seconds * 1e3:.1f}") for run in asked.runs),
        notes=(
            f"One of the files: {rides.files[0].name}; {rides.rows:,} rides in {rides.bytes / 1e6:,.1f} MB.",
        ),
    )


def _bars(asked: Asked) -> Bars:
    return Bars(asked.question.name, {run.engine: run.usual_seconds for run in asked.runs})


def _row_to_column(bars: Bars) -> float:
    return bars.seconds[ROWS] / bars.seconds[COLUMNS]


def _ratio(bars: Bars) -> str:
    factor = _row_to_column(bars)
    if factor >= 1:
        return f"the columns ({COLUMNS}) are {factor:.1f}× as fast as the rows ({ROWS})"
    return f"the rows ({ROWS}) are {1 / factor:.1f}× as fast as the columns ({COLUMNS})"
