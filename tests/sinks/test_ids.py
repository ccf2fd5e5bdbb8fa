# SPDX-License-Identifier: Apache-2.0
"""Ids of our spans: by chance, though trainings seed Python's random numbers."""

from __future__ import annotations

import random

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

import otel_hwmetrics as hw


class Counting(IdGenerator):
    """An application's own choice."""

    def generate_span_id(self) -> int:
        """Always the same."""
        return 7

    def generate_trace_id(self) -> int:
        """Always the same."""
        return 8


def ids(generator: IdGenerator | None = None) -> tuple[set[tuple[int, int]], float]:
    """Trace and span of each of three that are opened with one seed; and what a seeded job draws after them."""
    exporter, drawn = InMemorySpanExporter(), 0.0
    provider = TracerProvider(id_generator=generator)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for _ in range(3):
        random.seed(42)
        with hw.training_span("fit", tracer_provider=provider):
            drawn = random.random()  # noqa: S311 - what a job does
    contexts = [span.context for span in exporter.get_finished_spans() if span.context is not None]
    return {(each.trace_id, each.span_id) for each in contexts}, drawn


def test_a_seed_repeats_no_ids_and_gives_what_it_would_without_spans() -> None:
    """Runs and ranks with one seed have traces of their own; and the job draws what it always did."""
    found, drawn = ids()
    assert len(found) == len({trace for trace, _ in found}) == len({span for _, span in found}) == 3
    assert (0, 0) not in found
    random.seed(42)
    assert drawn == random.random()  # noqa: S311


def test_ids_that_an_application_chose_are_left() -> None:
    """As X-Ray's, which have a time in them."""
    assert ids(Counting())[0] == {(8, 7)}


def test_without_an_sdk_there_is_nothing_to_choose() -> None:
    """A span that records nothing opens all the same."""
    with hw.training_span("fit") as span:
        assert not span.get_span_context().is_valid
