# SPDX-License-Identifier: Apache-2.0
"""What those who have ended had used, and what of it nobody got."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Final

from otel_hwmetrics.sources.tree.member import NOTHING, Figures, Member

NO_IO: Final[Figures] = (0, 0, 0, 0, 0, 0)

Estate = tuple[Figures, Figures]
"""What somebody who has ended had used: CPU time and faults, and io."""


def unclaimed(heir: Member, estates: list[Estate]) -> Estate:
    """What somebody's children left of which it did not get the like since the last look; nothing, if it waited for all."""
    if not estates:
        return NOTHING, NO_IO
    got = difference(heir.waited, heir.waited_before)
    used = added(used for used, _ in estates)
    io = added(io for _, io in estates)
    # Its own traffic is in the same figures as that of those it waited for; but whoever lived had page faults, so
    # without new ones of theirs it waited for nobody.
    if heir.io is None or not heir.tells_io:
        io = NO_IO  # rather too little than twice
    elif any(got):
        io = difference(io, difference(heir.io, heir.io_before or NO_IO))
    return most(difference(used, got), NOTHING), most(io, NO_IO)


def added(parts: Iterable[Figures]) -> Figures:
    """Figure by figure."""
    return tuple(map(sum, zip(*parts, strict=True)))


def difference(whole: Figures, part: Figures) -> Figures:
    """Figure by figure; below 0 where the part is more."""
    return tuple(map(operator.sub, whole, part))


def most(one: Figures, other: Figures) -> Figures:
    """Figure by figure, whichever is more."""
    return tuple(map(max, one, other))
