"""Fixtures: a store and a published epoch of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from bucket import PLACES, endpoint, lake_at, s3_lake  # noqa: F401  (fixtures)
from numbers_table import numbers, numbers_alone  # noqa: F401  (fixtures)
from own_tables import bare, orders  # noqa: F401  (fixtures)

from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines.duckdb import opened
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from oltp.store import Store
from ridelake.settings import LakeAddress, Settings


@dataclass(frozen=True)
class Published:
    store: Store
    settings: Settings
    epoch: Epoch


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(LakeAddress.at(tmp_path / "lake"))


@pytest.fixture
def published(seeded_store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> Published:
    """A store with 2,000 rides and with special characters in usernames, and its epoch 1."""
    return _publish(seeded_store, tmp_path, lake_at("folder", request, tmp_path))


@pytest.fixture(scope="module")
def published_once(
    seeded_store_once: Store, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Published:
    """Like `published`, once per module, for tests that do not change it."""
    folder = tmp_path_factory.mktemp("published")
    return _publish(seeded_store_once, folder, lake_at("folder", request, folder))


@pytest.fixture(scope="module", params=PLACES)
def published_in_each_place(
    seeded_store_once: Store, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Published:
    """Like `published_once`, with the lake in a folder and in a bucket."""
    folder = tmp_path_factory.mktemp("published")
    return _publish(seeded_store_once, folder, lake_at(request.param, request, folder))


def _publish(store: Store, folder: Path, lake: LakeAddress) -> Published:
    with store.connect() as connection:
        connection.execute("UPDATE riders SET username = 'Zoë \"Z\", it''s\\n🚕' WHERE rider_id = 1")
        connection.execute("UPDATE riders SET username = E'two\\nlines\\tand \\\\N' WHERE rider_id = 2")
        connection.execute("UPDATE riders SET username = 'NULL' WHERE rider_id = 3")
    epoch = publish_snapshot(store, Lake.create(lake))
    return Published(store, Settings(home=folder, lake=lake, dsn=store.conninfo), epoch)


@pytest.fixture
def broken() -> Callable[[Epoch], dict[str, int]]:
    """A function that counts the inconsistencies of an epoch. Empty if its tables are of one snapshot."""
    return _broken


# Queries that count violations. Each returns 0 in a consistent state, and more if one table is older than
# another.
BROKEN = {
    "a ride without its payment, or the reverse": """
        SELECT count(*) FROM rides FULL JOIN payments ON payments.ride_id = rides.ride_id
        WHERE rides.ride_id IS NULL OR payments.ride_id IS NULL""",
    "an assigned request without its ride": """
        SELECT count(*) FROM requests LEFT JOIN rides ON rides.request_id = requests.request_id
        WHERE requests.outcome = 'assigned' AND rides.ride_id IS NULL""",
    "an active ride whose driver is not busy, or a busy driver without one": """
        SELECT abs((SELECT count(*) FROM rides WHERE status IN ('assigned', 'started'))
                 - (SELECT count(*) FROM drivers WHERE status = 'busy')) AS difference""",
    "held money that no payment holds": """
        SELECT abs((SELECT sum(held_cents) FROM accounts) - coalesce(sum(held_cents), 0)) AS difference
        FROM payments WHERE status = 'held'""",
    "balances that are not the sum of the ledger": """
        SELECT count(*) FROM accounts
        LEFT JOIN (SELECT to_account_id AS id, sum(amount_cents) AS cents FROM ledger GROUP BY 1) AS i
            ON i.id = account_id
        LEFT JOIN (SELECT from_account_id AS id, sum(amount_cents) AS cents FROM ledger GROUP BY 1) AS o
            ON o.id = account_id
        WHERE balance_cents IS NOT NULL AND balance_cents <> coalesce(i.cents, 0) - coalesce(o.cents, 0)""",
}


def _broken(epoch: Epoch) -> dict[str, int]:
    with opened(Settings(home=Path("unused"), lake=LakeAddress.at("unused")), epoch) as engine:
        found = {what: int(engine.sql(query)[0][0].as_py()) for what, query in BROKEN.items()}
    return {what: count for what, count in found.items() if count}
