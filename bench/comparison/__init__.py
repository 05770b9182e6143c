"""Comparison of two runs of the same benchmarks: regressions and improvements.

two records ──> records.py  the paths that both have timed, and the missing ones
            ──> changes.py  ratios with intervals, corrected for the drift between runs
            ──> telling.py  a table, Markdown for a pull request, JSON
"""
