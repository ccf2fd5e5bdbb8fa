# SPDX-License-Identifier: Apache-2.0
"""What every sink is given, and the words in which an alert is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from opentelemetry.trace import Span, format_span_id, format_trace_id

from otel_hwmetrics import redaction
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.catalog import own
from otel_hwmetrics.model import Attribute
from otel_hwmetrics.sinks.local_spans import LocalSpan


@dataclass(frozen=True)
class Alert:
    """An alert that began to fire, was resolved, or fires on though nothing can be read any more.

    Immutable, and safe to keep: it holds neither the driver nor the training. What `otel_hwmetrics.on_alert` calls back
    with, and what every sink is given.

    Attributes:
        transition: The step, with its rule.
        span: The training span that was open; None when there was none.
        attributes: Those of the event ``hwmetrics.alert``, the same on the span and in the log; but for a
            ``code.stacktrace``, which is whole only there.
        stacks: Where the threads of this process stood, where training stalls or a GPU idles: of each thread the open calls,
            8 KiB at most in all, the training's thread first, without variables and source. Empty for all other alerts.
        at: Of the first of these threads the innermost call that is of no library, in short:
            ``/home/me/train.py, line 12 in collate``. Empty without stacks.
    """

    transition: Transition
    span: Span | None = field(default=None, repr=False)
    attributes: Mapping[str, Attribute] = field(default_factory=dict, repr=False)
    stacks: str = field(default="", repr=False)
    at: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The rule's: ``gpu_hot``."""
        return self.transition.rule.name

    @property
    def severity(self) -> Severity:
        """``info``, ``warning`` or ``critical``; a text, too."""
        return self.transition.rule.severity

    @property
    def state(self) -> State:
        """``firing`` or ``resolved``; a text, too."""
        return self.transition.state

    @property
    def blind(self) -> bool:
        """Whether it fires on, though nothing can be read any more."""
        return self.transition.blind

    @property
    def device(self) -> str:
        """What it is about, as people call it: ``GPU 1``, ``/data``; empty for the host."""
        return self.transition.subject.name

    @property
    def value(self) -> float | None:
        """What was read, in `unit`; None where nothing was."""
        return self.transition.value

    @property
    def peak(self) -> float | None:
        """The worst value so far, in `unit`."""
        return self.transition.peak

    @property
    def threshold(self) -> float:
        """Beyond this it fires, in `unit`."""
        return self.transition.rule.threshold

    @property
    def unit(self) -> str:
        """UCUM's code: ``Cel``, ``By``, ``s``; ``1`` is a ratio."""
        return self.transition.rule.condition.unit.value

    @property
    def duration(self) -> float:
        """Seconds: firing, that the condition has held; resolved, that it fired."""
        return self.transition.duration

    @property
    def time_unix_nano(self) -> int:
        """When, in nanoseconds since the epoch."""
        return self.transition.time_unix_nano

    @property
    def message(self) -> str:
        """For people: what is the case, and what to do about it."""
        return self.transition.message

    @property
    def trace_id(self) -> str:
        """Of the training span, as 32 hexadecimal digits; empty when there was none, or no backend will know it."""
        return format_trace_id(self.known_span.get_span_context().trace_id) if self.known_span is not None else ""

    @property
    def span_id(self) -> str:
        """Of the training span, as 16 hexadecimal digits; empty when there was none, or no backend will know it."""
        return format_span_id(self.known_span.get_span_context().span_id) if self.known_span is not None else ""

    @property
    def known_span(self) -> Span | None:
        """The training span, if it is more than one of the recording alone, of whose ids others can make nothing."""
        return None if isinstance(self.span, LocalSpan) else self.span


class OfWorkers(Alert):
    """An alert that was told of already, with where the workers of the job stood as `stacks`. For the log alone."""


dropped: Counter[tuple[str, str]] = Counter()
"""How many alerts a sink was not told since the process began, by its name and why; exported as ``hwmetrics.alert.dropped``."""


class Sink(Protocol):
    """Something that is told of alerts."""

    def on_alert(self, alert: Alert) -> None:
        """Take one. Called on the sampler's thread; may raise, must not wait long."""
        ...


def event_attributes(transition: Transition) -> Mapping[str, Attribute]:
    """The attributes of the event ``hwmetrics.alert``, the same on a span and in a log: the alert's, the device's."""
    rule = transition.rule
    attributes: dict[str, Attribute | None] = {
        own.ALERT_RULE: rule.name,
        own.ALERT_STATE: transition.state.value,
        own.ALERT_SEVERITY: rule.severity.value,
        own.ALERT_VALUE: transition.value,
        own.ALERT_THRESHOLD: rule.threshold,
        own.ALERT_UNIT: rule.condition.unit.value,
        own.ALERT_MESSAGE: transition.message,
        own.ALERT_DURATION: round(transition.duration, 3),
        own.ALERT_PEAK: transition.peak if transition.state is State.RESOLVED or transition.blind else None,
        own.ALERT_BLIND: transition.blind or None,
        own.ALERT_SUPERSEDED_BY: transition.superseded_by or None,
        **transition.subject.attributes,
    }
    if transition.finding is not None:
        evidence = transition.finding.evidence.items()
        attributes |= {
            f"{own.ALERT_EVIDENCE}.{word}": redaction.text(value) if isinstance(value, str) else value
            for word, value in evidence
        }
    return MappingProxyType({key: value for key, value in attributes.items() if value is not None})
