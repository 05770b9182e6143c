"""Who drives and who rides, so that nobody does two things at once."""

from collections import deque
from heapq import heappop, heappush

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def draw_drivers(begin: Ints, end: Ints, drivers: int) -> Ints:
    """For intervals sorted by `begin`, the driver of each, 0 … drivers-1, and more only while all are
    busy. Nobody has two at once, though one may begin where the last ended; who has been idle longest is
    next.

    Interval partitioning (Kleinberg & Tardos, Algorithm Design, §4.1): with `drivers` = 0 it takes as many
    as there are rides at the busiest moment, which no schedule can undercut."""
    server = np.empty(len(begin), dtype=np.int64)
    busy: list[tuple[int, int]] = []
    idle = deque(range(drivers))
    count = drivers
    for index, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        while busy and busy[0][0] <= first:
            idle.append(heappop(busy)[1])
        if idle:
            who = idle.popleft()
        else:
            who = count
            count += 1
        server[index] = who
        heappush(busy, (last, who))
    return server


def draw_riders(begin: Ints, end: Ints, riders: int, random: np.random.Generator) -> Ints:
    """For intervals sorted by `begin`, a rider (0 … riders-1) for each, some often and most seldom,
    drawn again where a rider's rides overlap. Who still has two at once after that gets a twin with a
    number ≥ riders."""
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
