"""Choose the epoch of a query: the newest, an older one (--as-of), or the newest with an overlay (--fresh).
The epoch is pinned, so that `maintain` does not expire it during the query."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakehouse.table.published import check_files_exist, epoch_as_of, newest_epoch, pin_epoch
from ridelake.errors import NotReady, UsageError
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.table.epoch import Epoch


@contextmanager
def open_query_epoch(
    settings: Settings, engines: Sequence[str], *, as_of: str | None = None, fresh: bool = False
) -> "Iterator[Epoch | None]":
    """The pinned epoch. None if there is no epoch and Postgres is the only engine, because it reads its own
    rows.

    Raises NotReady if there is no epoch, UsageError if `as_of` names no epoch or Postgres is to answer for
    it."""
    if as_of is not None and fresh:
        raise UsageError("--as-of and --fresh cannot be combined; give one of them")
    if as_of is not None and "postgres" in engines:
        raise UsageError(
            "postgres has only current rows; with --as-of choose engines that read files (--engine)"
        )
    if fresh:
        with _fresh(settings) as epoch:
            yield epoch
        return
    try:
        epoch = epoch_as_of(settings.lake, as_of) if as_of is not None else newest_epoch(settings.lake)
    except NotReady:
        if list(engines) != ["postgres"]:
            raise
        yield None
        return
    with pin_epoch(settings.lake, epoch):
        check_files_exist(settings.lake, epoch)
        yield epoch


@contextmanager
def _fresh(settings: Settings) -> "Iterator[Epoch]":
    from lakehouse.capture.overlay import (
        open_overlay,  # imports psycopg and pyarrow, which most queries do not need
    )

    newest = newest_epoch(settings.lake)
    with pin_epoch(settings.lake, newest):
        check_files_exist(settings.lake, newest)
        with open_overlay(settings, newest) as epoch:
            yield epoch
