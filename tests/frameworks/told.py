# SPDX-License-Identifier: Apache-2.0
"""What a framework's integration told of a training: spans as paths, and what the step clock counted meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otel_hwmetrics.config import resolve
from otel_hwmetrics.integrations import following
from otel_hwmetrics.integrations.run import EPOCH, STEP
from otel_hwmetrics.stepclock import CLOCK, Look
from otel_hwmetrics.testing import FakeGpu
from worlds import World


class Told:
    """What there is to know of the trainings of one test.

    Attributes:
        world: In which time is the test's, with one GPU that gets hot at its tenth second.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.before = CLOCK.look()

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Those that have ended, in the order in which they began."""
        return sorted(self.world.spans.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def paths(self) -> list[str]:
        """Their names with those of all that they are in, as ``fit/epoch 0/evaluation``."""
        return [self._path(span) for span in self.spans]

    @property
    def failed(self) -> dict[str, str]:
        """Those whose status is an error, with its description."""
        return {
            self._path(span): span.status.description or ""
            for span in self.spans
            if span.status.status_code is StatusCode.ERROR
        }

    @property
    def seconds(self) -> dict[str, float]:
        """How long each lasted, of those with the same path the last."""
        return {self._path(span): ((span.end_time or 0) - (span.start_time or 0)) / 1e9 for span in self.spans}

    @property
    def alerts(self) -> list[tuple[str, str]]:
        """The path of each span with an alert, and the alert's rule."""
        return [
            (self._path(span), str((event.attributes or {})["hwmetrics.alert.rule"]))
            for span in self.spans
            for event in span.events
            if event.name == "hwmetrics.alert"
        ]

    def counted(self, of: Callable[[Look], float | None]) -> float:
        """By how much something of the step clock's has grown."""
        return (of(CLOCK.look()) or 0) - (of(self.before) or 0)

    def _path(self, span: ReadableSpan) -> str:
        attributes = span.attributes or {}
        number = next((f" {attributes[key]!s}" for key in (EPOCH, STEP) if key in attributes), "")
        parent = span.parent.span_id if span.parent is not None else 0
        above = [self._path(each) for each in self.spans if each.context and each.context.span_id == parent]
        return "/".join([*above, f"{span.name}{number}"])


@contextmanager
def told_by(framework: ModuleType, **options: Any) -> Iterator[Told]:
    """Follow a framework, and nothing else, with everything kept that is told.

    Args:
        framework: The module here that knows it.
        options: Others, or another value of ``integrations``.
    """
    hot = FakeGpu(utilization=0.9, temperature=[(0.0, 60.0), (9.9, 60.0), (10.0, 90.0)])
    world = World([hot], alert_gpu_hot_for=0)
    try:
        following.follow(resolve({"integrations": framework.__name__.rpartition(".")[2], **options}, {}).config)
        yield Told(world)
    finally:
        following.leave()
        framework.leave()  # of a callback that was made by hand
        world.close()
