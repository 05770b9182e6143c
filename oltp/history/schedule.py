"""Assigns drivers and riders to trips, so that no one has two trips at once."""

from collections import deque
from heapq import heappop, heappush

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def draw_drivers(begin: Ints, end: Ints, drivers: int) -> Ints:
    """For intervals sorted by `begin`, the driver of each: 0 … drivers-1, and higher numbers while all of
    these are busy. The intervals of a driver do not overlap; one may begin when the previous one ends. The
    driver that has been idle longest is next.

    Interval partitioning (Kleinberg & Tardos, Algorithm Design, §4.1): with `drivers` = 0 the number of
    drivers is the maximum number of concurrent rides, which is optimal."""
    server = np.empty(len(begin), dtype=np.int64)
    busy: list[tuple[int, int]] = []
    idle = deque(range(drivers))
    count = drivers
    for index, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        while busy and busy[0][0] <= first:
            idle.append(heappop(busy)[1])
        if idle:
            chosen = idle.popleft()
        else:
            chosen = count
            count += 1
        server[index] = chosen
        heappush(busy, (last, chosen))
    return server


def draw_riders(begin: Ints, end: Ints, riders: int, random: np.random.Generator) -> Ints:
    """For intervals sorted by `begin`, a rider (0 … riders-1) for each, few of them often. Riders are drawn
    again where rides of one rider overlap; a ride that still overlaps gets a new rider with a number ≥
    riders."""
    rider = (riders * random.random(len(begin)) ** 2).astype(np.int64)
    for _ in range(20):
        clash = _overlaps(rider, begin, end)
        if not clash.any():
            return rider
        rider[clash] = random.integers(0, riders, int(clash.sum()))
    clash = _overlaps(rider, begin, end)
    rider[clash] = riders + np.arange(int(clash.sum()))
    return rider


def _overlaps(rider: Ints, begin: Ints, end: Ints) -> NDArray[np.bool_]:
    """True where an earlier ride of the same rider has not ended yet."""
    order = np.lexsort((begin, rider))
    frame = pl.DataFrame({"rider": rider[order], "begin": begin[order], "end": end[order]})
    until = pl.col("end").cum_max().shift(1).over("rider")
    clash = np.zeros(len(rider), dtype=bool)
    clash[order] = frame.select((pl.col("begin") < until).fill_null(False)).to_series().to_numpy()
    return clash
