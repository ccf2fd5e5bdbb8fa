# SPDX-License-Identifier: Apache-2.0
"""The main job with PyTorch, end to end: an unchanged script under `opentelemetry-instrument`, and what arrives of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from e2e.launch import instrumented, scenario
from otlp_receiver import ReceivedMetric, ReceivedSpan, Receiver

JOB = str(Path(__file__).parent / "plain_job.py")
# Hot for 0.7 seconds in every 1.5, from beginning to end: when the training begins depends on the machine.
HOT = ", ".join(
    f"[{at:.1f}, 55.0], [{at + 0.79:.2f}, 55.0], [{at + 0.8:.1f}, 84.0], [{at + 1.49:.2f}, 84.0]"
    for at in (1.5 * number for number in range(60))
)
GPU = f"[[gpu]]\nutilization = 0.9\ntemperature = [{HOT}]\n"


class Arrived(NamedTuple):
    """What one run left: spans in the order of their beginning, metrics, and what the job measured."""

    spans: list[ReceivedSpan]
    metrics: dict[str, ReceivedMetric]
    job: dict[str, Any]

    def named(self, name: str) -> list[ReceivedSpan]:
        """Spans of a name."""
        return [span for span in self.spans if span.name == name]


@pytest.fixture(scope="module")
def arrived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrived]:
    """One run of the job."""
    with Receiver() as receiver:
        printed = instrumented(
            JOB,
            endpoint=receiver.http_endpoint,
            protocol="http/protobuf",
            OTEL_PYTHON_HWMETRICS_FAKE_NVML=scenario(tmp_path_factory.mktemp("scenario"), GPU),
            OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL="0.2",
            OTEL_PYTHON_HWMETRICS_ALERT_GPU_HOT_FOR="0",
            OTEL_PYTHON_HWMETRICS_FLIGHT_RECORDER="0",
        )
        spans = sorted(receiver.spans(), key=lambda span: (span.start, -span.end))
        (job,) = (json.loads(line) for line in printed.splitlines() if line.startswith("{"))
        yield Arrived(spans, receiver.metrics(), job)


def test_there_is_a_training_with_its_epochs_and_evaluations(arrived: Arrived) -> None:
    """Three of each below one root; nothing else."""
    (root,) = arrived.named("training")
    assert [span.name for span in arrived.spans] == ["training", *("epoch", "evaluation") * 3]
    assert root.parent_id == ""
    assert {span.parent_id for span in arrived.spans} == {"", root.span_id}
    assert {span.attributes["hwmetrics.training.framework"] for span in arrived.spans} == {"torch"}
    assert [span.attributes["hwmetrics.training.epoch"] for span in arrived.named("epoch")] == [0, 1, 2]
    assert [span.attributes["hwmetrics.training.steps"] for span in arrived.named("epoch")] == [24, 24, 24]


def test_they_last_for_as_long_as_the_job_itself_has_measured(arrived: Arrived) -> None:
    """Each within five parts of a hundred or a tenth of a second, as cores are busy, and each where it was."""
    passes = arrived.job["passes"]
    spans = [span for span in arrived.spans if span.name != "training"]
    assert [span.name for span in spans] == [name for name, _, _ in passes]
    for span, (_, began, ended) in zip(spans, passes, strict=True):
        slack = max(0.05 * (ended - began), 1e8)
        assert span.end - span.start == pytest.approx(ended - began, abs=slack)
        assert span.start == pytest.approx(began, abs=slack)
    (root,) = arrived.named("training")
    assert root.start == spans[0].start
    assert root.end >= spans[-1].end


def test_steps_and_waits_are_what_they_were(arrived: Arrived) -> None:
    """Each step once, none of an evaluation; waiting is that of training's loader."""
    metrics = {name: metric.points[-1].value for name, metric in arrived.metrics.items() if metric.points}
    lasted = sum(ended - began for name, began, ended in arrived.job["passes"] if name == "epoch") / 1e9
    assert metrics["hwmetrics.training.steps"] == arrived.job["steps"] == 72
    assert arrived.job["waited"] <= metrics["hwmetrics.training.data.wait.time"] < 0.6 * lasted
    assert metrics["hwmetrics.training.step.time"] == pytest.approx(lasted, rel=0.05)


def test_each_alert_is_on_what_was_going_on(arrived: Arrived) -> None:
    """On the epoch or evaluation that was open when it was found, else on the training; sums are on all of them."""
    found = [(span, at) for span in arrived.spans for name, _, at in span.events if name == "hwmetrics.alert"]
    assert [span for span, _ in found if span.name == "epoch"]
    inner = [span for span in arrived.spans if span.name != "training"]
    for span, at in found:
        assert span.start <= at <= span.end
        if span.name == "training":
            assert not [each for each in inner if each.start + 5e7 < at < each.end - 5e7]
    for span in arrived.spans:
        assert span.attributes["hwmetrics.summary.time"] > 0
