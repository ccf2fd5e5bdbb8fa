# SPDX-License-Identifier: Apache-2.0
"""Ids of our spans that are nobody else's, whatever the job does with Python's random numbers.

The SDK takes ids from the `random` module (opentelemetry/sdk/trace/id_generator.py), and trainings seed that: with one seed
every run, and every rank of a run, has the same trace and the same spans. Where a framework puts its state back, as Lightning
does after the validation before training, two spans of one run have one id.
"""

from __future__ import annotations

import os
from typing import Final

from opentelemetry.trace import Tracer

_SDKS_OWN: Final = "RandomIdGenerator"


class OfChance:
    """Makes ids from the operating system's random numbers. An SDK's generator by its methods, since we need only the API."""

    def generate_span_id(self) -> int:
        """8 bytes, and not all zero."""
        return int.from_bytes(os.urandom(8), "big") or 1

    def generate_trace_id(self) -> int:
        """16 bytes, and not all zero."""
        return int.from_bytes(os.urandom(16), "big") or 1

    def is_trace_id_random(self) -> bool:
        """Whether samplers may go by them."""
        return True


_OF_CHANCE: Final = OfChance()


def by_chance(tracer: Tracer) -> Tracer:
    """The same tracer, which is ours alone, with such ids; one that an application has chosen ids for keeps these."""
    if type(getattr(tracer, "id_generator", None)).__name__ == _SDKS_OWN:
        tracer.id_generator = _OF_CHANCE  # type: ignore[attr-defined] # the SDK's has it
    return tracer
