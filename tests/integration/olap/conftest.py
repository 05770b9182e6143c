"""Fixtures: a lake of a seeded store, and engines that read it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from bucket import endpoint  # noqa: F401  (a fixture)

from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import BASE_ENGINES, Engine, open_engine
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import newest_epoch
from oltp.store import Store
from ridelake.settings import LakeAddress, Settings

Snapshot = Callable[[Store], Settings]


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A function that publishes a store to a new lake, and returns the settings for both."""
    return lambda store: _publish(store, tmp_path)


def _publish(store: Store, folder: Path) -> Settings:
    settings = Settings(home=folder / "home", lake=LakeAddress.at(folder / "lake"), dsn=store.conninfo)
    publish_snapshot(store, Lake.create(settings.lake))
    return settings


@pytest.fixture
def settings(seeded_store: Store, snapshot: Snapshot) -> Settings:
    """2,000 past rides, in Postgres and in epoch 1."""
    return snapshot(seeded_store)


@pytest.fixture(scope="module")
def settings_once(seeded_store_once: Store, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Like `settings`, once per module, for tests that do not change the store."""
    return _publish(seeded_store_once, tmp_path_factory.mktemp("lake"))


@pytest.fixture
def engines_over() -> Callable[[Settings], AbstractContextManager[tuple[list[Engine], Epoch]]]:
    """A context manager that opens the base engines on the newest epoch. Yields them and the epoch."""

    @contextmanager
    def opened(settings: Settings) -> Iterator[tuple[list[Engine], Epoch]]:
        epoch = newest_epoch(settings.lake)
        with ExitStack() as engines:
            yield [engines.enter_context(open_engine(name, settings, epoch)) for name in BASE_ENGINES], epoch

    return opened
