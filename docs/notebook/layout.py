"""A notebook with sliders: row-major and column-major layout, by rows, columns and selectivity.

marimo edit docs/notebook/layout.py     # or `marimo run …` to hide the code
"""

import marimo

app = marimo.App(width="medium", app_title="Row-major against column-major")


@app.cell
def imports():
    from time import perf_counter

    import marimo as mo
    import numpy as np
    import plotly.graph_objects as go

    return go, mo, np, perf_counter


@app.cell
def question(mo):
    mo.md("""
    # When does the memory layout of a table matter?

    The same numbers are stored twice: **row by row** (the values of a ride are adjacent) and **column by column**
    (the fares of all rides are adjacent). Choose the number of rides, the number of columns, the number of columns
    that the query reads, and the share of the rides that it reads.
    """)
    return


@app.cell
def sliders(mo):
    rows = mo.ui.slider(steps=[1_000, 10_000, 100_000, 300_000], value=100_000, label="rows", show_value=True)
    columns = mo.ui.slider(steps=[4, 16, 64], value=16, label="columns", show_value=True)
    wanted = mo.ui.slider(steps=[1, 2, 4, 8, 16, 64], value=1, label="columns read", show_value=True)
    selected = mo.ui.slider(
        steps=[0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0], value=1.0, label="share of rows", show_value=True
    )
    mo.vstack([rows, columns, wanted, selected])
    return columns, rows, selected, wanted


@app.cell
def tables(columns, np, rows):
    random = np.random.default_rng(1)
    row_major = random.integers(0, 10_000, (rows.value, columns.value))
    column_major = np.asfortranarray(row_major)
    return column_major, row_major


@app.cell
def measured(column_major, columns, np, perf_counter, row_major, rows, selected, wanted):
    count = min(wanted.value, columns.value)
    # Distinct rows in random order, as in a real query.
    chosen = np.random.default_rng(2).permutation(rows.value)[: max(1, round(rows.value * selected.value))]

    def answer(table):
        if len(chosen) == rows.value:
            return table[:, :count].sum(axis=0)
        return table[chosen, :count].sum(axis=0)

    def seconds(table):
        begin = perf_counter()
        answer(table)
        return perf_counter() - begin

    layouts = {"row-major": row_major, "column-major": column_major}
    assert np.array_equal(answer(row_major), answer(column_major)), "the answers differ"
    samples = {name: [] for name in layouts}
    for _ in range(9):  # interleaved, so that other load affects both
        for name, table in layouts.items():
            samples[name].append(seconds(table))
    milliseconds = {name: float(np.median(taken)) * 1e3 for name, taken in samples.items()}
    return chosen, count, milliseconds


@app.cell
def picture(chosen, columns, count, go, milliseconds, mo, rows):
    faster, slower = sorted(milliseconds, key=milliseconds.__getitem__)
    ratio = milliseconds[slower] / milliseconds[faster]
    chart = go.Figure(
        go.Bar(x=list(milliseconds.values()), y=list(milliseconds), orientation="h"),
        layout={"xaxis_title": "milliseconds", "height": 220, "margin": {"t": 10, "b": 40}},
    )
    mo.vstack(
        [
            mo.md(
                f"**{faster} is {ratio:.1f}× faster than {slower}** at reading {count} of {columns.value} columns of "
                f"{len(chosen):,} of {rows.value:,} rides; the answers are equal."
            ),
            mo.ui.plotly(chart),
        ]
    )
    return (ratio,)


@app.cell
def why(mo):
    mo.md("""
    Memory is read in cache lines of 64 bytes, disks in pages of several kilobytes. A read therefore also fetches the
    adjacent values: other values of the same ride, or the same column of other rides. The layout is faster whose
    adjacent values the query needs next. Increase *columns read* and decrease *share of rows* to see the change.
    """)
    return


if __name__ == "__main__":
    app.run()
