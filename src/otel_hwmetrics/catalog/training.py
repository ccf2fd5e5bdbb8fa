# SPDX-License-Identifier: Apache-2.0
"""How far training has come, as the job itself tells it by `otel_hwmetrics.steps`, `step` and `phase`, or its framework.

What is waited for and how long the present step has lasted is told while it lasts. Time within the phases ``checkpoint``
and ``evaluation`` is no step's, and steps within them are not counted.

The buckets of the histogram double in size from one to the next. A View, or
``OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram``, makes it an exponential one,
which is finer.
"""

from __future__ import annotations

from otel_hwmetrics.model import Kind, Metric, Origin, Peak, Ratio, Unit

PHASE_NAME = "hwmetrics.training.phase"
"""``checkpoint``, ``evaluation``, ``train``, or what the job calls it; ``other`` where it calls too many something else."""

STEP_BUCKETS = tuple(2.0**power for power in range(-13, 13))
"""Seconds, from 0.12 ms to 68 minutes; also boundaries of exponential histograms, of whatever scale."""
MOST_RECORDED = 100
"""How many steps a second are recorded in the histogram. Each takes the SDK 3 to 10 µs, which training may have to wait for."""

STEPS = Metric(
    "hwmetrics.training.steps",
    Kind.COUNTER,
    Unit.STEP,
    "Steps of training that have ended.",
    integer=True,
    origin=Origin.ZERO,
)
STEP_TIME = Metric(
    "hwmetrics.training.step.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Time in steps, the present one and waiting for data included; several threads that train are added up.",
    origin=Origin.ZERO,
)
STEP_TIME_COMPLETED = Metric(
    "hwmetrics.training.step.time.completed",
    Kind.COUNTER,
    Unit.SECOND,
    "Time in the steps that have ended, counted when they do.",
    origin=Origin.ZERO,
    detail=True,
)
STEP_DURATION = Metric(
    "hwmetrics.training.step.duration",
    Kind.GAUGE,
    Unit.SECOND,
    "Average time of a step, of those that ended within the window.",
    # Not of STEP_TIME: of a step that lasts longer than the window only a part falls into the window in which it ends.
    derivation=Ratio(STEP_TIME_COMPLETED, by=STEPS),
)
STEP_DURATION_PEAK = Metric(
    "hwmetrics.training.step.duration.peak",
    Kind.GAUGE,
    Unit.SECOND,
    "Time of the longest step, of those that ended within the window; where none did, for a minute, of those that ended "
    "last.",
    derivation=Peak(STEP_DURATION),
)
STEP_DURATION_HISTOGRAM = Metric(
    "hwmetrics.training.step.duration.histogram",
    Kind.HISTOGRAM,
    Unit.SECOND,
    "Time of each step that has ended. Where there are more than "
    f"{MOST_RECORDED} a second, only every so many-th is recorded: how many there were is told by ``{STEPS.name}``.",
    boundaries=STEP_BUCKETS,
)
STEP_GPU_TIME = Metric(
    "hwmetrics.training.step.gpu.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Time from the beginning of a step to its end by the clock of the GPU, on the stream that is current to the training "
    "thread; counted when the GPU is known to have come to the end.",
    origin=Origin.ZERO,
)
STEP_AGE = Metric(
    "hwmetrics.training.step.age",
    Kind.GAUGE,
    Unit.SECOND,
    "Time since a step last ended, or since the loop began if that is later; once a first step has ended, and while a "
    "loop is open or the job tells its steps one by one.",
)
DATA_WAIT_TIME = Metric(
    "hwmetrics.training.data.wait.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Time that training waited for its next batch, a present wait included.",
    origin=Origin.ZERO,
)
DATA_WAIT_SHARE = Metric(
    "hwmetrics.training.data.wait.share",
    Kind.GAUGE,
    Unit.RATIO,
    "Part of the time in steps that training waited for its next batch, over the window.",
    derivation=Ratio(DATA_WAIT_TIME, by=STEP_TIME),
)
SAMPLES = Metric(
    "hwmetrics.training.samples",
    Kind.COUNTER,
    Unit.SAMPLE,
    "Samples that training has gone through, where the job tells how many a step has.",
    integer=True,
    origin=Origin.ZERO,
)
TOKENS = Metric(
    "hwmetrics.training.tokens",
    Kind.COUNTER,
    Unit.TOKEN,
    "Tokens that training has gone through, where the job tells how many a step has.",
    integer=True,
    origin=Origin.ZERO,
)
PHASE = Metric(
    "hwmetrics.training.phase",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "1 while training is in that phase, 0 once it has been.",
    attributes=(PHASE_NAME,),
    integer=True,
)

METRICS: tuple[Metric, ...] = (
    STEPS,
    STEP_TIME,
    STEP_TIME_COMPLETED,
    STEP_DURATION,
    STEP_DURATION_PEAK,
    STEP_DURATION_HISTOGRAM,
    STEP_GPU_TIME,
    STEP_AGE,
    DATA_WAIT_TIME,
    DATA_WAIT_SHARE,
    SAMPLES,
    TOKENS,
    PHASE,
)
