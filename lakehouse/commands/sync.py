"""`ridelake sync`."""

import shutil
import sys
from typing import TYPE_CHECKING

import click

from lakehouse.commands.options import (
    refuse_missing_tables,
    store_and_lake,
    table_option,
    verify_option,
    without_option,
)
from ridelake.errors import UsageError
from ridelake.progress import progress
from ridelake.screen import note, say, say_json
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.sync import Synced

EVERY_SECONDS = 1.0


def _number(context: click.Context, parameter: click.Parameter, seconds: float | None) -> float | None:
    if seconds is not None and seconds != seconds:  # NaN is in any range
        raise click.BadParameter("it is not a number of seconds", context, parameter)
    return seconds


@click.command()
@click.option("--once", is_flag=True, help="Take one epoch and leave.")
@click.option(
    "--every", "every_seconds", type=click.FloatRange(min=0.01, max=86_400), callback=_number,
    metavar="SECONDS", help="Begin an epoch that often, until Ctrl-C [1].",
)  # fmt: skip
@table_option
@without_option
@verify_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document for each epoch, one a line.")
@click.pass_obj
def sync(
    settings: Settings,
    once: bool,
    every_seconds: float | None,
    tables: tuple[str, ...],
    without: tuple[str, ...],
    verify: bool,
    as_json: bool,
) -> None:
    """Publish what has changed since the newest epoch, again and again.

    A table that is not tracked (see `ridelake track`), or that the lake does not have yet, is taken whole.
    If nothing has changed there is no new epoch. Ctrl-C ends it between two epochs or within one; the lake
    is then at the last one published.
    """
    if once and every_seconds is not None:
        raise UsageError("--once publishes one epoch and --every repeats: give one of them")
    from lakehouse.sync import sync_once, synced_every
    from lakehouse.take import tables_of
    from lakehouse.tracking import renew

    with store_and_lake(settings, tables) as (store, lake):
        newest = lake.newest()
        for remark in renew(store, tables_of(newest, tables), newest.token if newest else None):
            note(remark)
        if once:
            with progress("sync"):
                synced = sync_once(store, lake, tables=tables, verify=verify, without=without)
            say_json(synced.report()) if as_json else say(synced.line())
            assert synced.epoch is not None
            refuse_missing_tables(synced.epoch)
            return
        ticker = Ticker(as_json)
        every_seconds = every_seconds or EVERY_SECONDS
        note(f"an epoch every {every_seconds:g} s into {settings.lake.root}; Ctrl-C ends it")
        try:
            for synced in synced_every(
                every_seconds, store, lake, tables=tables, verify=verify, without=without
            ):
                ticker.tell(synced)
        finally:
            ticker.close()


class Ticker:
    """One line that rewrites itself on a terminal; elsewhere a line an epoch, as text or JSON. Trouble that
    lasts, or a table that stays out of the epochs, is reported once."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._terminal = sys.stdout.isatty() and not as_json
        self._trouble: str | None = None
        self._missing: frozenset[str] = frozenset()

    def tell(self, synced: "Synced") -> None:
        known, self._trouble = self._trouble, synced.trouble
        if synced.trouble is not None and synced.trouble == known:
            return
        if self._terminal:
            line, width = synced.line(), shutil.get_terminal_size().columns - 1
            shown = line[:width] if synced.trouble is None else f"{line}\n"  # what went wrong stays, in full
            sys.stdout.write(f"\r\x1b[K{shown}")
            sys.stdout.flush()
        elif synced.is_new or synced.trouble:
            say_json(synced.report(), one_line=True) if self._as_json else say(synced.line())
        self._report_missing(synced)

    def _report_missing(self, synced: "Synced") -> None:
        if synced.epoch is None:
            return
        known, self._missing = self._missing, frozenset(synced.epoch.left_out)
        if self._missing != known:
            for line in synced.epoch.missing():
                note(f"\n{line}" if self._terminal else line)

    def close(self) -> None:
        if self._terminal:
            sys.stdout.write("\n")
