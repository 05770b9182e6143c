"""The claims of a lecture on data systems, each measured, each with a verdict.

One file for each family of claims; each benchmark in it fills a `Figure` and calls `state`. The claims in the
lecture's words, and their numbers, are in `words.py`.
"""
