"""The scales of a run: one minute, six minutes, or everything."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """`rides`: past rides in the store. `seconds`: the approximate length of a comparison, with `rounds_min`
    to `rounds_max` rounds. `level` orders the scales; a benchmark runs only at its own level and above."""

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
