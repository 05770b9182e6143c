"""The order of the scenes, with the title and description of each."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from bench.demo import scenes
from bench.demo.scenes import SceneResult
from lakehouse.catalog import Lake
from lakehouse.engines import open_engine
from lakehouse.published import newest_epoch
from olap.question import find
from oltp.load import CheckedFile
from oltp.store import Store, open_store
from ridelake.errors import OutOfResources
from ridelake.resources import free_bytes
from ridelake.settings import Settings

SEED = 1

# Disk use of a new server, and of the tables, indexes, WAL and lake per ride; measured and rounded up.
EMPTY_BYTES, RIDE_BYTES = 120_000_000, 2_000
DEMO_ENGINES = (
    "postgres",
    "duckdb",
    "polars",
)  # a row store, a column engine with SQL, a column engine with data frames


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of the demo: `rides` to generate, or `trip_files` to load; then `requests` to book."""

    rides: int
    requests: int
    trip_files: Sequence[CheckedFile] = ()

    @property
    def disk_bytes(self) -> int:
        """The approximate disk use of the embedded server and the lake."""
        past = sum(file.rows for file in self.trip_files) if self.trip_files else self.rides
        return EMPTY_BYTES + RIDE_BYTES * (past + self.requests)


FULL = Plan(rides=500_000, requests=3_000)
QUICK = Plan(rides=50_000, requests=1_000)


@dataclass(frozen=True, slots=True)
class Scene:
    """One step of the demo. Call `run` before the next scene is taken from the generator."""

    title: str
    doing: str
    run: Callable[[], SceneResult]


def refuse_a_full_disk(settings: Settings, plan: Plan) -> None:
    """Raises OutOfResources if the disk of the embedded server has too little free space."""
    free = free_bytes(settings.home)
    if settings.dsn is None and free < plan.disk_bytes:
        raise OutOfResources(
            f"the demo needs about {plan.disk_bytes / 1e6:,.0f} MB, but the disk of {settings.home} has "
            f"{free / 1e6:,.0f} MB free: free some space, choose another folder with --home, or use fewer "
            "--rides"
        )


def story(settings: Settings, plan: Plan) -> Generator[Scene, None, None]:
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
        question = find(scenes.AVERAGE_PRICE).sql.splitlines()
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


def _past(store: Store, plan: Plan, quarantine: Path) -> Scene:
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
