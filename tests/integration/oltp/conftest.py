"""Fixtures: an empty store with helpers to add riders and drivers."""

from collections.abc import Iterator

import pytest
from concurrency import assert_audit_passes
from factories import Town
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.pool import RetryPool
from oltp.store import Store


@pytest.fixture
def town(store: Store) -> Town:
    return Town(store)


@pytest.fixture
def connection(store: Store) -> Iterator[Connection[TupleRow]]:
    with store.connect() as connection:
        yield connection


@pytest.fixture
def pool(town: Town) -> Iterator[RetryPool]:
    with RetryPool(town.store, size=4) as pool:
        yield pool
    assert_audit_passes(town.store)
