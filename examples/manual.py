# SPDX-License-Identifier: Apache-2.0
"""Manual use: three lines in a training script.

    python examples/manual.py                                                # spans on the screen
    OTEL_TRACES_EXPORTER=otlp OTEL_METRICS_EXPORTER=otlp python examples/manual.py    # to a collector on localhost

The GPUs get hot on purpose where they are scripted, so that the second epoch's span has an alert event.
"""

from __future__ import annotations

import os
import time

import pynvml
from opentelemetry.distro import OpenTelemetryConfigurator

import otel_hwmetrics as hw
from otel_hwmetrics.testing import FakeGpu, FakeNvml

# Your program sets up OpenTelemetry's SDK in its own way. This one: by the usual environment variables.
os.environ.setdefault("OTEL_TRACES_EXPORTER", "console")
OpenTelemetryConfigurator().configure()  # type: ignore[no-untyped-call]

# Only so that the example runs anywhere: without a GPU, one that is scripted.
try:
    pynvml.nvmlInit()
    print("Real GPUs, through NVML:", pynvml.nvmlDeviceGetCount())
except pynvml.NVMLError:
    FakeNvml([FakeGpu(utilization=0.9, memory_used=60e9, temperature=[(0, 60.0), (3, 60.0), (4, 85.0)])]).install()
    print("No GPU here: this one is scripted.")

hw.instrument(alert_gpu_hot_for=1)  # Hot for 1 s is enough for this example; hw.instrument() will do.
for epoch in range(2):
    with hw.training_span("epoch", attributes={"epoch": epoch}):
        time.sleep(3)  # your training

for reading in hw.snapshot() or ():
    if reading.metric.name.startswith("hw."):
        print(f"{reading.metric.name:26} {reading.value:.6g} {reading.metric.unit.value}")
