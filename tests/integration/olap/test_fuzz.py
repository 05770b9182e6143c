"""Random SQL: each engine answers or rejects each query in time, without a traceback."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lakehouse.engines import open_engine
from lakehouse.engines.parameters import placeholders
from lakehouse.table.published import newest_epoch
from olap.ask import CANCEL_SECONDS, timed
from olap.error_hints import error_hint, error_position, error_sentence
from olap.query_epoch import relations
from olap.question import ad_hoc_question
from ridelake.errors import QueryRejected, TimedOut, UsageError

TIMEOUT_SECONDS = 2.0
GRACE_SECONDS = 8.0  # additional time, multiplied by the load per processor

COLUMNS = ["ride_id", "rider_id", "driver_id", "fare_cents", "status", "city_id", "requested_at"] * 3
COLUMNS += ["nothing", "*", "username"]
TABLES = ["rides"] * 9 + [
    "rides AS r",
    '"rides"',
    "riders",
    "cities",
    "RideTable",
    "nowhere",
    "(SELECT 1 AS n)",
]
VALUES = [*COLUMNS, "1", "-1", "0", "1.5", "'x'", "''", "NULL", "true", "DATE '2026-02-30'", "$p"]
GARBAGE = ["'", '"', "$$", "$x", "$1", "--", "/*", "*/", ";", "(", ")", "::", "\\", "\x00", "🚕", "NULL",
           "SELECT", "FROM", ",", "1e999", "0x", "..", "@", "#", "`", "E'\\'", "\n", "9" * 400]  # fmt: skip


class Grammar:
    """Generates almost valid queries. Most of them fail in the planner or the executor of an engine."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def queries(self) -> Iterator[str]:
        while True:
            query = self._query(2)
            if self._random.random() < 0.3:
                query = self._corrupted(query)
            yield query

    def _query(self, depth: int) -> str:
        choose = self._random.choice
        what = ", ".join(self._value(depth) for _ in range(self._random.randint(1, 3)))
        query = f"SELECT {what} FROM {self._from(depth)}"
        if self._random.random() < 0.5:
            compared = choose(["=", "=", "<", "<>", "LIKE", "IN", "IS"])
            query += f" WHERE {self._value(depth)} {compared} {self._value(depth)}"
        if self._random.random() < 0.1:
            query += f" GROUP BY {choose(['1', *COLUMNS])}"
        if self._random.random() < 0.3:
            query += f" ORDER BY {choose(['1', '-1', '99', *COLUMNS])}"
        return query + choose(["", "", "", f" LIMIT {choose(['3', '-1', '0', 'x'])}", f" UNION ALL {what}"])

    def _from(self, depth: int) -> str:
        choose = self._random.choice
        source = (
            f"({self._query(depth - 1)}) AS s" if depth and self._random.random() < 0.3 else choose(TABLES)
        )
        if self._random.random() < 0.4:
            source += f"{choose([' JOIN ', ' LEFT JOIN ', ', ', ' CROSS JOIN '])}{choose(TABLES)}"
            source += choose(["", f" ON {self._value(0)} = {self._value(0)}", " USING (ride_id)"])
        return source

    def _value(self, depth: int) -> str:
        choose = self._random.choice
        if not depth or self._random.random() < 0.4:
            return choose(
                [*COLUMNS, "1", "-1", "0", "1.5", "'x'", "''", "NULL", "true", "DATE '2026-02-30'", "$p"]
            )
        inner = self._value(depth - 1)
        return choose(
            [
                f"{choose(['COUNT', 'SUM', 'AVG', 'MAX', 'ABS', 'LOWER', 'NOPE', 'COALESCE'])}({inner})",
                f"({inner} {choose(['+', '-', '*', '/', '%', '||', 'AND', 'OR'])} {self._value(depth - 1)})",
                f"CAST({inner} AS {choose(['BIGINT', 'DATE', 'VARCHAR', 'DECIMAL(40, 3)', 'NOTYPE'])})",
                f"CASE WHEN {inner} THEN 1 ELSE {self._value(depth - 1)} END",
                f"ROW_NUMBER() OVER (ORDER BY {inner})",
                f"EXTRACT(YEAR FROM {inner})",
                f"({self._query(depth - 1)})",
            ]
        )

    def _corrupted(self, query: str) -> str:
        """The query with some parts removed and some garbage inserted."""
        for _ in range(self._random.randint(1, 3)):
            place = self._random.randrange(len(query) + 1)
            if self._random.random() < 0.3:
                query = query[:place] + query[place + self._random.randint(1, 9) :]
            else:
                query = query[:place] + self._random.choice(GARBAGE) + query[place:]
        return query


def ask_at_random(
    settings, names: tuple[str, ...], seed: int, seconds: float, answers_min: int = 1
) -> dict[str, int]:
    """Run the same queries on each engine for an equal share of the time, and until it has answered
    `answers_min`. Returns the number of answers by engine."""
    epoch = newest_epoch(settings.lake)
    answered = dict.fromkeys(names, 0)
    for name in names:
        with open_engine(name, settings, epoch) as engine:
            until = time.monotonic() + seconds / len(names)
            for query in Grammar(seed).queries():
                if answered[name] >= answers_min and time.monotonic() > until:
                    break
                answered[name] += asked_in_time(engine, epoch, query)
    return answered


def asked_in_time(engine, epoch, query: str) -> bool:
    """Whether the query was answered. A rejection must have a message; other exceptions are failures."""
    started = time.monotonic()
    try:
        timed(engine, ad_hoc_question(query, dict.fromkeys(placeholders(query), 7)), TIMEOUT_SECONDS)
        return True
    except QueryRejected as error:
        message = str(error)
        assert message.startswith(f"{engine.name}: "), (query, message)
        assert error_sentence(message), query
        error_position(message, query)
        with suppress(QueryRejected):
            error_hint(message, query, lambda: relations(engine, epoch))
    except (TimedOut, UsageError):
        pass
    except BaseException as error:
        error.add_note(f"query on {engine.name}: {query!r}")
        raise
    took = time.monotonic() - started
    grace_seconds = GRACE_SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert took < TIMEOUT_SECONDS + CANCEL_SECONDS + grace_seconds, (engine.name, query, took)
    return False


LONG_SECONDS = int(os.environ.get("RIDELAKE_TEST_SECONDS", "180"))  # of the slow test
BASE_ENGINES = ("postgres", "duckdb", "polars")


def test_random_queries_are_answered_or_refused_in_time(settings_once):
    answered = ask_at_random(settings_once, BASE_ENGINES, seed=1, seconds=3)
    assert min(answered.values()) > 0, answered  # some queries must be answered


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS + 1800)  # a long timeout, so that it starts early; see conftest.py
def test_minutes_of_random_queries_are_answered_or_refused_in_time(settings_once):
    seed = random.randrange(10**9)
    answered = ask_at_random(settings_once, BASE_ENGINES, seed, LONG_SECONDS, answers_min=10)
    assert min(answered.values()) > 9, (answered, seed)
