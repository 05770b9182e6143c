"""The scenes of the demo: each does one thing, checks it, and reports it in one sentence."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from bench.demo import scenes
from bench.env import syncing
from bench.statistics import factor_text
from lakehouse.capture.publish import estimate_rows, publish_changes, publish_snapshot
from lakehouse.engines import Engine, open_engine
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import newest_epoch
from olap.ask import AskResult, ask
from olap.question import find_question, questions
from oltp.ingest.seed import seed_rides
from oltp.ingest.tlc import CheckedFile, load_files
from oltp.store import Store, open_store
from oltp.workload import simulate
from ridelake.errors import OutOfResources, ProofFailed
from ridelake.progress import progress
from ridelake.queries import load_queries
from ridelake.resources import free_bytes
from ridelake.settings import Settings
from ridelake.text import grouped

QUERIES = load_queries("bench")

CLIENTS = 16
SYNC_EVERY_SECONDS = 0.5
ROUNDS = 4  # one cold, three warm
ROUNDS_OF_ALL = 3  # there are many questions
AVERAGE_PRICE, AVERAGE_PRICES = "average_price", "average_price_by_city_and_month"
ROWS, COLUMNS = "postgres", "duckdb"
DISPLAY_NAMES = {ROWS: "Postgres", COLUMNS: "DuckDB"}


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """The seconds of each engine for one question, for a bar chart."""

    label: str
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class SceneResult:
    """The result of a scene: `verdict` in one or two sentences, a table, bars and notes."""

    verdict: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    bars: tuple[EngineTimes, ...] = ()
    notes: tuple[str, ...] = ()


def row_store(store: Store, seconds: float, embedded: bool) -> SceneResult:
    number = f"{store.server_version // 10000}.{store.server_version % 10000}"
    where = "on a private Unix socket, no TCP port" if embedded else "at the DSN"
    return SceneResult(
        f"Postgres {number} {where}: ready in {seconds:.1f} s.",
        notes=("The schema is in oltp/schema.sql.",),
    )


def seeded_past(store: Store, rides: int, seed: int) -> SceneResult:
    done = seed_rides(store, rides, seed)
    if done.rides == 0:
        return SceneResult(f"All {rides:,} rides of seed {seed} already exist.")
    existing = f" ({done.there_before:,} already existed)" if done.there_before else ""
    speed = f"{done.rides_per_second:,.0f} rides/s, seed {seed}"
    return SceneResult(f"{done.rides:,} rides of 2025 in {done.seconds:.1f} s{existing}: {speed}.")


def loaded_past(store: Store, checked: Sequence[CheckedFile], quarantine: Path) -> SceneResult:
    """Load real trip files. Raises ProofFailed if rows are unaccounted for."""
    done = load_files(store, checked, quarantine)
    rejected = sum(done.rejected.values())
    if done.read != done.loaded + rejected:
        raise ProofFailed(f"{done.read:,} rows read ≠ {done.loaded:,} loaded + {rejected:,} rejected")
    return SceneResult(
        f"{done.read:,} rows read = {done.loaded:,} loaded + {rejected:,} rejected, in {done.seconds:.1f} s.",
        ("reason for rejection", "rows"),
        tuple((reason, grouped(count)) for reason, count in done.rejected.items()),
    )


def rides_booked(store: Store, rides: int, seed: int) -> SceneResult:
    """Raises ProofFailed if the audit fails."""
    with progress("requests", rides) as shown:
        done = simulate(store, rides=rides, clients=CLIENTS, seed=seed, report=shown.reach)
    if done.interrupted:
        raise KeyboardInterrupt
    if not done.audit.passed:
        raise ProofFailed(done.audit.verdict)
    declined = done.refused.get("payment_declined", 0)
    refused = tuple((reason, grouped(count)) for reason, count in done.refused.items())
    return SceneResult(
        f"{done.assigned:,} of {done.requested:,} requests got a driver: {done.rides_per_second:,.0f} "
        f"rides/s, p99 {done.latency_ms_p99:.1f} ms. {declined:,} payments were declined and claimed no "
        f"driver. {done.audit.verdict[0].upper()}{done.audit.verdict[1:]}.",
        ("outcome", "requests"),
        (("assigned", grouped(done.assigned)), *refused),
        notes=(
            f"A booking takes {done.latency_ms_p50:.2f} ms (median) and is durable when it is acknowledged.",
            f"The audit read all rows in {done.audit.seconds:.1f} s.",
        ),
    )


def epoch_published(store: Store, lake: Lake) -> SceneResult:
    with progress("rows", estimate_rows(store)) as shown:
        epoch = publish_snapshot(store, lake, shown.advance)
    with store.connect() as connection:
        sized = connection.execute(QUERIES["store_bytes"]).fetchone()
    store_bytes = int(sized[0]) if sized else 0
    return SceneResult(
        f"Epoch {epoch.number}: {epoch.rows:,} rows in {epoch.seconds:.1f} s; "
        f"{epoch.bytes / 1e6:,.0f} MB of Parquet, {store_bytes / epoch.bytes:.1f}× smaller than the "
        f"{store_bytes / 1e6:,.0f} MB in Postgres.",
        ("table", "rows", "files", "MB"),
        tuple(
            (name, grouped(table.rows), grouped(len(table.files)), f"{table.bytes / 1e6:,.2f}")
            for name, table in epoch.tables.items()
        ),
    )


def lake_followed(store: Store, lake: Lake, rides: int, seed: int) -> SceneResult:
    """Raises ProofFailed if the audit fails or the last epoch differs from Postgres."""
    with syncing(store, lake, SYNC_EVERY_SECONDS) as epochs:
        done = simulate(store, rides=rides, clients=CLIENTS, seed=seed)
    if done.interrupted:
        raise KeyboardInterrupt
    if not done.audit.passed:
        raise ProofFailed(done.audit.verdict)
    last = publish_changes(store, lake, verify=True).epoch
    epochs = [epoch for epoch in epochs if epoch.kind == "changes"]
    changed = sum(epoch.changed for epoch in epochs)
    return SceneResult(
        f"{len(epochs)} epochs with {changed:,} changed rows during {done.assigned:,} bookings; median "
        f"{median(epoch.seconds for epoch in epochs):.2f} s. All {last.rows:,} rows of the last epoch equal "
        "Postgres, by hashes that both sides compute.",
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
        notes=("docs/lake.md explains how changed rows are found, and proves that none is missed.",),
    )


def average_price_asked(engines: Sequence[Engine], epoch: Epoch) -> SceneResult:
    """Raises ProofFailed if two answers differ."""
    asked = ask(find_question(AVERAGE_PRICE), engines, epoch, rounds_max=ROUNDS)
    price = asked.answer.column(0)[0].as_py()
    if price is not None:
        answer = f"${float(price):.4f}"
    else:  # real trips of other cities and months
        asked = ask(find_question(AVERAGE_PRICES), engines, epoch, rounds_max=ROUNDS)
        city, month, _, price = asked.answer.slice(0, 1).to_pylist()[0].values()
        answer = f"No such ride; for {city} in {month} it is ${float(price):.4f}"
    bars = _bars(asked)
    return SceneResult(
        f"{answer} on every engine; {_ratio(bars)}.",
        ("engine", "first run, ms", "median, ms"),
        tuple(
            (run.engine, f"{run.first_seconds * 1e3:.1f}", f"{run.usual_seconds * 1e3:.1f}")
            for run in asked.runs
        ),
        (bars,),
    )


def all_asked(engines: Sequence[Engine], epoch: Epoch) -> SceneResult:
    """Raises ProofFailed if two answers differ."""
    results = []
    with progress("questions", len(questions())) as shown:
        for question in questions().values():
            results.append(ask(question, engines, epoch, rounds_max=ROUNDS_OF_ALL))
            shown.advance(1)
    bars = tuple(sorted((_bars(asked) for asked in results), key=_row_to_column))
    won = [bar.label for bar in bars if bar.seconds[ROWS] <= min(bar.seconds.values())]
    return SceneResult(
        f"All {len(bars) * len(engines)} answers are equal. Postgres is fastest on {len(won)} of {len(bars)} "
        f"questions, mostly look-ups by an index; a column engine is fastest on {len(bars) - len(won)}.",
        ("question", *(f"{engine.name}, ms" for engine in engines), f"{ROWS} ÷ {COLUMNS}"),
        tuple(
            (
                bar.label,
                *(f"{seconds * 1e3:,.1f}" for seconds in bar.seconds.values()),
                f"{_row_to_column(bar):.2g}×",
            )
            for bar in bars
        ),
        bars,
        (f"Times are medians of warm, interleaved runs. Below 1, {ROWS} is faster than {COLUMNS}.",),
    )


def same_files(engines: Sequence[Engine], epoch: Epoch) -> SceneResult:
    """Ask the engines that read files, over the same list of files."""
    readers = [engine for engine in engines if engine.name != ROWS]
    asked = ask(find_question("revenue_by_city_and_month"), readers, epoch, rounds_max=ROUNDS)
    rides = epoch.tables["rides"]
    names = " and ".join(engine.name for engine in readers)
    return SceneResult(
        f"{names} read the same {len(epoch.files)} files and return the same {asked.answer.num_rows} rows.",
        ("engine", "version", "ms"),
        tuple((run.engine, run.version, f"{run.usual_seconds * 1e3:.1f}") for run in asked.runs),
        notes=(
            f"One of the files: {rides.files[0].name}; {rides.rows:,} rides in {rides.bytes / 1e6:,.1f} MB.",
        ),
    )


def _bars(asked: AskResult) -> EngineTimes:
    return EngineTimes(asked.question.name, {run.engine: run.usual_seconds for run in asked.runs})


def _row_to_column(bars: EngineTimes) -> float:
    return bars.seconds[ROWS] / bars.seconds[COLUMNS]


def _ratio(bars: EngineTimes) -> str:
    factor = _row_to_column(bars)
    faster, slower = (COLUMNS, ROWS) if factor >= 1 else (ROWS, COLUMNS)
    times = factor_text(max(factor, 1 / factor))
    return f"{DISPLAY_NAMES[faster]} is {times}× faster than {DISPLAY_NAMES[slower]}"


SEED = 1

# Disk use of a new server, and of the tables, indexes, WAL and lake per ride; measured and rounded up.
EMPTY_BYTES, RIDE_BYTES = 120_000_000, 2_000
DEMO_ENGINES = (
    "postgres",
    "duckdb",
    "polars",
)  # a row store, a column engine with SQL, a column engine with data frames


@dataclass(frozen=True, slots=True)
class DemoSize:
    """The size of the demo: `rides` to generate, or `trip_files` to load; then `requests` to book."""

    rides: int
    requests: int
    trip_files: Sequence[CheckedFile] = ()

    @property
    def disk_bytes(self) -> int:
        """The approximate disk use of the embedded server and the lake."""
        past = sum(file.rows for file in self.trip_files) if self.trip_files else self.rides
        return EMPTY_BYTES + RIDE_BYTES * (past + self.requests)


FULL = DemoSize(rides=500_000, requests=3_000)
QUICK = DemoSize(rides=50_000, requests=1_000)


@dataclass(frozen=True, slots=True)
class Scene:
    """One step of the demo. Call `run` before the next scene is taken from the generator."""

    title: str
    doing: str
    run: Callable[[], SceneResult]


def check_free_space(settings: Settings, plan: DemoSize) -> None:
    """Raises OutOfResources if the disk of the embedded server has too little free space."""
    free = free_bytes(settings.home)
    if settings.dsn is None and free < plan.disk_bytes:
        raise OutOfResources(
            f"the demo needs about {plan.disk_bytes / 1e6:,.0f} MB, but the disk of {settings.home} has "
            f"{free / 1e6:,.0f} MB free: free some space, choose another folder with --home, or use fewer "
            "--rides"
        )


def demo_scenes(settings: Settings, plan: DemoSize) -> Generator[Scene, None, None]:
    """The scenes in order. Closing the generator closes the store, the server and the engines."""
    with ExitStack() as opened:
        started = perf_counter()
        store = None

        def start() -> SceneResult:
            nonlocal store
            store = opened.enter_context(open_store(settings))
            return scenes.row_store(store, perf_counter() - started, embedded=settings.dsn is None)

        yield Scene("Start Postgres", "Start the server and install the schema.", start)
        assert store is not None, "the first scene was not run"
        here = store

        yield _past(here, plan, settings.home / "quarantine")
        yield Scene(
            "Book rides",
            f"{scenes.CLIENTS} clients; a booking claims a driver and holds the fare, or does neither.",
            lambda: scenes.rides_booked(here, plan.requests, SEED),
        )
        yield Scene(
            "Publish an epoch",
            "Read all tables in one snapshot and write them as Parquet files of Iceberg tables.",
            lambda: scenes.epoch_published(here, Lake.create(settings.lake)),
        )
        yield Scene(
            "Follow the changes",
            "Publish the changed rows twice a second while rides are booked; then compare all rows.",
            lambda: scenes.lake_followed(here, Lake.create(settings.lake), plan.requests // 2, SEED + 1),
        )

        epoch = newest_epoch(settings.lake)
        engines = [opened.enter_context(open_engine(name, settings, epoch)) for name in DEMO_ENGINES]
        question = find_question(scenes.AVERAGE_PRICE).sql.splitlines()
        yield Scene(
            "One analytical query",
            " ".join(line for line in question if not line.startswith("--")),
            lambda: scenes.average_price_asked(engines, epoch),
        )
        yield Scene(
            "All questions on all engines",
            f"Run each on {', '.join(DEMO_ENGINES)}, interleaved; compare the answers.",
            lambda: scenes.all_asked(engines, epoch),
        )
        yield Scene(
            "Separate storage from compute",
            "Read the same files with two independent engines, without Postgres.",
            lambda: scenes.same_files(engines, epoch),
        )


def _past(store: Store, plan: DemoSize, quarantine: Path) -> Scene:
    if plan.trip_files:
        names = ", ".join(file.path.name for file in plan.trip_files)
        return Scene(
            "Load history",
            f"Clean the trips of {names} and load them with COPY.",
            lambda: scenes.loaded_past(store, plan.trip_files, quarantine),
        )
    return Scene(
        "Load history",
        f"Generate {plan.rides:,} rides over one year in four cities and load them with COPY.",
        lambda: scenes.seeded_past(store, plan.rides, SEED),
    )
