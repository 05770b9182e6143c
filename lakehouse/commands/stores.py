"""The option --source NAME=DSN, and the commands that take several: `sync`, `verify` and `maintain`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click

from lakehouse.commands.sync_display import SyncDisplay
from ridelake.errors import CannotConnect, RidelakeError, UsageError
from ridelake.progress import progress
from ridelake.screen import note, say, say_json

if TYPE_CHECKING:
    from lakehouse.capture.metrics import SyncMetrics
    from lakehouse.capture.publish import PublishOptions
    from lakehouse.capture.sync import SyncResult
    from lakehouse.capture.sync_stores import StoreReport
    from lakehouse.table.catalog import Lake
    from oltp.store import Store
    from ridelake.settings import Settings

T = TypeVar("T")

# libpq's names. A connection to a host that has disappeared ends within half a minute, not hours.
KEEPALIVE = {
    "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000",
}  # fmt: skip

source_option = click.option(
    "--source", "sources", multiple=True, metavar="NAME=DSN",
    help="A store and its database, instead of --dsn, in a lake of several stores. Repeat it for several.",
)  # fmt: skip


def sources_of(settings: "Settings", given: Iterable[str]) -> dict[str, str]:
    """The DSN of each store by its name; empty if none is given. Raises UsageError for invalid names and
    DSNs, together with --dsn, and if the lake has one store without a name. Messages have no DSN, because
    it can have a password."""
    from psycopg.conninfo import make_conninfo

    from lakehouse.table.published import read_epochs
    from lakehouse.table.stores import check_kind_of_lake, check_store_names
    from oltp.store import parse_dsn

    pairs = [(name, dsn) for name, _, dsn in (text.partition("=") for text in given)]
    if not pairs:
        return {}
    if settings.dsn is not None:
        raise UsageError("--source names the databases: leave out --dsn and RIDELAKE_DSN")
    check_store_names([name for name, _ in pairs])
    found = {}
    for name, dsn in pairs:
        try:
            given_settings = {key: str(value) for key, value in parse_dsn(dsn).items()} if dsn else {}
        except CannotConnect:
            given_settings = {}
        if not given_settings:
            raise UsageError(
                f"the DSN of --source {name} is not a connection string of Postgres: write --source "
                f"{name}=postgresql://user@host:5432/database"
            )
        found[name] = make_conninfo("", **KEEPALIVE | given_settings)
    for newest in read_epochs(settings.lake, limit=1):
        check_kind_of_lake(newest, pairs[0][0])
        check_store_names({*newest.stores, *found})
    return found


def of_source(settings: "Settings", sources: Mapping[str, str], command: str) -> "tuple[Settings, str]":
    """The settings and the name of the only store; the name is empty if none is given. Raises UsageError if
    there are several."""
    if len(sources) > 1:
        raise UsageError(f"`ridelake {command}` publishes one store: give one --source")
    for name, dsn in sources.items():
        return replace(settings, dsn=dsn), name
    return settings, ""


def sync_sources(
    settings: "Settings",
    sources: Mapping[str, str],
    every_seconds: float | None,
    options: "PublishOptions",
    recorded: "SyncMetrics | None",
    *,
    as_json: bool,
) -> None:
    """`ridelake sync` with --source. Raises RidelakeError at the end if stores failed."""
    from lakehouse.capture.sync_stores import sync_stores
    from lakehouse.commands.options import open_for_publishing

    tables, selection = options.get("tables", ()), options.get("selection")
    openings = {
        name: (dsn, partial(open_for_publishing, replace(settings, dsn=dsn), tables, selection,
                            by_changes=True, store=name))
        for name, dsn in sources.items()
    }  # fmt: skip
    failures = list[str]()
    reports = sync_stores(openings, every_seconds, **options)
    if every_seconds is None:
        with progress("sync"):
            failures = [line for report in list(reports) for line in _show_once(report, as_json)]
    else:
        displays = {name: SyncDisplay(as_json, name) for name in sources}
        failures = _show_repeatedly(settings, reports, displays, recorded)
    if failures:
        raise RidelakeError("; ".join(failures))


def _show_once(report: "StoreReport", as_json: bool) -> Iterator[str]:
    """Show a report. Yields a sentence for each failure."""
    for sentence in report.notes:
        note(f"{report.store}: {sentence}")
    if report.error is not None:
        yield f"{report.store}: {_text(report.error)}"
    if (synced := report.synced) is None:
        return
    if synced.trouble is not None:
        yield f"{report.store}: {synced.trouble.split('; ')[0]}"
    elif as_json:
        say_json({"source": report.store} | synced.report(), one_line=True)
    else:
        say(f"{report.store}: {synced.line()}")
    for sentence in synced.epoch.missing() if synced.epoch is not None else ():
        yield f"{report.store}: {sentence}"


def _show_repeatedly(
    settings: "Settings",
    reports: "Iterator[StoreReport]",
    displays: Mapping[str, SyncDisplay],
    recorded: "SyncMetrics | None",
) -> list[str]:
    """Show and record each report. Returns a sentence for each store whose sync has ended with an error."""
    failures = list[str]()
    try:
        for report in reports:
            if report.synced is not None:
                displays[report.store].show(_with_state(settings, report.store, report.synced), report.notes)
                if recorded is not None and (problem := recorded.record(report.synced, report.store)):
                    note(problem)
            if report.error is not None:
                failures.append(f"{report.store}: {_text(report.error)}")
                note(f"{failures[-1]}; its sync has ended, and its tables stay as they are in the lake")
    finally:
        next(iter(displays.values())).close()
    return failures


def _with_state(settings: "Settings", store: str, synced: "SyncResult") -> "SyncResult":
    """If the store published no epoch, with the state of its tables in the lake."""
    from lakehouse.table.published import read_epochs

    if synced.trouble is None:
        return synced
    why, _, _ = _for_sources(synced.trouble).partition("; `ridelake sync`")
    try:
        tokens = next((epoch.tokens for epoch in read_epochs(settings.lake, limit=1)), {})
    except RidelakeError:  # the catalog is unreachable
        return replace(synced, trouble=why)
    if store not in tokens:
        return replace(synced, trouble=f"{why}; it has no tables in the lake yet")
    taken_at = tokens[store].taken_at[:19].replace("T", " ")
    return replace(synced, trouble=f"{why}; its tables in the lake stay as of {taken_at} UTC")


def _text(error: Exception) -> str:
    """The message on one line."""
    text = str(error) if isinstance(error, RidelakeError) else f"{type(error).__name__}: {error}"
    return " ".join(_for_sources(text).split())


def _for_sources(text: str) -> str:
    """The message with the options of a lake of several stores, which does not take --dsn."""
    from oltp.store import DSN_ADVICE

    text = text.replace(DSN_ADVICE, "").replace("--dsn", "--source")
    return text.replace("`ridelake snapshot`", "`ridelake snapshot --source NAME=DSN`")


def for_each_source(
    settings: "Settings", sources: Mapping[str, str], work: "Callable[[Store, Lake], T]"
) -> tuple[dict[str, T], list[str]]:
    """The result of `work` for each store by its name, and a sentence for each store that failed."""
    import psycopg  # imported here, because `--help` does not need it

    from lakehouse.commands.options import store_and_lake

    results, failures = dict[str, T](), list[str]()
    for name, dsn in sources.items():
        try:
            of_one = replace(settings, dsn=dsn)
            with store_and_lake(of_one, begin=False, store=name) as (store, lake):
                results[name] = work(store, lake)
        except (RidelakeError, psycopg.OperationalError) as error:
            failures.append(f"{name}: {_text(error)}")
    return results, failures
