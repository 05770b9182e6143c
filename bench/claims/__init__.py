"""The textbook claims on data systems, each measured and with a verdict.

There is a file for each family of claims. Each benchmark in it fills a `Figure` and calls `state`.
`textbook.py` lists the claims and their numbers; `headlines.py` writes the measured sentence of each from
its figure.
"""
