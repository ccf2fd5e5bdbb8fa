# SPDX-License-Identifier: Apache-2.0
"""A hook of OpenTelemetry's own that tells of each process that is instrumented what ours has done to it.

It is found by the metadata beside it, wherever this folder is on the path, and called after all instrumentors: also in
processes that run nothing of a test's, such as a resource tracker.
"""

from __future__ import annotations

import json
import os
import sys
import threading


def tell() -> None:
    """Write a file of this process into the folder that the environment names."""
    told = {
        "argv": sys.orig_argv,
        # Not psutil, which the SDK loads itself, for its resource detectors.
        "modules": [name for name in sys.modules if name.startswith(("otel_hwmetrics", "pynvml"))],
        "threads": [thread.name for thread in threading.enumerate() if thread.name.startswith("hwmetrics")],
    }
    path = os.path.join(os.environ["LOOKED"], f"{os.getpid()}.json")
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump(told, file)
    os.replace(f"{path}.part", path)
