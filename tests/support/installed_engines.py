"""The engines as test parameters: engines that are not installed are skipped with an install hint."""

import pytest

from lakehouse.engines import ENGINES

# `make test` runs these engines; `make slow` runs the others.
QUICK_ENGINES = ("postgres", "duckdb", "polars")


def _parameter(name: str):
    package = ENGINES[name]
    missing = pytest.mark.skipif(package.version() is None, reason=f"not installed: {package.install}")
    return pytest.param(name, marks=[missing, *([pytest.mark.slow] if name not in QUICK_ENGINES else [])])


EVERY_ENGINE = [_parameter(name) for name in ENGINES]
EVERY_ENGINE_IN_SUBPROCESS = [_parameter(name) for name, package in ENGINES.items() if package.in_subprocess]
