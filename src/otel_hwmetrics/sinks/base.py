# SPDX-License-Identifier: Apache-2.0
"""What every sink is given, and the words in which an alert is told."""

from __future__ import annotations

from typing import Protocol

from opentelemetry.trace import Span

from otel_hwmetrics.alerts.engine import Transition
from otel_hwmetrics.catalog import own
from otel_hwmetrics.model import Attribute


class Sink(Protocol):
    """Something that is told of alerts."""

    def on_transition(self, transition: Transition, span: Span | None) -> None:
        """Take one transition that people are told of. Called on the sampler's thread; may raise, must not wait long.

        Args:
            transition: Into firing or resolved.
            span: The training span that was open; None when there was none.
        """
        ...


def event_attributes(transition: Transition) -> dict[str, Attribute]:
    """The attributes of the event ``hwmetrics.alert``, the same on a span and in a log: the alert's, the device's."""
    rule = transition.rule
    attributes: dict[str, Attribute] = {
        own.ALERT_RULE: rule.name,
        own.ALERT_STATE: transition.state.value,
        own.ALERT_SEVERITY: rule.severity.value,
        own.ALERT_THRESHOLD: rule.threshold,
        own.ALERT_UNIT: rule.condition.unit.value,
        own.ALERT_MESSAGE: transition.message,
        own.ALERT_DURATION: round(transition.duration, 3),
        **transition.subject.attributes,
    }
    if transition.value is not None:
        attributes[own.ALERT_VALUE] = transition.value
    return attributes
