"""The order of the scenes, and what a reader is told before each."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from bench.demo import scenes
from bench.demo.scenes import Seen
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

# A new server, and the tables, indexes, log and lake of each ride; measured, and rounded up.
EMPTY_BYTES, RIDE_BYTES = 120_000_000, 2_000
DEMO_ENGINES = ("postgres", "duckdb", "polars")  # one for each way to hold the rows, or to ask them


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it: `rides` made up, or the trips of real `trip_files`; then `requests` booked live."""

    rides: int
    requests: int
    trip_files: Sequence[CheckedFile] = ()

    @property
    def disk_bytes(self) -> int:
        """What the embedded server and the lake need, about."""
        past = sum(file.rows for file in self.trip_files) if self.trip_files else self.rides
        return EMPTY_BYTES + RIDE_BYTES * (past + self.requests)


FULL = Plan(rides=500_000, requests=3_000)
QUICK = Plan(rides=50_000, requests=1_000)


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing to do. `play` has to be called before the next scene is asked for."""

    title: str
    doing: str
    play: Callable[[], Seen]


def refuse_a_full_disk(settings: Settings, plan: Plan) -> None:
    """Raises OutOfResources if the demo would fill the disk of the embedded server."""
    free = free_bytes(settings.home)
    if settings.dsn is None and free < plan.disk_bytes:
        raise OutOfResources(
            f"the demo needs about {plan.disk_bytes / 1e6:,.0f} MB, and the disk that holds {settings.home} "
            f"has {free / 1e6:,.0f} MB free: free some space, choose another place with --home, or ask for "
            "fewer --rides"
        )


def story(settings: Settings, plan: Plan) -> Generator[Scene, None, None]:
    """The scenes, in order. Store, server and engines are opened on the way and closed with the generator."""
    with ExitStack() as opened:
        started = perf_counter()
        store = None

        def start() -> Seen:
            nonlocal store
            store = opened.enter_context(open_store(settings))
            return scenes.row_store(store, perf_counter() - started, embedded=settings.dsn is None)

        yield Scene("A row store starts", "Start Postgres and lay out the schema.", start)
        assert store is not None, "the scene was played"
        here = store

        yield _past(here, plan, settings.home / "quarantine")
        yield Scene(
            "Rides are booked, one at a time",
            f"{scenes.CLIENTS} clients at once; a booking holds money and claims a driver, or neither.",
            lambda: scenes.rides_booked(here, plan.requests, SEED),
        )
        yield Scene(
            "The rows become files",
            "Read all tables in one snapshot; publish them as one epoch of Parquet under Iceberg tables.",
            lambda: scenes.epoch_published(here, Lake.create(settings.lake)),
        )
        yield Scene(
            "The lake follows",
            "Take what has changed as an epoch, twice a second, under bookings; then compare every row.",
            lambda: scenes.lake_followed(here, Lake.create(settings.lake), plan.requests // 2, SEED + 1),
        )

        epoch = newest_epoch(settings.lake)
        engines = [opened.enter_context(open_engine(name, settings, epoch)) for name in DEMO_ENGINES]
        question = find(scenes.LECTURE).sql.splitlines()
        yield Scene(
            "The lecture's question",
            " ".join(line for line in question if not line.startswith("--")),
            lambda: scenes.lecture_asked(engines, epoch),
        )
        yield Scene(
            "Every question, every engine",
            f"Ask all questions of {', '.join(DEMO_ENGINES)}, in turns; compare the answers.",
            lambda: scenes.all_asked(engines, epoch),
        )
        yield Scene(
            "Storage apart from processing",
            "Give the same pinned files to engines that know nothing of each other, Postgres out of the way.",
            lambda: scenes.same_files(engines, epoch),
        )


def _past(store: Store, plan: Plan, quarantine: Path) -> Scene:
    if plan.trip_files:
        names = ", ".join(file.path.name for file in plan.trip_files)
        return Scene(
            "A past",
            f"Clean {names} and COPY the trips in.",
            lambda: scenes.loaded_past(store, plan.trip_files, quarantine),
        )
    return Scene(
        "A past",
        f"Make up {plan.rides:,} rides of a year in four cities, and COPY them in.",
        lambda: scenes.seeded_past(store, plan.rides, SEED),
    )
