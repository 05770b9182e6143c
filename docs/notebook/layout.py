"""A notebook over your lake: row-major and column-major layout of one of its tables, by columns and selectivity.

marimo edit docs/notebook/layout.py     # or `marimo run …` to hide the code

It reads the newest epoch of the lake in this folder, or of RIDELAKE_LAKE. It needs no server and writes nothing.
"""

import marimo

app = marimo.App(width="medium", app_title="Row-major against column-major")


@app.cell
def imports():
    from time import perf_counter

    import marimo as mo
    import numpy as np
    import polars.selectors as cs

    import ridelake
    from bench.pages import chart
    from bench.pages.plots import bars
    from bench.statistics import ratio_of
    from ridelake.errors import RidelakeError

    return RidelakeError, bars, chart, cs, mo, np, perf_counter, ratio_of, ridelake


@app.cell
def question(mo):
    mo.md("""
    # When does the memory layout of a table matter?

    The numbers of one of your tables are stored twice: **row by row** (the values of a row are adjacent) and **column
    by column** (the values of a column are adjacent). Choose the table, the columns that the query reads, and the share
    of the rows that it reads.
    """)
    return


@app.cell
def tables(RidelakeError, cs, ridelake):
    lake = ridelake.open()
    message, names = "", {}
    try:
        for _epoch in lake.epochs()[:1]:
            for _name, _state in _epoch.tables.items():
                _numeric = lake.scan(_name).select(cs.numeric()).collect_schema().names()
                if _numeric and _state.rows:
                    names[f"{_name} ({_state.rows:,} rows)"] = (_name, _numeric)
        if not names:
            message = f"There is no lake with a table of numbers in {lake.settings.lake.root}."
    except RidelakeError as error:
        message = f"The lake cannot be read: {error}."
    return lake, message, names


@app.cell
def choice_of_table(message, mo, names):
    mo.stop(
        bool(message),
        mo.callout(
            mo.md(
                f"{message} Run `ridelake seed` and `ridelake snapshot` in this folder, or set `RIDELAKE_LAKE` to your lake; then start the notebook again."
            ),
            kind="warn",
        ),
    )
    largest = max(names, key=lambda label: len(names[label][1]))
    table = mo.ui.dropdown(options=names, value=largest, label="table")
    selected = mo.ui.slider(
        steps=[0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0], value=1.0, label="share of rows", show_value=True
    )
    mo.vstack([table, selected])
    return selected, table


@app.cell
def choice_of_columns(mo, table):
    name, columns = table.value
    wanted = mo.ui.multiselect(options=columns, value=columns[:1], label="columns read")
    mo.vstack([wanted])
    return columns, name, wanted


@app.cell
def numbers(columns, cs, lake, name):
    ROWS_MAX = 1_000_000  # so that two copies fit into memory
    frame = lake.scan(name).select(cs.by_name(columns).cast(float)).head(ROWS_MAX).fill_null(0).collect()
    return (frame,)


@app.cell
def layouts(columns, frame, np, wanted):
    read = wanted.value or columns[:1]
    _others = [column for column in columns if column not in read]
    column_major = np.asfortranarray(
        frame.select([*read, *_others]).to_numpy()
    )  # the columns read come first
    row_major = np.ascontiguousarray(column_major)
    return column_major, read, row_major


@app.cell
def measured(column_major, np, perf_counter, ratio_of, read, row_major, selected):
    rows = len(row_major)
    # Distinct rows in random order, as in a real query.
    chosen = np.random.default_rng(2).permutation(rows)[: max(1, round(rows * selected.value))]

    def answer(stored):
        if len(chosen) == rows:
            return stored[:, : len(read)].sum(axis=0)
        return stored[chosen, : len(read)].sum(axis=0)

    def seconds(stored):
        begin = perf_counter()
        answer(stored)
        return perf_counter() - begin

    stores = {"row-major": row_major, "column-major": column_major}
    assert np.allclose(answer(row_major), answer(column_major)), "the answers differ"
    samples = {layout: [] for layout in stores}
    for _ in range(9):  # interleaved, so that other load affects both
        for layout, stored in stores.items():
            samples[layout].append(seconds(stored))
    ratio = ratio_of("row-major", samples["row-major"], "column-major", samples["column-major"])
    return chosen, ratio, rows, samples


@app.cell
def picture(bars, chart, chosen, columns, mo, name, np, ratio, read, rows, samples):
    medians = {layout: float(np.median(taken)) for layout, taken in samples.items()}
    sentence = ratio.sentence()
    mo.vstack(
        [
            mo.md(
                f"**{sentence[0].upper()}{sentence[1:]}** when reading {len(read)} of {len(columns)} numeric columns of {len(chosen):,} of {rows:,} rows of `{name}`; the answers are equal."
            ),
            mo.iframe(chart(bars("Median of 9 rounds", "seconds", medians)), height="210px"),
        ]
    )
    return (medians,)


@app.cell
def why(mo):
    mo.md("""
    Memory is read in cache lines of 64 bytes, disks in pages of several kilobytes. A read therefore also fetches the
    adjacent values: other values of the same row, or the same column of other rows. The faster layout is the one whose
    adjacent values the query needs next. Choose more *columns* and a smaller *share of rows* to see the change.
    """)
    return


if __name__ == "__main__":
    app.run()
