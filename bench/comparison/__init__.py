"""Two runs of the same benchmarks: what has become slower, what faster, and what nobody can tell.

two records ──> records.py  the paths that both have timed, and what one of them lacks
            ──> changes.py  ratios with intervals, guarded against the drift between runs
            ──> telling.py  as a table, as Markdown for a pull request, as JSON
"""
