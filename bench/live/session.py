"""One run of `ridelake live`: the store, the first epoch, the workers, the web server, and their end.

Everything ends when the block of `open_live` is left. A worker ends by itself if this process is killed, and
the embedded server is then stopped by its monitor process.
"""

import fcntl
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from bench.live import contrast, load, question, sync, watch
from bench.live.app import ASSETS, build_app
from bench.live.commands import (
    CLIENTS_MAX,
    LOAD,
    RATE_MAX,
    RATE_MIN,
    SQL_CHARACTERS_MAX,
    SYNC,
    TARGETS,
    boolean,
    one_of,
    read_fields,
    text,
    whole,
)
from bench.live.stream import LiveState, Viewers
from bench.live.worker import Worker, stop_workers
from bench.live.zone_map import cities_with_positions
from lakehouse.capture.publish import estimate_rows, publish_snapshot
from lakehouse.engines import ENGINES, omitted_from_all
from lakehouse.source.tracking import renew_tracking
from lakehouse.table.catalog import Lake
from lakehouse.table.published import read_epochs
from olap.question import find_question, questions, single_statement, statements
from oltp.acid.strategies import STRATEGIES
from oltp.cluster.server import Cluster
from oltp.ingest.seed import seed_rides
from oltp.store import Store, open_existing_store, open_store
from ridelake import __version__
from ridelake.errors import CannotConnect, UsageError
from ridelake.progress import progress
from ridelake.queries import load_queries
from ridelake.screen import note
from ridelake.settings import Settings
from ridelake.signals import no_time_limit
from ridelake.web_server import ListenAddress, WebServer, listening, serving

QUERIES = load_queries("bench.live")

HOST = "127.0.0.1"
TOKEN_BYTES = 24
SEED_RIDES, SEED = 100_000, 1


@dataclass(frozen=True, slots=True)
class LiveRun:
    """`url`: the address of the page, with the token. `failed`: set if the web server ends unexpectedly."""

    url: str
    workers: Mapping[str, Worker]
    failed: threading.Event


@contextmanager
def open_live(settings: Settings, port: int) -> Iterator[LiveRun]:
    """Start everything. `port` 0: a free one.

    Raises UsageError if the port is in use, and the errors of the store and the lake."""
    embedded = settings.dsn is None
    with ExitStack() as opened:
        listener = opened.enter_context(listening(ListenAddress.of(HOST, port)))
        store = opened.enter_context(_prepared_store(settings))
        opened.enter_context(no_time_limit())  # for `_stop`, which can take longer on a busy machine
        if embedded:
            settings = replace(settings, dsn=store.conninfo)  # the workers do not start or stop the server
        state = LiveState(hello_of(settings, store, embedded))
        workers = _workers(settings, store, state, embedded)
        token, number = secrets.token_urlsafe(TOKEN_BYTES), listener.getsockname()[1]
        commands = Commands(settings, workers, embedded).by_name()
        app = build_app(token, number, Viewers(state), commands)
        failed = opened.enter_context(serving(WebServer(app), listener))
        opened.callback(_stop, workers, store, embedded)
        for worker in workers.values():
            worker.start()
        yield LiveRun(f"http://{HOST}:{number}/{token}/", workers, failed)


@contextmanager
def _prepared_store(settings: Settings) -> Iterator[Store]:
    """The store, with rides and an epoch if it is embedded. Nothing is changed in a store of a DSN. Raises
    UsageError for a lake of several stores."""
    if any(newest.stores for newest in read_epochs(settings.lake, limit=1)):
        raise UsageError(
            f"`ridelake live` shows one store, and the lake {settings.lake.root} has several: choose another "
            "lake with --lake"
        )
    if settings.dsn is not None:
        with open_existing_store(settings, rides=False) as store:
            yield store
        return
    with open_store(settings) as store, _alone(settings.home):
        _restore(store)
        with store.connect() as connection:
            connection.execute(QUERIES["prepare"])
            is_empty = connection.execute(QUERIES["newest_ride"]).fetchone() == (None,)
        try:
            if is_empty:
                note(f"the store is empty: generating {SEED_RIDES:,} rides")
                seed_rides(store, SEED_RIDES, SEED)
            _first_epoch(settings, store)
            yield store
        finally:
            _restore(store)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Two programs would undo each other's changes. The kernel releases the lock when the process ends."""
    with (home / "live.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_taken = False
        except BlockingIOError:
            is_taken = True
        if is_taken:
            raise UsageError(
                f"another `ridelake live` uses the store in {home}: open its page, end it with Ctrl-C, or "
                "choose another --home"
            )
        yield


def _first_epoch(settings: Settings, store: Store) -> None:
    if read_epochs(settings.lake, limit=1):
        return
    renew_tracking(store, [])
    note("publishing the first epoch")
    with progress("snapshot", estimate_rows(store)) as bar:
        publish_snapshot(store, Lake.create(settings.lake), bar.advance)


def _stop(workers: Mapping[str, Worker], store: Store, embedded: bool) -> None:
    """End the workers, and restore the store meanwhile. If a worker still locks a table then, it is restored
    when all have ended."""
    for worker in workers.values():
        worker.stop()
    if embedded:
        _restore(store)
    stop_workers(workers.values())


def _restore(store: Store) -> None:
    """Undo what this program changes in an embedded store: its indexes, and the schema ridelake_live."""
    with suppress(CannotConnect, psycopg.Error), store.connect() as connection:
        connection.execute(QUERIES["restore"])


def _workers(settings: Settings, store: Store, state: LiveState, embedded: bool) -> dict[str, Worker]:
    work: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
        "sync": (sync.work, (store, settings.lake, embedded)),
        "question": (question.work, (store, settings)),
    }
    if store.schema_state() == "installed":
        work["store"] = (watch.work, (store, embedded))
    if embedded:
        cluster = Cluster(settings.home / "postgres")
        work["load"] = (load.work, (store, settings.home))
        work["contrast"] = (contrast.work, (cluster.conninfo("postgres"),))
    workers: dict[str, Worker] = {}

    def trouble(name: str, line: str | None) -> None:
        state.trouble(name, line)
        if name == "question" and line:  # the query may be the cause, so it is not run again
            workers[name].set(target="off")

    for name, (function, arguments) in work.items():
        workers[name] = Worker(name, function, arguments, state.report, trouble)
    workers["sync"].set(paused=False)
    return workers


def hello_of(settings: Settings, store: Store, embedded: bool) -> dict[str, Any]:
    """What a page receives first; it does not change."""
    return {
        "version": __version__,
        "postgres": f"{store.server_version // 10_000}.{store.server_version % 10_000}",
        "embedded": embedded,
        "cities": cities_with_positions(),
        "questions": [
            {"name": one.name, "title": one.summary, "sql": one.sql} for one in questions().values()
        ],
        "engines": _engines(settings),
        "limits": {"clients": [0, CLIENTS_MAX], "rate": [int(RATE_MIN), int(RATE_MAX)]},
    }


def _engines(settings: Settings) -> list[str]:
    """The installed engines over files."""
    omitted = omitted_from_all(settings)
    return [name for name in ENGINES if name not in omitted and name != "postgres"]


@dataclass(frozen=True, slots=True)
class Commands:
    """What the page can ask for. With a DSN, only what reads."""

    settings: Settings
    workers: Mapping[str, Worker]
    embedded: bool

    def by_name(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        found: dict[str, Callable[[dict[str, Any]], None]] = {
            "sync": self.sync, "verify": self.verify, "question": self.question, "setup": self.setup,
        }  # fmt: skip
        if self.embedded:
            found |= {
                "load": self.load, "contrast": self.contrast, "crash": self.crash, "index": self.index,
            }  # fmt: skip
        return found

    def load(self, body: dict[str, Any]) -> None:
        self.workers["load"].set(**read_fields("load", body, LOAD))

    def sync(self, body: dict[str, Any]) -> None:
        self.workers["sync"].set(**read_fields("sync", body, SYNC))

    def verify(self, body: dict[str, Any]) -> None:
        read_fields("verify", body, {})
        self.workers["sync"].call("verify")

    def question(self, body: dict[str, Any]) -> None:
        wanted = read_fields(
            "question",
            body,
            {
                "name": text(100),
                "sql": text(SQL_CHARACTERS_MAX),
                "engine": one_of(*_engines(self.settings)),
                "fresh": boolean,
                "target": one_of(*TARGETS),
            },
        )
        if "name" in wanted and "sql" in wanted:
            raise UsageError("question: send name or sql, not both")
        if "name" in wanted:
            wanted |= {"name": find_question(wanted["name"]).name, "sql": None}
        if wanted.get("sql") is not None:
            if next(statements(wanted["sql"]), None) is None:
                raise UsageError("question: there is no query; write one, such as SELECT count(*) FROM rides")
            wanted |= {"name": None, "sql": single_statement(wanted["sql"])}
        self.workers["question"].set(**wanted)

    def contrast(self, body: dict[str, Any]) -> None:
        names = (contrast.ALL, *(strategy.name for strategy in STRATEGIES))
        wanted = read_fields("contrast", body, {"strategy": one_of(*names), "stop": boolean})
        if len(wanted) != 1:
            raise UsageError("contrast: send strategy or stop")
        self.workers["contrast"].call("contrast", strategy=wanted.get("strategy"))

    def crash(self, body: dict[str, Any]) -> None:
        read_fields("crash", body, {})
        self.workers["load"].call("crash")

    def index(self, body: dict[str, Any]) -> None:
        wanted = read_fields("index", body, {"covering": boolean, watch.STAND_INDEX: boolean})
        if len(wanted) != 1:
            raise UsageError(f"index: send covering or {watch.STAND_INDEX}, as true or false")
        self.workers["store"].call("index", wanted=wanted)

    def setup(self, body: dict[str, Any]) -> None:
        wanted = read_fields("setup", body, {"step": whole(1, len(tour_setups()))})
        if not wanted:
            raise UsageError("setup: send step, the number of a step of the tour")
        known = self.by_name()
        for name, settings in tour_setups()[wanted["step"] - 1].items():
            if name in known:
                known[name](settings)


@cache
def tour_setups() -> list[dict[str, dict[str, Any]]]:
    """For each step of the tour, the bodies of commands by their names."""
    document = json.loads((Path(ASSETS[0]) / "tour.json").read_text("utf-8"))
    return [step["setup"] for step in document["steps"]]
