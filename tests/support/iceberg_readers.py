"""Iceberg readers that are not ridelake: each returns the rows of a table from its metadata file."""

import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

EXTENSIONS = ("avro", "httpfs", "iceberg")
DUCKDB = "1.5.5"


def with_pyiceberg(metadata: str) -> pa.Table:
    from pyiceberg.table import StaticTable

    return StaticTable.from_metadata(metadata).scan().to_arrow()


def with_polars(metadata: str) -> pa.Table:
    import polars as pl

    return pl.scan_iceberg(metadata).collect().to_arrow()


def with_daft(metadata: str) -> pa.Table:
    daft = pytest.importorskip("daft")
    from pyiceberg.table import StaticTable

    return daft.read_iceberg(StaticTable.from_metadata(metadata)).to_arrow()


CHDB = """
import os, sys
from chdb import session
os.chdir(sys.argv[1])
opened = session.Session()
rows = opened.query(f"SELECT * FROM icebergLocal('.', 'Parquet', '*')", "ArrowTable")
"""
