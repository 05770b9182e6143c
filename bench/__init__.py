"""bench: measurements, each with a check of its answers, intervals and warnings.

`bench_*.py` are pytest-benchmark files (`pytest bench`, `ridelake bench`). `demo` runs the whole pipeline
once. A figure is recorded only if its answers are checked or its audit passed.
"""
