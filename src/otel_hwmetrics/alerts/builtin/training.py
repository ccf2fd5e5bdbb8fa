# SPDX-License-Identifier: Apache-2.0
"""Rules of the training loop, for jobs that tell their steps."""

from __future__ import annotations

from otel_hwmetrics.alerts.builtin.common import QUIET
from otel_hwmetrics.alerts.loops import InputBound
from otel_hwmetrics.alerts.rule import Rule, Severity, Side
from otel_hwmetrics.alerts.stalls import LATE, Stall

RULES: tuple[Rule, ...] = (
    Rule(
        "training_stalled",
        Severity.CRITICAL,
        Stall(),
        Side.ABOVE,
        threshold=LATE,
        slack=0.0,
        for_seconds=5.0,
        message="No step for {value}, where {usual} ({sign}).",
        advice="See where each rank stands (py-spy dump). GPUs that are busy and do not work wait for each other: find the rank "
        "that is missing in the collective (TORCH_NCCL_DUMP_ON_TIMEOUT). If this is an evaluation or a checkpoint, tell of it: "
        "otel_hwmetrics.phase.",
        samples=3,
        keep_firing_seconds=10.0,
        silent_in=QUIET,
    ),
    Rule(
        "input_bound",
        Severity.WARNING,
        InputBound(),
        Side.ABOVE,
        threshold=0.2,
        slack=0.05,
        for_seconds=120.0,  # an epoch's start, when workers start anew, may take a minute
        message="Training waits for data {value} of its steps' time. Why: {why}.",
        advice="More workers or prefetching, larger files, a cache nearer by, or less work for each sample.",
        keep_firing_seconds=60.0,
        inhibited_by=("training_stalled",),
        silent_in=QUIET,
    ),
)
