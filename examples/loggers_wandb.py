# SPDX-License-Identifier: Apache-2.0
"""Hardware metrics beside the loss in Weights & Biases: `pip install wandb`.

Offline here, so that it runs without an account; `wandb sync` uploads what it wrote.
"""

from __future__ import annotations

import time

import wandb

import otel_hwmetrics as hw

hw.instrument()
with wandb.init(project="hardware", mode="offline") as run:
    for step in hw.steps(range(30)):
        time.sleep(0.05)  # forward, backward, optimizer.step()
        snapshot = hw.snapshot()  # the newest look at the machine, of the last second; reads nothing
        if step % 10 == 0 and snapshot is not None:
            run.log({"loss": 1 / (step + 1), **snapshot.as_dict()}, step=step)
hw.uninstrument()
