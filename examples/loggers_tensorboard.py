# SPDX-License-Identifier: Apache-2.0
"""Hardware metrics beside the loss in TensorBoard: `pip install torch tensorboard`, then `tensorboard --logdir runs`."""

from __future__ import annotations

import time

from torch.utils.tensorboard import SummaryWriter

import otel_hwmetrics as hw

hw.instrument()
with SummaryWriter() as writer:
    for step in hw.steps(range(30)):
        time.sleep(0.05)  # forward, backward, optimizer.step()
        snapshot = hw.snapshot()  # the newest look at the machine, of the last second; reads nothing
        if step % 10 == 0 and snapshot is not None:
            for name, value in {"loss": 1 / (step + 1), **snapshot.as_dict()}.items():
                writer.add_scalar(name, value, step)
hw.uninstrument()
