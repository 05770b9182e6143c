"""The period of a file: the months that its name contains, or those of most of its rows."""

import re

import polars as pl

# The share of rows that decides the period; some rows may have wrong times.
SHARE_MIN = 0.9
FIRST_MONTH = 2009 * 12 + 1  # the TLC's oldest file

Months = tuple[int, int]  # the first and the last, as year × 12 + month


def months_of(name: str, month: pl.Series) -> Months:
    """The first of these that applies to nine of ten rows: the month in the file's name, the year in it, the
    most frequent month, the most frequent year. Otherwise everything since the TLC's first file."""
    known = month.filter(month > 0)
    if known.is_empty():
        return FIRST_MONTH, 2**31 - 1
    month_most = known.mode().sort().item(0)
    year_most = ((known - 1) // 12).mode().sort().item(0)
    for first, last in (*_named(name), (month_most, month_most), _year(year_most)):
        if known.is_between(first, last).sum() >= SHARE_MIN * len(known):
            return first, last
    return FIRST_MONTH, 2**31 - 1


def format_months(months: Months) -> str:
    """2024-01, 2019, or an empty text for any period."""
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
