# SPDX-License-Identifier: Apache-2.0
"""Which spans are training spans, and what phase a name tells of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN

from otel_hwmetrics.config import Config
from otel_hwmetrics.sinks.matching import REMEMBERED, Matcher, phase_of

TRACER = TracerProvider().get_tracer("t")


def matches(patterns: tuple[str, ...], name: str, **attributes: object) -> bool:
    """Whether a span of this name is a training span."""
    span = TRACER.start_span(name, attributes=attributes)  # type: ignore[arg-type]
    return Matcher(patterns)(name, span)


@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("train", True),
        ("megatron.train_step", True),
        ("Epoch 3", True),
        ("[Strategy]SingleDeviceStrategy.training_step", True),
        ("model.fit", True),
        ("evaluate", True),
        ("run validation", True),
        ("save_checkpoint", True),
        ("GET /items", False),
        ("forward", False),
        ("", False),
    ],
)
def test_the_default_knows_the_names_that_people_give(name: str, training: bool) -> None:  # noqa: FBT001 - a column
    """Of training, epochs, steps, fits, evaluations, validations, checkpoints, anywhere in the name."""
    assert matches(Config().alert_spans, name) is training


@pytest.mark.parametrize(
    ("patterns", "name", "attributes", "training"),
    [
        (("all",), "anything", {}, True),
        (("All",), "", {}, True),
        (("none",), "train", {}, False),
        ((), "train", {}, False),
        (("job.*",), "job.run", {}, True),
        (("job.*",), "my job.run", {}, False),
        (("JOB",), "my job.run", {}, True),
        (("a.b",), "a-b", {}, False),
        (("step[0-9]",), "step7", {}, True),
        (("epoch=*",), "run", {"epoch": 3}, True),
        (("epoch=3",), "run", {"epoch": 3}, True),
        (("epoch=3",), "run", {"epoch": 4}, False),
        (("phase=train",), "run", {"ml.phase": "pretraining"}, True),
        (("phase=train",), "run", {"other": "training"}, False),
        (("epoch=3",), "epoch=3", {}, False),
        (("x", "kind=train"), "run", {"kind": "train"}, True),
    ],
)
def test_words_patterns_and_attributes(
    patterns: tuple[str, ...],
    name: str,
    attributes: dict[str, object],
    training: bool,  # noqa: FBT001 - a column
) -> None:
    """A word anywhere in the name, a pattern for all of it, `key=value` for attributes; whatever the case."""
    assert matches(patterns, name, **attributes) is training


@given(st.lists(st.text(max_size=10), max_size=5), st.text(max_size=20))
def test_nothing_that_is_asked_for_raises(patterns: list[str], name: str) -> None:
    """It is called at the start of every span of the application."""
    assert Matcher(patterns)(name, INVALID_SPAN) in (True, False)


def test_names_that_are_remembered_are_bounded() -> None:
    """Programs count in the names of spans."""
    matcher = Matcher(("step",))
    for number in range(3 * REMEMBERED):
        assert matcher(f"step {number}", INVALID_SPAN)
    assert len(matcher._known) <= REMEMBERED


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("save_checkpoint", "checkpoint"),
        ("CKPT", "checkpoint"),
        ("evaluate", "evaluation"),
        ("Validation epoch", "evaluation"),
        ("test", "evaluation"),
        ("test_epoch 3", "evaluation"),
        ("Trainer.evaluate", "evaluation"),
        ("runEvalLoop", "evaluation"),
        ("train/eval", "evaluation"),
        ("val_step", "evaluation"),
        ("train", ""),
        ("train retrieval model", ""),
        ("train_latest", ""),
        ("train with gradient checkpointing", ""),
        ("epoch 3 (from checkpoint 2000)", ""),
        ("GET /retrieval/profit", ""),
        ("evaluate on the train split", ""),
        ("test run of the new model", ""),
        ("epoch 3", ""),
        ("", ""),
    ],
)
def test_a_name_tells_of_a_phase(name: str, phase: str) -> None:
    """Checkpoints and evaluations, in which GPUs may well wait; of a name that tells both, alerts are not silent."""
    assert phase_of(name) == phase
