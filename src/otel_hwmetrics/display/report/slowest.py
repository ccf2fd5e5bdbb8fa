# SPDX-License-Identifier: Apache-2.0
"""Training spans of several ranks side by side: of the first epoch of each rank the slowest, and so on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from otel_hwmetrics.display.report.phases import Phase

Who = tuple[str, int | None]
"""A host and a rank."""
_ROOT: Final = -1


@dataclass(frozen=True)
class Slowest:
    """One span of every rank: the longest of them.

    Attributes:
        phase: It, with the alerts of all of them.
        of: How many ranks had such a span.
    """

    phase: Phase
    of: int = 1


def who(phase: Phase) -> Who:
    """Whose it is."""
    return phase.span.host, phase.span.rank


def who_word(phase: Phase) -> str:
    """Likewise in words: the rank, or the host of one that has none."""
    return phase.span.host if phase.span.rank is None else f"rank {phase.span.rank}"


def slowest(found: Iterable[Phase]) -> list[Slowest]:
    """The n-th span of a name within one span, of all ranks together, in the order of the first rank that had it.

    One that nobody saw the end of counts as the slowest.

    Args:
        found: As `phases` gives them.
    """
    together: dict[tuple[int, str, int], int] = {}
    members: list[list[Phase]] = []
    within: dict[int, list[int]] = {_ROOT: []}
    counts: Counter[tuple[int, Who, str]] = Counter()
    around: list[int] = []
    for phase in found:
        del around[phase.depth :]
        parent = around[-1] if around else _ROOT
        nth = counts[parent, who(phase), phase.label]
        counts[parent, who(phase), phase.label] += 1
        place = together.setdefault((parent, phase.label, nth), len(members))
        if place == len(members):
            members.append([])
            within[place] = []
            within[parent].append(place)
        members[place].append(phase)
        around.append(place)
    return [_of(members[place]) for place in _in_order(within)]


def _in_order(within: dict[int, list[int]]) -> Iterable[int]:
    waiting = [*reversed(within[_ROOT])]
    while waiting:
        place = waiting.pop()
        yield place
        waiting += reversed(within[place])


def _of(members: Sequence[Phase]) -> Slowest:
    longest = max(members, key=lambda each: math.inf if each.seconds is None else each.seconds)
    alerts = tuple(dict.fromkeys(name for each in (longest, *members) for name in each.alerts))
    return Slowest(replace(longest, alerts=alerts), len(members))
