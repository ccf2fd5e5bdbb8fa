# SPDX-License-Identifier: Apache-2.0
"""Ourselves: what we cost, what we missed, and what our alerts say.

The conventions have none of these, so all of them are below ``hwmetrics.``.
"""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import thread_attributes
from opentelemetry.semconv.attributes import code_attributes, error_attributes

from otel_hwmetrics.catalog import dataset, framework, gpu, gpu_health, system
from otel_hwmetrics.model import Kind, Metric, Origin, Unit

SOURCE = "hwmetrics.source"
PLACE = "hwmetrics.internal.place"
ERROR_TYPE = error_attributes.ERROR_TYPE
THREAD_NAME = thread_attributes.THREAD_NAME

ALERT_EVENT = "hwmetrics.alert"
"""Name of the event, on spans and as a log record, that tells of an alert's transition."""
ALERT_RULE = "hwmetrics.alert.rule"
ALERT_STATE = "hwmetrics.alert.state"
ALERT_SEVERITY = "hwmetrics.alert.severity"
ALERT_VALUE = "hwmetrics.alert.value"
ALERT_THRESHOLD = "hwmetrics.alert.threshold"
ALERT_UNIT = "hwmetrics.alert.unit"
ALERT_MESSAGE = "hwmetrics.alert.message"
ALERT_DURATION = "hwmetrics.alert.duration"
ALERT_PEAK = "hwmetrics.alert.peak"
ALERT_BLIND = "hwmetrics.alert.blind"
ALERT_SUPERSEDED_BY = "hwmetrics.alert.superseded_by"
ALERT_EVIDENCE = "hwmetrics.alert.evidence"
"""Before each word of the evidence: what else tells why."""
ALERT_PROFILE = "hwmetrics.alert.profile.path"
ALERT_FLIGHT = "hwmetrics.alert.flight_recording.path"
ALERT_STACKS_EVENT = "hwmetrics.alert.stacks"
"""Name of the log record that tells, after that of an alert, where the workers of the job stood."""
CODE_STACKTRACE = code_attributes.CODE_STACKTRACE
"""Where the threads of the job stood, on the event of an alert that says that it may hang."""
ALERTS = "hwmetrics.alerts"
"""Attribute of a training span: the alerts that fired while it was open, the worst first, with commas between. One
text and no list: it is set on the training's own thread, and the SDK looks at every element of a list."""
ALERT_EVENTS_DROPPED = "hwmetrics.alert.events.dropped"
"""Attribute of a span: how many events of ours it had no room for; the log has them all."""
ALERT_IDENTITIES = (
    system.FILESYSTEM_MOUNTPOINT,
    framework.TORCH_DEVICE,
    framework.JAX_DEVICE,
    dataset.DATASET_PATH,
    SOURCE,
    system.NETWORK_INTERFACE,
    system.DEVICE,
)
"""What tells alerts of one rule apart that are of no device with ``hw.id``; of several attributes the first counts."""
ALERT_SUBJECT = (gpu.HW_ID, gpu.GPU_INDEX, gpu_health.XID, *ALERT_IDENTITIES)
"""What tells the alerts of one rule apart: on one GPU each XID is an alert of its own."""

SOURCE_UP = Metric(
    "hwmetrics.source.up",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Whether the source gave its readings when last asked: 1 yes, 0 no.",
    attributes=(SOURCE,),
    integer=True,
)
SOURCE_READ_TIME = Metric(
    "hwmetrics.source.read.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Time spent reading the source.",
    attributes=(SOURCE,),
    origin=Origin.PIPELINE,
)
READINGS_LOST = Metric(
    "hwmetrics.source.readings.lost",
    Kind.COUNTER,
    Unit.READING,
    "Readings that were asked for and not had, other than those that the device does not support.",
    attributes=(SOURCE, ERROR_TYPE),
    integer=True,
    origin=Origin.PIPELINE,
)
SAMPLING_TIME = Metric(
    "hwmetrics.sampling.time",
    Kind.COUNTER,
    Unit.SECOND,
    "CPU time that the instrumentation has spent: reading, judging, telling of alerts, formatting for exports.",
    origin=Origin.PIPELINE,
)
SAMPLING_INTERVAL = Metric(
    "hwmetrics.sampling.interval",
    Kind.GAUGE,
    Unit.SECOND,
    "Time between two samples now: that of the option `sample_interval`, or longer to stay within `cpu_budget`.",
)
SOURCE_INTERVAL = Metric(
    "hwmetrics.source.interval",
    Kind.GAUGE,
    Unit.SECOND,
    "Time between two looks at the source now: that between samples, or longer if it alone takes most of `cpu_budget`.",
    attributes=(SOURCE,),
)
SAMPLE_AGE = Metric(
    "hwmetrics.sample.age",
    Kind.GAUGE,
    Unit.SECOND,
    "Time since the newest sample, before the first since `instrument()`; told even if there are no more samples.",
)
THREAD_UP = Metric(
    "hwmetrics.thread.up",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Whether the thread that samples, or one that reads a source, is alive: 1 yes, 0 no; told even if none is.",
    attributes=(THREAD_NAME,),
    integer=True,
)
HEALTH: tuple[Metric, ...] = (SAMPLE_AGE, THREAD_UP, SAMPLING_INTERVAL, SOURCE_INTERVAL)
"""What is told of this very moment, beside the sample and without one: no window, no mean."""
INTERNAL_ERRORS = Metric(
    "hwmetrics.internal.errors",
    Kind.COUNTER,
    Unit.ERROR,
    "Unforeseen faults of otel_hwmetrics itself that were passed over.",
    attributes=(PLACE,),
    integer=True,
    origin=Origin.ZERO,
)
LINES_DROPPED = Metric(
    "hwmetrics.internal.lines.dropped",
    Kind.COUNTER,
    Unit.LINE,
    "Lines of otel_hwmetrics's own log that a handler was not given, since it would have had to wait to write them.",
    integer=True,
    origin=Origin.ZERO,
)
EMITTER = Metric(
    "hwmetrics.emitter",
    Kind.UP_DOWN_COUNTER,
    Unit.RATIO,
    "Whether this process exports what is of the whole machine: 1 yes, 0 another process of the job does.",
    integer=True,
)
ALERT_ACTIVE = Metric(
    "hwmetrics.alert.active",
    Kind.UP_DOWN_COUNTER,
    Unit.ALERT,
    "Whether the alert is in this state: 1 yes, 0 no; absent before it was ever pending, and while nothing is known of it.",
    attributes=(ALERT_RULE, ALERT_SEVERITY, ALERT_STATE, *ALERT_SUBJECT),
    integer=True,
)
ALERT_TRANSITIONS = Metric(
    "hwmetrics.alert.transitions",
    Kind.COUNTER,
    Unit.TRANSITION,
    "Alerts that began to fire or were resolved, by the state they entered.",
    attributes=(ALERT_RULE, ALERT_SEVERITY, ALERT_STATE),
    integer=True,
    origin=Origin.PIPELINE,
)
ALERT_TIME = Metric(
    "hwmetrics.alert.time",
    Kind.COUNTER,
    Unit.SECOND,
    "Time for which alerts fired, of several at once the sum.",
    attributes=(ALERT_RULE, ALERT_SEVERITY),
    origin=Origin.PIPELINE,
)

ALERT_SINK = "hwmetrics.alert.sink"
"""Who was to be told: ``logs``, ``recordings``, ``notify``, ``callbacks``."""
ALERT_DROPPED = Metric(
    "hwmetrics.alert.dropped",
    Kind.COUNTER,
    Unit.ALERT,
    "Alerts that somebody was not told, because too many waited or they could not be passed on.",
    attributes=(ALERT_SINK, ERROR_TYPE),
    integer=True,
    origin=Origin.ZERO,
)

METRICS: tuple[Metric, ...] = (
    SOURCE_UP,
    SOURCE_READ_TIME,
    READINGS_LOST,
    SAMPLING_TIME,
    *HEALTH,
    INTERNAL_ERRORS,
    LINES_DROPPED,
    EMITTER,
    ALERT_ACTIVE,
    ALERT_TRANSITIONS,
    ALERT_TIME,
    ALERT_DROPPED,
)
