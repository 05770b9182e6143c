"""Which months a file is of: what its name says, or most of its rows."""

import re

import polars as pl

# Enough to be sure of the month, and not shaken by some dirt in it.
SHARE_MIN = 0.9
FIRST_MONTH = 2009 * 12 + 1  # the TLC's oldest file

Months = tuple[int, int]  # the first and the last, as year × 12 + month


def months_of(name: str, month: pl.Series) -> Months:
    """The first of these that holds for nine rows in ten: the month in the file's name, the year in it,
    the commonest month, the commonest year. If none does, anything since the TLC's first file."""
    known = month.filter(month > 0)
    if known.is_empty():
        return FIRST_MONTH, 2**31 - 1
    month_most = known.mode().sort().item(0)
    year_most = ((known - 1) // 12).mode().sort().item(0)
    for first, last in (*_named(name), (month_most, month_most), _year(year_most)):
        if known.is_between(first, last).sum() >= SHARE_MIN * len(known):
            return first, last
    return FIRST_MONTH, 2**31 - 1


def told(months: Months) -> str:
    """2024-01, 2019, or nothing for "any"."""
    first, last = months
    year, number = divmod(first - 1, 12)
    if first == last:
        return f"{year}-{number + 1:02}"
    return str(year) if (first, last) == _year(year) else ""


def _named(name: str) -> list[Months]:
    months = [
        int(year) * 12 + int(month)
        for year, month in re.findall(r"(?<!\d)(20\d\d)[-_]?(0[1-9]|1[0-2])(?!\d)", name)
    ]
    years = [int(year) for year in re.findall(r"(?<!\d)(20\d\d)(?!\d)", name)]
    return [(month, month) for month in months] + [_year(year) for year in years]


def _year(year: int) -> Months:
    return year * 12 + 1, year * 12 + 12
