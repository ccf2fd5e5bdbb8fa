# SPDX-License-Identifier: Apache-2.0
"""Which of several optimizers ends the steps of a training.

Of a GAN's two, or of one for each group of parameters, it is the first that steps in a pass of the loader, so that a round
of them counts once. Another one takes over where that is gone, or rests for `RESTS` steps of the other; between two passes,
as where a second stage of training begins, at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

RESTS: Final = 100
"""Steps of another optimizer, with none of the present one's between them, after which the other one takes over."""


def _nobody() -> None:
    """No optimizer."""


class Optimizers:
    """Those of one thread. None is kept alive.

    Attributes:
        present: Gives the one whose steps count; None where that is gone.
        afresh: Whether it is whichever steps next.
    """

    def __init__(self) -> None:
        self.present: Callable[[], Any] = _nobody
        self.afresh = False
        self._other: Callable[[], Any] = _nobody
        self._others = 0
        self._counted = 0

    def ends_a_step(self, optimizer: object, counted: int) -> bool:
        """Whether a step of this optimizer is one of training.

        Args:
            optimizer: Which has stepped.
            counted: How many steps of training there were before.
        """
        present = self.present()
        if present is optimizer and not self.afresh:
            return True
        if present is not None and not self.afresh:
            if self._other() is not optimizer or counted != self._counted:
                self._other, self._others, self._counted = weakref.ref(optimizer), 0, counted
            self._others += 1
            if self._others <= RESTS:
                return False
        self.afresh = False
        self.present = weakref.ref(optimizer)
        return True
