# SPDX-License-Identifier: Apache-2.0
"""A profile of the moment as a user has it: an option, a training, an alert, a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

JOB = """
import sys, time
import torch
import otel_hwmetrics as hw
from otel_hwmetrics.testing import FakeGpu, FakeNvml

model = torch.nn.Linear(32, 32)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

def step():
    optimizer.zero_grad()
    model(torch.rand(8, 32)).sum().backward()
    optimizer.step()

step()  # PyTorch loads half of itself only now
hot = FakeGpu(temperature=[(0.0, 60.0), (3.0, 60.0), (3.1, 85.0)], utilization=0.9)
with FakeNvml([hot]):
    told = []
    hw.on_alert(told.append)
    with hw.instrument(
        profile_on_alert="gpu_hot", profile_steps=3, alert_gpu_hot_for=0, sample_interval=0.2, directory=sys.argv[1]
    ):
        after = 0
        for _ in hw.steps(range(3000)):
            step()
            time.sleep(0.01)
            after += bool(told)
            if after > 50:
                break
    print(next(alert.attributes["hwmetrics.alert.profile.path"] for alert in told))
"""


def test_the_alert_names_the_file_in_which_the_next_steps_are(tmp_path: Path) -> None:
    """At the end of the job the trace is where the event said, with so many steps in it."""
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.splitlines()[-1])
    assert path.is_relative_to(tmp_path)
    events = json.loads(path.read_text())["traceEvents"]
    assert sum("Optimizer.step#SGD.step" in event.get("name", "") for event in events) == 3
