"""Finished trips into the store: generated (`seed`) or read from files (`tlc`), both by `history`."""
