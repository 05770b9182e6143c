"""How much is measured: a minute of it, six minutes, or as long as it takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """`rides` in the store that most figures are of; a contest takes about `seconds`, in at least
    `rounds_min` rounds. `level` orders the scales: a benchmark is left out below its own."""

    name: str
    level: int
    rides: int
    seconds: float
    rounds_min: int
    rounds_max: int


QUICK = Scale("quick", 0, rides=20_000, seconds=0.3, rounds_min=5, rounds_max=30)
DEFAULT = Scale("default", 1, rides=200_000, seconds=2.0, rounds_min=9, rounds_max=60)
FULL = Scale("full", 2, rides=200_000, seconds=6.0, rounds_min=15, rounds_max=100)
SCALES = {scale.name: scale for scale in (QUICK, DEFAULT, FULL)}
