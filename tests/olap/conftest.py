"""A lake over a store, to ask questions of."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from lakehouse.catalog import Lake
from lakehouse.engines import ENGINE_NAMES, Engine, open_engine
from lakehouse.epoch import Epoch, newest_epoch
from lakehouse.snapshot import take_snapshot
from oltp.store import Store
from ridelake.settings import Settings

Snapshot = Callable[[Store], Settings]


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """Publish a store as the next epoch of the test's own lake; the settings lead to both."""

    def publish(store: Store) -> Settings:
        settings = Settings(home=tmp_path / "home", lake=tmp_path / "lake", dsn=store.conninfo)
        take_snapshot(store, Lake.create(settings.lake))
        return settings

    return publish


@pytest.fixture
def settings(seeded_store: Store, snapshot: Snapshot) -> Settings:
    """2,000 past rides, in Postgres and in epoch 1."""
    return snapshot(seeded_store)


@pytest.fixture
def engines_over() -> Callable[[Settings], AbstractContextManager[tuple[list[Engine], Epoch]]]:
    """Every engine, opened over the newest epoch, and that epoch."""

    @contextmanager
    def opened(settings: Settings) -> Iterator[tuple[list[Engine], Epoch]]:
        epoch = newest_epoch(settings.lake)
        with ExitStack() as engines:
            yield [engines.enter_context(open_engine(name, settings, epoch)) for name in ENGINE_NAMES], epoch

    return opened
