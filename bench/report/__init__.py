"""A record as a self-contained HTML page, and as text on a terminal.

    record ──> page.py      verdicts, figures, failed and skipped benchmarks
                 charts.py  a chart's data as plotly draws it
           ──> html.py      tables, and the page: page.html with page.css; also the page of the demo, without
                            scripts
           ──> terminal.py  verdicts as lines and ratios as bars

Only page.css defines colours, for light, dark and print. The data refers to them by name (`var(--series-1)`).
"""
