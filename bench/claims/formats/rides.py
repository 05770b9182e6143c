"""The rides that are written in each format."""

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.epoch import Epoch


def rides_table(epoch: Epoch, rows: int) -> pa.Table:
    """The first `rows` rides of an epoch: 16 columns with the types of the lake, without field ids and
    without the column `tx`."""
    table = pa.concat_tables(pq.read_table(file.location) for file in epoch.tables["rides"].files)
    table = table.drop_columns("tx").slice(0, rows)
    schema = pa.schema([pa.field(field.name, field.type) for field in table.schema])
    return pa.Table.from_arrays(table.columns, schema=schema).combine_chunks()
