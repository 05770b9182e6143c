"""A record as a self-contained HTML page, and as text on a terminal.

record ──> page.py      the answer, verdicts, all questions, failed and skipped benchmarks: pages/report.html
             charts.py  crossovers, ratios, times and the charts of the benchmarks, by bench.pages
       ──> terminal.py  verdicts as lines and ratios as bars
"""
