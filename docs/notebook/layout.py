"""A notebook with sliders: rows × columns × selectivity, row-major against column-major.

marimo edit docs/notebook/layout.py     # or `marimo run …` to see it without its code
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
    # When does it matter how a table lies in memory?

    The same numbers twice: once **row by row** (the values of a ride beside each other), once **column by
    column** (the fares beside each other). Choose how many rides there are, how many columns each has, how many
    columns your question needs, and which share of the rides it is about.
    """)
    return


@app.cell
def sliders(mo):
    rows = mo.ui.slider(steps=[1_000, 10_000, 100_000, 300_000], value=100_000, label="rows", show_value=True)
    columns = mo.ui.slider(steps=[4, 16, 64], value=16, label="columns", show_value=True)
    wanted = mo.ui.slider(steps=[1, 2, 4, 8, 16, 64], value=1, label="columns wanted", show_value=True)
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
    # Without an order, as the rows of a real question lie; each of them once.
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
    assert np.array_equal(answer(row_major), answer(column_major)), "two answers: no times"
    samples = {name: [] for name in layouts}
    for _ in range(9):  # in turns, so that a busy moment slows both
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
                f"**{faster} is {ratio:.1f} × as fast** at reading {count} of {columns.value} columns of "
                f"{len(chosen):,} of {rows.value:,} rides; the answers are equal."
            ),
            mo.ui.plotly(chart),
        ]
    )
    return (ratio,)


@app.cell
def why(mo):
    mo.md("""
    Memory is read in lines of 64 bytes, disks in pages of kilobytes. What lies beside a wanted value comes with it
    for nothing: the other values of the same ride, or the same value of other rides. Which of them you want next
    decides which layout is the faster. Move *columns wanted* up and *share of rows* down, and see it turn.
    """)
    return


if __name__ == "__main__":
    app.run()
