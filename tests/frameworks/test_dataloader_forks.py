# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own loader with workers that are forked, anew for each epoch, while metrics are exported all the time."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

TRAINING = """
import json, sys, threading, warnings
warnings.simplefilter("ignore")  # that a process with threads forks
import torch
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
import otel_hwmetrics as hw
from otel_hwmetrics.testing import FakeGpu, FakeNvml

class Nowhere(MetricExporter):
    exports = 0
    def export(self, data, timeout_millis=0, **_):
        self.exports += 1
        return MetricExportResult.SUCCESS
    def force_flush(self, timeout_millis=0):
        return True
    def shutdown(self, timeout_millis=0, **_):
        pass

class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("hwmetrics")]
        assert torch.utils.data.get_worker_info() is not None and not threads and hw.snapshot() is None
        return torch.rand(8, generator=torch.Generator().manual_seed(index))

exporter = Nowhere()
meters = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=20)])
if sys.argv[1] == "with":
    FakeNvml([FakeGpu()]).install()
    hw.instrument(meter_provider=meters, sample_interval=0.2)
torch.manual_seed(7)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = torch.utils.data.DataLoader(Points(), batch_size=8, num_workers=2, multiprocessing_context="fork")
for _ in range(4):
    for batch in hw.steps(loader):
        optimizer.zero_grad()
        (model(batch) - batch).square().sum().backward()
        optimizer.step()
print(json.dumps({"weights": model.weight.tolist(), "exports": exporter.exports}))
"""


def train(how: str) -> dict[str, Any]:
    """What a training leaves that is done with us or without."""
    command = [sys.executable, "-c", textwrap.dedent(TRAINING), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    left: dict[str, Any] = json.loads(done.stdout)
    return left


def test_workers_of_a_loader_are_forked_at_any_moment() -> None:
    """None hangs, none has anything of ours, and what is learnt is the same to the last bit."""
    with_us, without = train("with"), train("without")
    assert with_us["exports"] > 0
    assert with_us["weights"] == without["weights"]
