# SPDX-License-Identifier: Apache-2.0
"""The spans of a training that nobody tells: a root, an epoch for each pass of its loader, evaluations, some steps.

None of them is ever OpenTelemetry's current span: the job's own contexts stay what they are. Alerts and sums find them
all the same, since they are watched. They are opened when it is known what they are, with the time at which that began.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

import otel_hwmetrics as hw
from otel_hwmetrics._guard import guard
from otel_hwmetrics.catalog import SCHEMA_URL
from otel_hwmetrics.integrations.run import FRAMEWORK
from otel_hwmetrics.sinks.ids import by_chance
from otel_hwmetrics.sinks.matching import Matcher, phase_of
from otel_hwmetrics.sinks.tracker import TRACKER
from otel_hwmetrics.stepclock import EVALUATION

ROOT: Final = "training"
EPOCH: Final = "epoch"
EVALUATING: Final = "evaluation"
STEP: Final = "step"
"""Names of spans."""

_MOST_OF_THE_JOB = 32  # as many open spans are looked through for one of the job's own; nobody nests as deep
_TELLS_EPOCHS = Matcher((EPOCH,))

_ours: set[int] = set()  # ids of the spans that are open


def start(
    name: str, parent: Context | None, began: int, attributes: Mapping[str, AttributeValue] | None = None
) -> Span:
    """Open a span, and have it watched.

    Args:
        name: Of the span.
        parent: Whose child it is; None for the current span's.
        began: Since when, in nanoseconds of the epoch.
        attributes: More than who tells it.
    """
    tracer = by_chance(trace.get_tracer("otel_hwmetrics", hw.__version__, TRACKER.provider, SCHEMA_URL))
    told = {FRAMEWORK: "torch", **(attributes or {})}
    span = tracer.start_span(name, context=parent, attributes=told, start_time=began)
    _ours.add(span.get_span_context().span_id)
    return hw.watch(span)


def end(
    span: Span,
    *,
    at: int | None = None,
    error: BaseException | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> None:
    """Sum a span up, and end it. Faults are passed over; the span ends in any case.

    Args:
        span: Which.
        at: When it was over, in nanoseconds of the epoch; now by default.
        error: What ended it, if that was an exception.
        attributes: What was known only now.
    """
    _ours.discard(span.get_span_context().span_id)
    with guard("ending a span of torch"):
        part = TRACKER.part
        if part is not None and at is None:
            part(span)
        if attributes:
            span.set_attributes(attributes)
        if error is not None:
            if isinstance(error, Exception):
                span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    with guard("ending a span of torch"):
        span.end(at)


def forget() -> None:
    """Know of no span: in a forked child they are its parent's."""
    _ours.clear()


def of_the_job() -> Span | None:
    """The innermost open training span that is none of ours."""
    for span in TRACKER.watched(_MOST_OF_THE_JOB):
        if span.get_span_context().span_id not in _ours:
            return span
    return None


def tells_epochs(span: Span) -> bool:
    """Whether a span of the job's own is an epoch's by its name, so that ours would be it again."""
    return _TELLS_EPOCHS(getattr(span, "name", ""), None)


def tells_an_evaluation(span: Span) -> bool:
    """Whether a span of the job's own is an evaluation's by its name."""
    return phase_of(getattr(span, "name", "")) == EVALUATION
