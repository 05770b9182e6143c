"""Sort the rows of a run, before they are written to a file.

The order is that of ORDER BY in Postgres: ascending, nulls last. If all columns are integers or times without
nulls, they are packed into one 64-bit number per row, which numpy sorts much faster than Arrow sorts a table.
Rows that are already sorted, as in most tables, are not moved.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

KEY_BITS = 63
VALUE_BYTES = 8  # of an element of a list, in addition to its text


def sort_run(run: pa.Table, order_by: Sequence[str]) -> pa.Table:
    """`run` sorted by `order_by`, with one chunk per column."""
    run = run.combine_chunks()
    order = sort_order(run.select(order_by)) if order_by else None
    return run if order is None else run.take(pa.array(order)).combine_chunks()


def sort_order(keys: pa.Table) -> npt.NDArray[np.int64] | None:
    """The rows in the order of all columns of `keys`, each in one chunk; None if they are in this order."""
    if len(keys) < 2:
        return None
    key = _packed(keys.columns)
    if key is None:
        by = [(name, "ascending", "at_end") for name in keys.column_names]
        return pc.sort_indices(keys, by).to_numpy().astype(np.int64)  # type: ignore[no-any-return]
    return None if (key[1:] >= key[:-1]).all() else np.argsort(key)


def sorted_runs(rows: pa.Table, order_by: Sequence[str], rows_max: int, bytes_max: int) -> Iterator[pa.Table]:
    """The rows sorted by `order_by`, in runs of at most `rows_max` rows and `bytes_max` bytes of text and
    binary values (more if one row is larger)."""
    if rows.nbytes <= bytes_max:
        run = sort_run(rows, order_by)
        yield from (run.slice(begin, rows_max) for begin in range(0, len(run), rows_max))
        return
    keys = [(name, "ascending", "at_end") for name in order_by]
    order = pc.sort_indices(rows.select(order_by), keys).to_numpy()
    wide = rows.cast(_with_large_values(rows.schema)).combine_chunks()  # `take` has a limit of 2 GiB
    sizes = np.cumsum(_value_bytes(wide)[order])
    begin = 0
    while begin < len(order):
        before = int(sizes[begin - 1]) if begin else 0
        end = int(np.searchsorted(sizes, before + bytes_max, "right"))
        end = min(max(end, begin + 1), begin + rows_max)
        yield wide.take(pa.array(order[begin:end])).cast(rows.schema)
        begin = end


def _with_large_values(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(_large(field.type)) for field in schema])


def _large(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_list(type_):
        return pa.large_list(type_.value_field.with_type(_large(type_.value_type)))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_large(field.type)) for field in type_])
    return {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(type_, type_)


def _value_bytes(rows: pa.Table) -> npt.NDArray[np.int64]:
    """The number of bytes of text and binary values of each row, and of the elements of lists."""
    sizes = np.zeros(len(rows), np.int64)
    for column in rows.columns:
        sizes += _sizes(column.combine_chunks())
    return sizes


def _sizes(values: pa.Array) -> npt.NDArray[np.int64]:
    if pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type):
        return pc.fill_null(pc.binary_length(values), 0).to_numpy()  # type: ignore[no-any-return]
    if pa.types.is_large_list(values.type):
        elements = values.flatten()
        ends = np.concatenate([[0], np.cumsum(_sizes(elements) + VALUE_BYTES)])
        counts = np.cumsum(pc.fill_null(pc.list_value_length(values), 0).to_numpy())
        sizes: npt.NDArray[np.int64] = np.diff(ends[np.concatenate([[0], counts])])
        return sizes
    if pa.types.is_struct(values.type):
        return sum((_sizes(part) for part in values.flatten()), np.zeros(len(values), np.int64))
    return np.zeros(len(values), np.int64)


def _packed(columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.int64] | None:
    """One number per row with the same order as the columns; None if it does not fit into KEY_BITS."""
    key: npt.NDArray[np.int64] | None = None
    bits = 0
    for column in columns:
        numbers = _whole_numbers(column)
        if numbers is None:
            return None
        low, high = int(numbers.min()), int(numbers.max())
        needed = (high - low).bit_length()
        bits += needed
        if bits > KEY_BITS:
            return None
        above_low = numbers.astype(np.int64) - low
        key = above_low if key is None else (key << needed) | above_low
    return key


def _whole_numbers(column: pa.ChunkedArray) -> npt.NDArray[np.signedinteger] | None:
    if column.null_count:
        return None
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    if not pa.types.is_integer(column.type):
        return None
    numbers: npt.NDArray[np.signedinteger] = column.to_numpy()
    return numbers
