# SPDX-License-Identifier: Apache-2.0
"""What phases of training are called, and which of them no step is expected in."""

from __future__ import annotations

import difflib
from typing import Final

CHECKPOINT: Final = "checkpoint"
EVALUATION: Final = "evaluation"
TRAIN: Final = "train"
OTHER: Final = "other"
"""What a phase with a name of its own is told as when there are too many such."""

SUSPENDING: Final = frozenset({CHECKPOINT, EVALUATION})
"""Phases within which time stands still for the steps of their thread."""
MOST_PHASES: Final = 16
"""How many names are told apart, `OTHER` not counted: each becomes a value of an attribute."""

_CALLED: Final = {
    CHECKPOINT: ("checkpointing", "ckpt"),
    EVALUATION: ("eval", "evaluate", "validation", "validate", "val", "test", "testing"),
    TRAIN: ("training",),
}
_MEANT: Final = {called: name for name, others in _CALLED.items() for called in (name, *others)}
_MOST_OF_THEIR_OWN: Final = MOST_PHASES - len(_CALLED)


def meant(called: str) -> str:
    """The word for a phase that a user calls so: one for what means the same, its own for another."""
    called = called.strip()
    return _MEANT.get(called.casefold(), called)


def near(called: str) -> str:
    """The known phase that this is probably a slip of; empty for none, and for what is known."""
    called = called.strip().casefold()
    slips = [] if called in _MEANT else difflib.get_close_matches(called, _MEANT, n=1, cutoff=0.8)
    return _MEANT[slips[0]] if slips else ""


class Names:
    """The names of the phases that were met: one word for what means the same, and not too many. From any thread."""

    def __init__(self) -> None:
        self._met: dict[str, None] = {}
        self._of_their_own = 0

    @property
    def met(self) -> tuple[str, ...]:
        """All of them, in the order in which they came."""
        return tuple(self._met)

    def meet(self, called: str) -> str:
        """The name of a phase that a user calls so."""
        name = meant(called)
        if name in self._met:
            return name
        if name not in _CALLED:
            if not name or self._of_their_own >= _MOST_OF_THEIR_OWN:
                name = OTHER
            else:
                self._of_their_own += 1
        self._met[name] = None
        return name
