# SPDX-License-Identifier: Apache-2.0
"""Training spans that are kept in the recording alone: spans by OpenTelemetry's API, and nobody's current one."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanContext, Status, StatusCode, TraceFlags

from otel_hwmetrics.sinks.local_spans import MOST_ATTRIBUTES, LocalSpan, innermost, local

ended: list[LocalSpan] = []


@pytest.fixture(autouse=True)
def none_ended() -> None:
    """Those of other tests are forgotten."""
    ended.clear()


def opened(name: str = "epoch", within: Span = INVALID_SPAN) -> LocalSpan:
    """One that opens in the place of a span that nobody keeps."""
    return local(within, name, {"epoch": 1}, None, ended.append)


def test_it_is_a_span_by_the_api() -> None:
    """What is set is kept until its end, and nothing afterwards; it ends once."""
    span = opened()
    assert isinstance(span, Span)
    assert span.is_recording()
    span.set_attributes({"loss": 0.5, "epoch": 2})
    span.update_name("epoch 2")
    span.set_status(StatusCode.OK)
    span.add_event("told elsewhere")
    span.add_link(span.get_span_context())
    span.record_exception(ValueError("in the status"))
    span.end(span.start_time + 5)
    span.end()
    span.set_attribute("late", 1)
    span.update_name("late")
    span.set_status(Status(StatusCode.ERROR))
    assert ended == [span]
    assert (span.name, span.attributes) == ("epoch 2", {"epoch": 2, "loss": 0.5})
    assert span.status.status_code is StatusCode.OK
    assert (span.end_time, span.is_recording()) == (span.start_time + 5, False)


def test_it_is_not_sampled_and_has_ids_of_its_own() -> None:
    """A log record may have them; whoever goes by the flag exports nothing of it."""
    contexts = [opened().get_span_context() for _ in range(100)]
    assert all(context.is_valid and not context.trace_flags.sampled for context in contexts)
    assert len({context.span_id for context in contexts}) == len({context.trace_id for context in contexts}) == 100


def test_a_span_has_as_many_attributes_as_the_sdk_keeps() -> None:
    """One that a loop sets for each of its steps does not fill the memory."""
    span = opened()
    for number in range(1000):
        span.set_attribute(f"key {number}", number)
    span.set_attribute("epoch", 7)
    assert len(span.attributes) == MOST_ATTRIBUTES
    assert span.attributes["epoch"] == 7


def test_it_is_within_what_is_open_here_and_else_of_the_trace_that_it_is_told() -> None:
    """Whatever ends in what order; a parent that is nowhere in the recording is not named."""
    with innermost(opened("outer")) as outer, innermost(opened("inner")) as inner:
        assert isinstance(inner, LocalSpan)
        assert inner.parent == outer.get_span_context()
        outer.end()
        assert opened("after").parent == inner.get_span_context()
    assert [span.name for span in ended] == ["outer", "inner"]
    assert opened().parent is None
    remote = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags())
    span = opened(within=NonRecordingSpan(remote))
    assert (span.get_span_context().trace_id, span.parent) == (5, None)
    below = local(INVALID_SPAN, "below", None, trace.set_span_in_context(span), ended.append)
    assert below.parent == span.get_span_context()


def test_an_exception_is_its_status_and_passes() -> None:
    """As the SDK's: of Ctrl-C nothing is told."""
    with pytest.raises(ValueError, match="too high"), innermost(opened()):
        raise ValueError("too high")
    with pytest.raises(KeyboardInterrupt), innermost(opened()):
        raise KeyboardInterrupt
    assert [span.status.status_code for span in ended] == [StatusCode.ERROR, StatusCode.UNSET]
    assert ended[0].status.description == "ValueError: too high"


def test_a_span_of_others_is_left_alone() -> None:
    """It is neither ended nor the innermost here."""
    theirs = NonRecordingSpan(SpanContext(5, 6, is_remote=False))
    with innermost(theirs) as span:
        assert span is theirs
        assert opened().parent is None
