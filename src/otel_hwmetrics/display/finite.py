# SPDX-License-Identifier: Apache-2.0
"""JSON knows no NaN and no infinity: what is to be read by every program has words for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def finite(told: Any) -> Any:
    """What is to become JSON, with ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` in the place of numbers that it cannot have.

    These are the words that OTLP has for them (https://protobuf.dev/programming-guides/json/); a loss that is NaN is no loss that is
    not known.

    Args:
        told: Mappings, lists, tuples and what is in them.
    """
    if isinstance(told, float):
        return told if math.isfinite(told) else "NaN" if math.isnan(told) else "Infinity" if told > 0 else "-Infinity"
    if isinstance(told, Mapping):
        return {key: finite(value) for key, value in told.items()}
    if isinstance(told, (list, tuple)):
        return [finite(value) for value in told]
    return told
