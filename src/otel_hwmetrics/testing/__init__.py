# SPDX-License-Identifier: Apache-2.0
"""A scripted NVML, to test metrics and alert rules without a GPU.

[`FakeNvml`][otel_hwmetrics.testing.FakeNvml] stands in for the driver's library *below* the Python binding: the
real `nvidia-ml-py` (module `pynvml`) runs unmodified against it, so the layouts, versions and names of the real ABI
are exercised. Nothing is installed on the machine.

    from otel_hwmetrics.testing import FakeGpu, FakeNvml, ManualClock

    clock = ManualClock()
    hot = FakeGpu(temperature=[(0, 55.0), (20, 86.0)], power=650.0)
    with FakeNvml([hot], clock=clock) as nvml:
        clock.advance(20)
        ...  # the GPU reports 86 Cel and has used 13 kJ
        nvml.fail("*", 15, gpu=0)
        ...  # the GPU has fallen off the bus

Quantities are in SI units (ratio, bytes, Cel, W, J) and seconds count from `install()`. The fake rounds as the
driver does: whole percent, whole degrees, whole milliwatts and millijoules.

**Scenario files.**  `load_scenario()` reads the same script from TOML, and a process started with the environment
variable `OTEL_PYTHON_HWMETRICS_FAKE_NVML` set to such a file sees the scripted GPUs for its whole life. A complete
example:

```toml
driver_version = "580.95.05"              # optional

[[gpu]]                                   # one table per GPU; none at all means one default GPU
name = "NVIDIA H100 80GB HBM3"
uuid = "GPU-5a1e0000-0000-4000-8000-000000000000"
utilization = [[0, 0.0], [10, 0.97]]      # ratio, 0 to 1
memory_controller_utilization = 0.4       # ratio, 0 to 1
memory_total = 85899345920                # bytes, a whole number
memory_reserved = 629145600               # bytes, a whole number
memory_used = [[0, 0], [10, 60e9]]        # bytes
temperature = [[0, 55.0], [20, 86.0]]     # Cel
power = [[0, 110.0], [10, 690.0]]         # W
power_limit = 700.0                       # W
energy_offset = 3.4e9                     # J, the lifetime counter at the start

[[gpu]]                                   # every key has a default
unsupported = ["nvmlDeviceGetTotalEnergyConsumption"]

[[fail]]                                  # the second GPU falls off the bus for half a minute
function = "*"                            # every function that names a device
gpu = 1                                   # optional: one GPU, by index
code = "NVML_ERROR_GPU_IS_LOST"           # or the number
after = 60                                # optional, seconds: from, inclusive
until = 90                                # optional, seconds: to, exclusive

[[delay]]                                 # a slow call
function = "nvmlDeviceGetPowerUsage"
seconds = 0.25
gpu = 0                                   # optional, as are after and until

[[hang]]                                  # a call made in this time never returns
function = "nvmlDeviceGetUtilizationRates"
after = 120
until = 121                               # optional, as are after and gpu
```

A series is one number, or keyframes `[[seconds, number], ...]` in order of time, linear in between and held at both
ends; two keyframes at the same second make a step. Anything else in the file is a `ScenarioError`.

Importing this module is cheap: `pynvml` is imported when the first `FakeNvml` is made.
"""

from __future__ import annotations

from otel_hwmetrics.testing.binding import without_nvml
from otel_hwmetrics.testing.clock import ManualClock
from otel_hwmetrics.testing.gpu import FakeGpu, Value
from otel_hwmetrics.testing.nvml import FakeNvml, Hang
from otel_hwmetrics.testing.scenario import ScenarioError, install_from_environment, load_scenario

__all__ = [
    "FakeGpu",
    "FakeNvml",
    "Hang",
    "ManualClock",
    "ScenarioError",
    "Value",
    "install_from_environment",
    "load_scenario",
    "without_nvml",
]
