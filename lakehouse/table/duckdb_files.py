"""The rows of an epoch's files in DuckDB."""

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from lakehouse.table.deletes import Positions

# Row numbers of a file are below this number.
ROWS_MAX = 1 << 32


def open_rows(
    connection: duckdb.DuckDBPyConnection, locations: Sequence[str], deleted: Mapping[str, Positions]
) -> duckdb.DuckDBPyRelation:
    """The rows of the data files without the deleted ones. `deleted`: row numbers by location, for files that
    have any. Files without deleted rows are read as if there were none in the others."""
    whole = [location for location in locations if location not in deleted]
    masked = [location for location in locations if location in deleted]
    if not masked:
        return connection.read_parquet(whole, hive_partitioning=False)
    keys = pa.table(
        {"key": np.concatenate([number * ROWS_MAX + deleted[at] for number, at in enumerate(masked)])}
    )
    rows = (
        connection.read_parquet(masked, hive_partitioning=False)
        .set_alias("file_rows")
        .join(
            connection.from_arrow(keys).set_alias("deleted"),
            condition=f"file_rows.file_index::BIGINT * {ROWS_MAX} + file_rows.file_row_number = deleted.key",
            how="anti",
        )
    )
    return connection.read_parquet(whole, hive_partitioning=False).union(rows) if whole else rows
