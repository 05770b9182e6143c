"""bench: benchmarks. Each checks its answers and reports ratios with intervals, and warnings.

`bench_*.py` are pytest-benchmark files (`pytest bench`, `ridelake bench`). `demo` runs the whole pipeline
once. A figure is recorded only if its answers are checked or its audit passed.
"""
