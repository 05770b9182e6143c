"""`ridelake demo`: the whole pipeline in eight steps. Each step checks its result and reports it in a
sentence."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter

from bench.env import syncing
from bench.machine import Machine
from bench.pages import render, write_page
from bench.pages.plots import RowPlot, bars
from bench.pages.questions import DotPlot, QuestionTimes, dot_plot, engine_name
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
from oltp.workload.metrics import SimulationResult
from ridelake.errors import OutOfResources, ProofFailed
from ridelake.progress import progress
from ridelake.queries import load_queries
from ridelake.resources import free_bytes
from ridelake.settings import Settings
from ridelake.text import digits, duration, listed, ratio_text

QUERIES = load_queries("bench")

SEED = 1
CLIENTS = 16
SYNC_EVERY_SECONDS = 0.5
ROUNDS = 4  # one cold, three warm
ROUNDS_OF_ALL = 3  # fewer, because there are many questions
POSTGRES, DUCKDB = "postgres", "duckdb"
ENGINES = (POSTGRES, DUCKDB, "polars")  # a row store, a column engine with SQL, one with data frames
# Disk use of a new server, and of the tables, indexes, WAL and lake per ride; measured and rounded up.
EMPTY_BYTES, RIDE_BYTES = 120_000_000, 2_000

LEAD = (
    "Rides are written one at a time in Postgres and read in bulk from Parquet, by several engines, on this "
    "machine."
)


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
class StepResult:
    """The result of a step: `verdict` in one or two sentences, a picture, the rows of a table, notes, and its
    part of the pipeline with one number."""

    verdict: str
    picture: RowPlot | DotPlot | None = None
    rows: Sequence[Mapping[str, object]] = ()
    notes: Sequence[str] = ()
    part: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class DemoStep:
    """One step of the demo. Call `run` before the next step is taken from the generator."""

    title: str
    description: str
    run: Callable[[], StepResult]


def check_free_space(settings: Settings, plan: DemoSize) -> None:
    """Check the free space on the disk of the embedded server. Raises OutOfResources if it is too little."""
    free = free_bytes(settings.home)
    if settings.dsn is None and free < plan.disk_bytes:
        raise OutOfResources(
            f"the demo needs about {plan.disk_bytes / 1e6:,.0f} MB, but the disk of {settings.home} has "
            f"{free / 1e6:,.0f} MB free: free some space, choose another folder with --home, or use fewer "
            "--rides"
        )


def demo_steps(settings: Settings, plan: DemoSize) -> Generator[DemoStep, None, None]:
    """The steps in order. Closing the generator closes the store, the server and the engines."""
    with ExitStack() as opened:
        started = perf_counter()
        opening: list[Store] = []

        def start() -> StepResult:
            opening.append(opened.enter_context(open_store(settings)))
            return server_started(opening[0], perf_counter() - started, embedded=settings.dsn is None)

        yield DemoStep("Start Postgres", "Start the server and install the schema.", start)
        (store,) = opening  # the first step was run

        yield _history_step(store, plan, settings.home / "quarantine")
        yield DemoStep(
            "Book rides",
            f"{CLIENTS} clients; a booking claims a driver and holds the fare, or does neither.",
            lambda: book_rides(store, plan.requests, SEED),
        )
        yield DemoStep(
            "Publish an epoch",
            "Read all tables in one snapshot and write them as Parquet files of Iceberg tables.",
            lambda: publish_epoch(store, Lake.create(settings.lake)),
        )
        yield DemoStep(
            "Follow the changes",
            "Publish the changed rows twice a second while rides are booked; then compare all rows.",
            lambda: sync_lake(store, Lake.create(settings.lake), plan.requests // 2, SEED + 1),
        )

        epoch = newest_epoch(settings.lake)
        engines = [opened.enter_context(open_engine(name, settings, epoch)) for name in ENGINES]
        query = find_question("average_price").sql.splitlines()
        yield DemoStep(
            "One analytical query",
            " ".join(line for line in query if not line.startswith("--")),
            lambda: ask_average_price(engines, epoch),
        )
        yield DemoStep(
            "All questions on all engines",
            f"Run each on {', '.join(ENGINES)}, interleaved; compare the answers.",
            lambda: ask_all_questions(engines, epoch),
        )
        yield DemoStep(
            "Separate storage from compute",
            "Read the same files with two independent engines, without Postgres.",
            lambda: ask_file_engines([engine for engine in engines if engine.name != POSTGRES], epoch),
        )


def _history_step(store: Store, plan: DemoSize, quarantine: Path) -> DemoStep:
    if plan.trip_files:
        names = ", ".join(file.path.name for file in plan.trip_files)
        description = f"Clean the trips of {names} and load them with COPY."
        return DemoStep("Load history", description, lambda: load_history(store, plan.trip_files, quarantine))
    description = f"Generate {plan.rides:,} rides over one year in four cities and load them with COPY."
    return DemoStep("Load history", description, lambda: seed_history(store, plan.rides, SEED))


def server_started(store: Store, seconds: float, embedded: bool) -> StepResult:
    number = f"{store.server_version // 10000}.{store.server_version % 10000}"
    where = "on a private Unix socket, no TCP port" if embedded else "at the DSN"
    verdict = f"Postgres {number} {where}: ready in {seconds:.1f} s."
    return StepResult(verdict, notes=["The schema is in oltp/schema.sql."])


def seed_history(store: Store, rides: int, seed: int) -> StepResult:
    done = seed_rides(store, rides, seed)
    picture = _rides_by_city(store)
    if done.rides == 0:
        return StepResult(f"All {rides:,} rides of seed {seed} already exist.", picture)
    existing = f" ({done.there_before:,} already existed)" if done.there_before else ""
    speed = f"{done.rides_per_second:,.0f} rides/s, seed {seed}"
    return StepResult(f"{done.rides:,} rides of 2025 in {done.seconds:.1f} s{existing}: {speed}.", picture)


def _rides_by_city(store: Store) -> RowPlot:
    with store.connect() as connection:
        rows = connection.execute(QUERIES["rides_by_city"]).fetchall()
    return bars("Rides of each city", "rides", dict(rows))


def load_history(store: Store, checked: Sequence[CheckedFile], quarantine: Path) -> StepResult:
    """Load real trip files. Raises ProofFailed if rows are unaccounted for."""
    done = load_files(store, checked, quarantine)
    rejected = sum(done.rejected.values())
    if done.read != done.loaded + rejected:
        raise ProofFailed(f"{done.read:,} rows read ≠ {done.loaded:,} loaded + {rejected:,} rejected")
    return StepResult(
        f"{done.read:,} rows read = {done.loaded:,} loaded + {rejected:,} rejected, in {done.seconds:.1f} s.",
        _rides_by_city(store),
        [{"reason for rejection": reason, "rows": count} for reason, count in done.rejected.items()],
    )


def book_rides(store: Store, rides: int, seed: int) -> StepResult:
    """Book rides from several clients, and audit the store. Raises ProofFailed if the audit fails."""
    with progress("requests", rides) as shown:
        done = simulate(store, rides=rides, clients=CLIENTS, seed=seed, report=shown.reach)
    _require_audited(done)
    declined = done.refused.get("payment_declined", 0)
    outcomes = {"assigned": done.assigned, **done.refused}
    return StepResult(
        f"{done.assigned:,} of {done.requested:,} requests got a driver: {done.rides_per_second:,.0f} "
        f"rides/s, p99 {done.latency_ms_p99:.1f} ms. {declined:,} payments were declined and claimed no "
        f"driver. {done.audit.verdict[0].upper()}{done.audit.verdict[1:]}.",
        bars("Outcomes of the requests", "requests", outcomes),
        notes=[
            f"A booking takes {done.latency_ms_p50:.2f} ms (median) and is durable when it is acknowledged.",
            f"The audit read all rows in {done.audit.seconds:.1f} s.",
        ],
        part=("Postgres", f"{done.rides_per_second:,.0f} rides/s"),
    )


def _require_audited(done: SimulationResult) -> None:
    if done.interrupted:
        raise KeyboardInterrupt
    if not done.audit.passed:
        raise ProofFailed(done.audit.verdict)


def publish_epoch(store: Store, lake: Lake) -> StepResult:
    with progress("rows", estimate_rows(store)) as shown:
        epoch = publish_snapshot(store, lake, shown.advance)
    with store.connect() as connection:
        sized = connection.execute(QUERIES["store_bytes"]).fetchone()
    store_bytes = int(sized[0]) if sized else 0
    return StepResult(
        f"Epoch {epoch.number}: {epoch.rows:,} rows in {epoch.seconds:.1f} s; "
        f"{epoch.bytes / 1e6:,.0f} MB of Parquet, {store_bytes / epoch.bytes:.1f}× smaller than the "
        f"{store_bytes / 1e6:,.0f} MB in Postgres.",
        bars("The same rows", "bytes", {"Postgres, with indexes": store_bytes, "Parquet": epoch.bytes}),
        [
            {"table": name, "rows": table.rows, "files": len(table.files), "MB": f"{table.bytes / 1e6:,.2f}"}
            for name, table in epoch.tables.items()
        ],
        part=("Parquet files", f"{epoch.rows:,} rows in {epoch.seconds:.1f} s"),
    )


def sync_lake(store: Store, lake: Lake, rides: int, seed: int) -> StepResult:
    """Publish epochs while rides are booked, and verify the last one. Raises ProofFailed if the audit fails
    or the last epoch differs from Postgres."""
    with syncing(store, lake, SYNC_EVERY_SECONDS) as epochs:
        done = simulate(store, rides=rides, clients=CLIENTS, seed=seed)
    _require_audited(done)
    last = publish_changes(store, lake, verify=True).epoch
    epochs = [epoch for epoch in epochs if epoch.kind == "changes"]
    changed = sum(epoch.changed for epoch in epochs)
    return StepResult(
        f"{len(epochs)} epochs with {changed:,} changed rows during {done.assigned:,} bookings; median "
        f"{median(epoch.seconds for epoch in epochs):.2f} s. All {last.rows:,} rows of the last epoch equal "
        "Postgres, by hashes that both sides compute.",
        bars("Changed rows of each epoch", "rows", {f"epoch {one.number}": one.changed for one in epochs}),
        [
            {
                "epoch": epoch.number,
                "rows changed": epoch.changed,
                "rows": epoch.rows,
                "files": len(epoch.files),
                "seconds": f"{epoch.seconds:.2f}",
            }
            for epoch in epochs
        ],
        notes=["docs/lake.md explains how changed rows are found, and proves that none is missed."],
    )


def ask_average_price(engines: Sequence[Engine], epoch: Epoch) -> StepResult:
    """Ask every engine for the average price. Raises ProofFailed if two answers differ."""
    asked = ask(find_question("average_price"), engines, epoch, rounds_max=ROUNDS)
    price = asked.answer.column(0)[0].as_py()
    if price is not None:
        answer = f"${float(price):.4f}"
    else:  # real trips of other cities and months
        by_city = find_question("average_price_by_city_and_month")
        asked = ask(by_city, engines, epoch, rounds_max=ROUNDS)
        city, month, _, price = asked.answer.slice(0, 1).to_pylist()[0].values()
        answer = f"No such ride; for {city} in {month} it is ${float(price):.4f}"
    seconds = {run.engine: run.usual_seconds for run in asked.runs}
    times = seconds[POSTGRES] / seconds[DUCKDB]
    faster, slower = ("DuckDB", "Postgres") if times >= 1 else ("Postgres", "DuckDB")
    ratio = ratio_text(max(times, 1 / times))
    return StepResult(
        f"{answer} on every engine; {faster} is {ratio} faster than {slower}.",
        _time_bars(asked),
        [
            {
                "engine": run.engine,
                "first run": duration(run.first_seconds),
                "median": duration(run.usual_seconds),
            }
            for run in asked.runs
        ],
        part=(listed([engine_name(run.engine) for run in asked.runs]), f"{faster} is {ratio} faster"),
    )


def _time_bars(asked: AskResult) -> RowPlot:
    times = {engine_name(run.engine): run.usual_seconds for run in asked.runs}
    return bars("Median of the warm runs", "seconds", times)


def ask_all_questions(engines: Sequence[Engine], epoch: Epoch) -> StepResult:
    """Ask every engine all questions. Raises ProofFailed if two answers differ."""
    times = []
    with progress("questions", len(questions())) as shown:
        for question in questions().values():
            asked = ask(question, engines, epoch, rounds_max=ROUNDS_OF_ALL)
            times.append(QuestionTimes(question.name, {run.engine: run.warm_seconds for run in asked.runs}))
            shown.advance(1)
    plot = dot_plot("All questions", times)
    ratios = [one.rows_over_columns for one in times]
    clear = [ratio for ratio in ratios if ratio.distinguishable]
    rows = sum(ratio.median < 1 for ratio in clear)
    even = f"; no measurable difference on {len(times) - len(clear)}" if len(clear) < len(times) else ""
    return StepResult(
        f"All {len(times) * len(engines)} answers are equal. Postgres is fastest on {rows} of "
        f"{len(times)} questions, mostly look-ups by an index; a column engine on {len(clear) - rows}{even}.",
        plot,
        [
            {
                "question": one.name,
                **{f"{engine_name(name)}, ms": digits(median(of) * 1e3) for name, of in one.seconds.items()},
                "fastest": one.winner,
            }
            for one in plot.questions
        ],
        ["Times are medians of warm, interleaved runs."],
    )


def ask_file_engines(readers: Sequence[Engine], epoch: Epoch) -> StepResult:
    """Ask the engines that read files, over the same list of files."""
    asked = ask(find_question("revenue_by_city_and_month"), readers, epoch, rounds_max=ROUNDS)
    rides = epoch.tables["rides"]
    names = listed([engine.name for engine in readers])
    return StepResult(
        f"{names} read the same {len(epoch.files)} files and return the same {asked.answer.num_rows} rows.",
        _time_bars(asked),
        [
            {"engine": run.engine, "version": run.version, "median": duration(run.usual_seconds)}
            for run in asked.runs
        ],
        notes=[
            f"One of the files: {rides.files[0].name}; {rides.rows:,} rides in {rides.bytes / 1e6:,.1f} MB."
        ],
    )


def write_demo(path: Path, results: Sequence[tuple[DemoStep, StepResult]], machine: Machine) -> None:
    """Write the page. Raises UsageError if the file cannot be written."""
    *_, (_, answered), _ = results
    page = render(
        "demo.html",
        title="Demo",
        answer=answered.verdict,
        lead=LEAD,
        warnings=machine.warnings,
        results=results,
        parts=[(f"{CLIENTS} clients", "one ride at a time"), *(one.part for _, one in results if one.part)],
        run={
            "machine": machine.description,
            "versions": machine.versions_text,
            "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        },
    )
    write_page(path, page, "--report")
