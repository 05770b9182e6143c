"""A pytest plugin that injects a fault into the benchmarks: `PYTEST_PLUGINS=fault_plugin PLANTED=…`.

wrong_answer   DuckDB adds one to the first integer of each answer
broken_store   a cent is added to an account before the audit
dead_engine    the process of an engine is killed before its query
"""

import os
import signal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest


def pytest_configure(config: pytest.Config) -> None:
    {"wrong_answer": wrong_answer, "broken_store": broken_store, "dead_engine": dead_engine}[
        os.environ["PLANTED"]
    ]()


def wrong_answer() -> None:
    from lakehouse.engines.duckdb import DuckDB

    right = DuckDB.sql

    def wrong(self: DuckDB, *asked: Any, **more: Any) -> pa.Table:
        table = right(self, *asked, **more)
        whole = [n for n, field in enumerate(table.schema) if pa.types.is_integer(field.type)]
        for n in whole[:1]:
            field = table.schema.field(n)
            table = table.set_column(n, field, pc.cast(pc.add(table[n], 1), field.type))
        return table

    DuckDB.sql = wrong  # type: ignore[method-assign]


def broken_store() -> None:
    from bench.frontier import setups

    right = setups.audit

    def broken(connection: Any) -> Any:
        connection.execute("UPDATE accounts SET balance_cents = balance_cents + 1 WHERE kind = 'rider'")
        return right(connection)

    setups.audit = broken


def dead_engine() -> None:
    from lakehouse.engines.subprocess_engine import SubprocessEngine

    right = SubprocessEngine.call

    def dead(self: SubprocessEngine, *asked: Any) -> pa.Table:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        return right(self, *asked)

    SubprocessEngine.call = dead  # type: ignore[method-assign]
