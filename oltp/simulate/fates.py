"""The course of each request, drawn in advance: the same seed gives the same courses.

The shares are guesses, because they are not published. They are high enough that a run of a thousand requests
contains each case. Declined payments have no share: the payment of a rider without money is declined.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from oltp.city import draw_tips
from ridelake.ride import CancelReason

# Shares of the rides that are cancelled.
CANCEL_SHARES = {CancelReason.RIDER: 0.035, CancelReason.DRIVER: 0.010, CancelReason.NO_SHOW: 0.005}

# Shares of the requests.
SENT_AGAIN_SHARE = 0.010  # sent again although the answer had arrived; must get the same answer
ABANDONED_SHARE = 0.005  # the client disconnects after sending, and sends the request again later
# Share of the declined riders: they top up their account, by about twenty fares. So in a run of hours the
# number of riders without money stays about the same.
TOPPED_UP_SHARE = 0.800
TOP_UP_CENTS = 50_000
# Shares of the completed rides.
REFUNDED_SHARE = 0.005
RESTED_SHARE = 0.010  # the driver goes offline, and online again one request later, where the ride ended

BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class Fate:
    """The course of one request. `cancelled`: by whom, or None. The other attributes: see the shares
    above."""

    cancelled: CancelReason | None
    tip_cents: int
    sent_again: bool
    abandoned: bool
    topped_up: bool
    refunded: bool
    rested: bool


def draw_fates(random: np.random.Generator) -> Iterator[Fate]:
    """An infinite sequence of courses."""
    endings: list[CancelReason | None] = [None, *CANCEL_SHARES]
    shares = [1 - sum(CANCEL_SHARES.values()), *CANCEL_SHARES.values()]
    chances = np.array([SENT_AGAIN_SHARE, ABANDONED_SHARE, TOPPED_UP_SHARE, REFUNDED_SHARE, RESTED_SHARE])
    while True:
        ending = random.choice(len(endings), size=BLOCK, p=shares).tolist()
        tips = draw_tips(random, BLOCK).tolist()
        happens = (random.random((BLOCK, len(chances))) < chances).tolist()
        for number, tip_cents, marks in zip(ending, tips, happens, strict=True):
            yield Fate(endings[number], tip_cents, *marks)
