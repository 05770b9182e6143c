"""bench: an answer becomes a figure, with its warnings.

`bench_*.py` are pytest-benchmark files (`pytest bench`, `ridelake bench`); `demo` is the whole journey
in scenes. No figure without its answer checked or its audit passed.
"""
