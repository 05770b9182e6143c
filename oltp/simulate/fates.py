"""What shall become of each request, drawn beforehand: the same seed, the same fates.

The shares are guesses, as nobody publishes them; they are high enough for a run of a thousand requests to
meet each case. Failed payments have no share: riders fail who have spent their money, as in life.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from oltp.city import draw_tips
from ridelake.ride import CancelReason

# Of the rides: ended before they began.
CANCEL_SHARES = {CancelReason.RIDER: 0.035, CancelReason.DRIVER: 0.010, CancelReason.NO_SHOW: 0.005}

# Of the requests.
SENT_AGAIN_SHARE = 0.010  # by a client that was in doubt without a reason: twice more, answered the same
ABANDONED_SHARE = 0.005  # the client hangs up after sending, and asks later what became of it
# Of the declined riders: they pay in, and can ride again. Thus a run of hours ends as it began, with some
# riders broke: a top-up is some twenty fares.
TOPPED_UP_SHARE = 0.800
TOP_UP_CENTS = 50_000
# Of the completed rides.
REFUNDED_SHARE = 0.005
RESTED_SHARE = 0.010  # the driver goes offline, and online again one request later, where the ride ended

BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class Fate:
    """`cancelled`: by whom, if the ride is not to begin. The rest is said by the shares above."""

    cancelled: CancelReason | None
    tip_cents: int
    sent_again: bool
    abandoned: bool
    topped_up: bool
    refunded: bool
    rested: bool


def draw_fates(random: np.random.Generator) -> Iterator[Fate]:
    """Fates without end."""
    endings: list[CancelReason | None] = [None, *CANCEL_SHARES]
    shares = [1 - sum(CANCEL_SHARES.values()), *CANCEL_SHARES.values()]
    chances = np.array([SENT_AGAIN_SHARE, ABANDONED_SHARE, TOPPED_UP_SHARE, REFUNDED_SHARE, RESTED_SHARE])
    while True:
        ending = random.choice(len(endings), size=BLOCK, p=shares).tolist()
        tips = draw_tips(random, BLOCK).tolist()
        happens = (random.random((BLOCK, len(chances))) < chances).tolist()
        for number, tip_cents, marks in zip(ending, tips, happens, strict=True):
            yield Fate(endings[number], tip_cents, *marks)
