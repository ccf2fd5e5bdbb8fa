# SPDX-License-Identifier: Apache-2.0
"""A run as a framework tells it: whatever it leaves out, spans and phases stay in order."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_hwmetrics import _guard
from otel_hwmetrics.integrations.run import EPOCH, FRAMEWORK, Run, told_by_a_framework
from otel_hwmetrics.sinks.tracker import TRACKER
from otel_hwmetrics.stepclock import CLOCK


@pytest.fixture
def ended() -> Iterator[InMemorySpanExporter]:
    """Spans that have ended."""
    CLOCK.reset()
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    TRACKER.provider, TRACKER.on = provider, True
    yield exporter
    TRACKER.reset()
    CLOCK.reset()


def of(exporter: InMemorySpanExporter) -> list[tuple[str, str]]:
    """Names of what has ended, each with its parent's, in the order of the ends."""
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    return [(span.name, names.get(span.parent.span_id, "?") if span.parent else "") for span in spans]


def test_spans_are_within_each_other(ended: InMemorySpanExporter) -> None:
    """With who tells them, and what else is said of them."""
    run = Run("somebody")
    assert not run
    run.begin("fit")
    run.begin("epoch", {EPOCH: 3})
    assert run
    assert run.is_in("fit")
    assert not run.is_in("validation")
    run.end("epoch")
    run.end("fit")
    assert not run
    assert of(ended) == [("epoch", "fit"), ("fit", "")]
    assert dict(ended.get_finished_spans()[0].attributes or {}) == {FRAMEWORK: "somebody", EPOCH: 3}


@pytest.mark.parametrize(
    ("told", "left"),
    [
        (["+fit", "+epoch", "-fit"], [("epoch", "fit"), ("fit", "")]),  # what is within ends with it
        (["-epoch", "+fit", "-validation", "-fit", "-fit"], [("fit", "")]),  # what is not open is not closed
        (["+epoch", "+epoch", "-epoch", "-epoch"], [("epoch", "epoch"), ("epoch", "")]),  # the innermost first
        (["+fit", "+validation", "!"], [("validation", "fit"), ("fit", "")]),  # all of it
    ],
)
def test_what_a_framework_leaves_out_confuses_nobody(
    ended: InMemorySpanExporter, told: list[str], left: list[tuple[str, str]]
) -> None:
    """Ends that are missing, and ends of nothing."""
    run = Run("somebody")
    for each in told:
        if each == "!":
            run.finish()
        else:
            (run.begin if each[0] == "+" else run.end)(each[1:])
    assert not run
    assert of(ended) == left
    assert not told_by_a_framework()
    assert CLOCK.look().phases == ()


@pytest.mark.parametrize(
    ("error", "status", "events"),
    [
        (None, "UNSET", []),
        (ValueError("no number"), "ERROR", ["exception"]),
        (KeyboardInterrupt(), "ERROR", []),
        (SystemExit(3), "ERROR", []),
        (SystemExit(), "UNSET", []),
        (SystemExit(0), "UNSET", []),
    ],
)
def test_what_ended_it_is_on_all_that_was_open(
    ended: InMemorySpanExporter, error: BaseException | None, status: str, events: list[str]
) -> None:
    """An exit with success is no error."""
    run = Run("somebody")
    run.begin("fit")
    run.begin("epoch")
    run.finish(error)
    for span in ended.get_finished_spans():
        assert span.status.status_code.name == status
        assert [event.name for event in span.events] == events


def test_spans_of_the_job_s_own_may_cross_them(ended: InMemorySpanExporter) -> None:
    """Ours are never current: a job's span that is opened within one of them and outlasts it leaves nothing behind."""
    run, own = Run("somebody"), TracerProvider(shutdown_on_exit=False).get_tracer("own")
    with own.start_as_current_span("job") as job:
        run.begin("fit")
        assert trace.get_current_span() is job
        crossing = own.start_as_current_span("crossing")
        crossing.__enter__()
        run.begin("epoch")
        run.finish()
        crossing.__exit__(None, None, None)
        assert trace.get_current_span() is job
    assert trace.get_current_span() is trace.INVALID_SPAN
    epoch, fit = ended.get_finished_spans()
    assert fit.parent == job.get_span_context()
    assert epoch.parent == fit.context


def test_a_run_within_another_is_within_its_innermost_span(ended: InMemorySpanExporter) -> None:
    """Though that is not current."""
    outer, inner = Run("somebody"), Run("another")
    outer.begin("fit")
    outer.begin("epoch")
    inner.begin("test")
    inner.finish()
    outer.finish()
    assert of(ended) == [("test", "epoch"), ("epoch", "fit"), ("fit", "")]


def test_each_span_is_watched_and_summed_up_while_it_is_open(ended: InMemorySpanExporter) -> None:
    """So alerts and sums find it."""
    summed: list[tuple[Any, bool]] = []
    TRACKER.part = lambda span: summed.append((span.get_span_context().span_id, span.is_recording()))
    run = Run("somebody")
    run.begin("fit")
    run.begin("of no known name")
    assert getattr(TRACKER.watched_target(), "name", "") == "of no known name"
    run.finish(ValueError("no number"))
    assert summed == [(span.context.span_id, True) for span in ended.get_finished_spans()]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])  # noqa: S301
def test_a_copy_has_nothing_open(ended: InMemorySpanExporter, copied: Any) -> None:
    """It is made in the middle of a training, and may go to another process."""
    run = Run("somebody")
    run.begin("fit")
    other = copied(run)
    assert not other
    other.begin("test")
    other.finish()
    assert run
    run.finish()
    assert of(ended) == [("test", "fit"), ("fit", "")]


def test_one_that_nobody_has_ended_is_forgotten_with_its_teller(ended: InMemorySpanExporter) -> None:
    """Else what trains on that thread would be told by nobody for good."""
    run = Run("somebody")
    run.begin("fit")
    assert told_by_a_framework()
    del run
    gc.collect()
    assert not told_by_a_framework()


def test_it_may_end_on_another_thread(ended: InMemorySpanExporter) -> None:
    """Then it is told no more where it began."""
    run = Run("somebody")
    run.begin("fit")
    thread = threading.Thread(target=run.finish)
    thread.start()
    thread.join()
    assert not told_by_a_framework()
    assert of(ended) == [("fit", "")]


@pytest.mark.parametrize(
    ("name", "phases"),
    [
        *(("validation", ("evaluation",)), ("test", ("evaluation",)), ("evaluation", ("evaluation",))),
        *(("checkpoint", ("checkpoint",)), ("epoch", ()), ("fit", ())),
    ],
)
def test_steps_stand_still_where_none_is_expected(
    ended: InMemorySpanExporter, name: str, phases: tuple[str, ...]
) -> None:
    """By the name of the span."""
    run = Run("somebody")
    run.begin(name)
    assert CLOCK.look().phases == ((phases,) if phases else ())
    run.step()
    assert CLOCK.look().steps == (0 if phases else 1)
    run.end(name)
    assert CLOCK.look().phases == ()


def test_it_is_told_on_its_own_thread_alone(ended: InMemorySpanExporter) -> None:
    """Others may train there meanwhile; two runs may be within each other."""
    elsewhere: list[bool] = []
    outer, inner = Run("somebody"), Run("another")
    outer.begin("fit")
    inner.begin("fit")
    thread = threading.Thread(target=lambda: elsewhere.append(told_by_a_framework()))
    thread.start()
    thread.join()
    assert elsewhere == [False]
    inner.finish()
    assert told_by_a_framework()
    outer.finish()
    assert not told_by_a_framework()


def test_a_job_that_says_its_steps_itself_is_believed(ended: InMemorySpanExporter) -> None:
    """None counts twice."""
    run = Run("somebody")
    run.begin("fit")
    for _ in range(4):
        CLOCK.step()
        run.step()
    assert CLOCK.look().steps == 4
    run.finish()


def test_faults_of_ours_are_passed_over(ended: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The framework hears nothing of them, and what could not be opened is not open."""
    monkeypatch.setattr(_guard, "LOUD", False)
    run = Run("somebody")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(TRACKER, "provider", fail)  # it has no tracers
        run.begin("fit")
    assert not run
    assert not told_by_a_framework()
    run.end("fit")
    run.finish()
    assert of(ended) == []
    _guard.faults.clear()


def test_a_recording_is_told_of_ends_whoever_made_the_spans(ended: InMemorySpanExporter) -> None:
    """The provider here has not met us, so nobody else tells."""
    journal = TRACKER.journal = mock.Mock()
    run = Run("somebody")
    run.begin("fit")
    run.begin("epoch")
    run.finish()
    assert [call.args[0].name for call in journal.began.call_args_list] == ["fit", "epoch"]
    assert [call.args[0].name for call in journal.ended.call_args_list] == ["epoch", "fit"]
    assert all(call.args[0].end_time for call in journal.ended.call_args_list)
