# SPDX-License-Identifier: Apache-2.0
"""Memory and disks as they go on, and what conditions find of them at each look."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from looks import Told, snapshot, watch
from otel_hwmetrics.alerts.conditions import Condition, Finding
from otel_hwmetrics.catalog import system

GB = 1e9

Course = Callable[[float], float]
"""A value by the time in seconds."""


def noisy(course: Course, scatter: float, seed: int = 1) -> Course:
    """The same with scatter around it."""
    normal = random.Random(seed)  # noqa: S311 - noise
    return lambda at: course(at) + normal.gauss(0.0, scatter)


def found(
    condition: Condition, tells: Callable[[float], Iterable[Told]], until: float, every: float = 1.0
) -> list[tuple[float, Finding | None]]:
    """What is found of the one subject at each look; None where nothing."""
    watcher = watch(condition)
    looks = []
    for number in range(int(until / every) + 1):
        at = number * every
        findings = list(watcher.look(snapshot(at, tells(at), window=every)).values())
        assert len(findings) <= 1
        looks.append((at, findings[0] if findings else None))
    return looks


def of_memory(course: Course) -> Callable[[float], list[Told]]:
    """What is told of memory that is available."""
    return lambda at: [(system.MEMORY_AVAILABLE, {}, course(at))]


def values(looks: Iterable[tuple[float, Finding | None]]) -> list[tuple[float, float]]:
    """The moments at which there is a value, with it."""
    return [(at, each.value) for at, each in looks if each is not None and each.value is not None]
