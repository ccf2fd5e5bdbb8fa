# SPDX-License-Identifier: Apache-2.0
"""Hardware metrics beside the loss in MLflow: `pip install mlflow`.

Into a database beside the script here; a server's address does as well.
"""

from __future__ import annotations

import time

import mlflow

import otel_hwmetrics as hw

mlflow.set_tracking_uri("sqlite:///mlflow.db")
hw.instrument()
with mlflow.start_run():
    for step in hw.steps(range(30)):
        time.sleep(0.05)  # forward, backward, optimizer.step()
        snapshot = hw.snapshot()  # the newest look at the machine, of the last second; reads nothing
        if step % 10 == 0 and snapshot is not None:
            mlflow.log_metrics({"loss": 1 / (step + 1), **snapshot.as_dict()}, step=step)
hw.uninstrument()
