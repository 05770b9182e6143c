"""A record as a self-contained HTML page, and as text on a terminal.

    record ──> charts.py   a chart's data as plotly draws it (axes.py, marks.py, palette.py)
           ──> tables.py   samples, ratios, tables and facts as HTML
           ──> sections.py verdicts, figures, failed and skipped benchmarks
           ──> page.py     the page: page.html with page.css and page.js in one file
           ──> terminal.py verdicts as lines and ratios as bars

Only page.css defines colours, for light, dark and print. The data refers to them by name (`var(--series-1)`).
"""
