"""The rides that are written in every format."""

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.epoch import Epoch


def rides_table(epoch: Epoch, rows: int) -> pa.Table:
    """So many rides of an epoch, 16 columns in the types of the lake; without what only the lake needs: the
    ids of the fields, and the number of the transaction."""
    table = pa.concat_tables(pq.read_table(file.location) for file in epoch.tables["rides"].files)
    table = table.drop_columns("tx").slice(0, rows)
    schema = pa.schema([pa.field(field.name, field.type) for field in table.schema])
    return pa.Table.from_arrays(table.columns, schema=schema).combine_chunks()
