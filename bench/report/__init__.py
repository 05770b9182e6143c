"""A record as a page that needs nothing else, and as lines on a terminal.

    record ──> charts.py   a chart's data as plotly draws it (axes.py, marks.py, palette.py)
           ──> tables.py   samples, ratios, tables and facts as HTML
           ──> sections.py the verdicts, each figure, what was left out
           ──> page.py     all of it in page.html, with page.css and page.js: one file
           ──> terminal.py the verdicts and the ratios as lines and bars

The colours live in page.css alone, for light, dark and paper; the data names them (`var(--series-1)`).
"""
