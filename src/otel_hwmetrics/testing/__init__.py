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

**Faults.**  `fail()`, `delay()`, `hang()`, `missing()`, `garble()` (success, and rubbish in every number), one field or
metric of a batch by `fail_field()` and `fail_gpm_metric()`, a GPU by `lose()` and `restore()`, the whole driver by
`reload_driver()` and `driver_back()`; `calls` counts what the code under test has asked, by function and GPU.

**Events.**  `xid()` and `send_event()` let the driver report something to whoever waits in `nvmlEventSetWait_v2`.

**Scenario files.**  `load_scenario()` reads the same script from TOML, and a process started with the environment
variable `OTEL_PYTHON_HWMETRICS_FAKE_NVML` set to such a file sees the scripted GPUs for its whole life. The
variable may also name a capture of a real or scripted machine (`.json`, see `otel_hwmetrics.testing.captures`). A complete
example, in which every key has the meaning and the default of `FakeGpu`'s attribute of that name:

```toml
driver_version = "580.95.05"              # optional
boottime_offset = 3600.0                  # optional: how long the machine has been up

[[gpu]]                                   # one table per GPU; none at all means one default GPU
name = "NVIDIA H100 80GB HBM3"
uuid = "GPU-5a1e0000-0000-4000-8000-000000000000"
serial = "1654922000001"
vbios = "96.00.89.00.01"
pci_bus_id = "00000000:1B:00.0"
architecture = "hopper"                   # kepler to blackwell
compute_capability = [9, 0]
persistence_mode = true

memory_total = 85899345920                # bytes, a whole number
memory_reserved = 629145600               # bytes, a whole number
memory_used = [[0, 0], [10, 60e9]]        # bytes
bar1_total = 137438953472                 # bytes, a whole number
bar1_used = 1e6                           # bytes

utilization = [[0, 0.0], [10, 0.97]]      # ratio, 0 to 1, as are all of these
memory_controller_utilization = 0.4
encoder_utilization = 0.0
decoder_utilization = 0.0
sm_activity = 0.9                         # from here on by GPM
sm_occupancy = 0.5
tensor_activity = 0.6
dram_activity = 0.7
fp64_activity = 0.0
fp32_activity = 0.1
fp16_activity = 0.1
gpm = true
unsupported_gpm_metrics = ["NVML_GPM_METRIC_FP64_UTIL"]
sample_period = 0.1667                    # s, of the driver's own samples
sample_count = 100
idle_ring_is_empty = false

power = [[0, 110.0], [10, 690.0]]         # W
power_instant = 700.0                     # W
module_power = 900.0                      # W
memory_power = 80.0                       # W
power_limit = 700.0                       # W
power_default_limit = 700.0               # W
power_min_limit = 200.0                   # W
power_max_limit = 700.0                   # W
energy_counter = true
energy_offset = 3.4e9                     # J, the lifetime counter at the start

temperature = [[0, 55.0], [20, 86.0]]     # Cel
memory_temperature = 80.0                 # Cel
temperature_shutdown = 92                 # Cel
temperature_slowdown = 89                 # Cel
temperature_memory_max = 95               # Cel
temperature_gpu_max = 87                  # Cel
tlimit_shutdown = -8                      # K
tlimit_slowdown = -2                      # K
tlimit_memory_max = 0                     # K
tlimit_gpu_max = 0                        # K
thermal_margin = 3                        # K
fans = 2
fan_speed = 0.4                           # ratio
fan_rpm = 2000                            # 1/min

graphics_clock = 1.98e9                   # Hz
sm_clock = 1.98e9                         # Hz
memory_clock = 2.619e9                    # Hz
video_clock = 1.545e9                     # Hz
graphics_clock_max = 1.98e9               # Hz
sm_clock_max = 1.98e9                     # Hz
memory_clock_max = 2.619e9                # Hz
video_clock_max = 1.545e9                 # Hz
performance_state = 0
throttled_sw_power_cap = 0.2              # share of time, as are all of these
throttled_sync_boost = 0.0
throttled_sw_thermal = 0.0
throttled_hw_thermal = 0.0
throttled_hw_power_brake = 0.0
throttled_board_limit = 0.0
throttled_low_utilization = 0.0
throttled_reliability = 0.0
throttled_app_clocks = 0.0
throttled_base_clocks = 0.0
clocks_event_reasons = 4                  # NVML's bit mask

pcie_tx = 2e9                             # By/s
pcie_rx = 3e9                             # By/s
pcie_counter_bits = 32
pcie_counter_offset = 4294000000          # bytes
pcie_generation = [[0, 5], [60, 5], [60, 1]]
pcie_width = 16
pcie_generation_max = 5
pcie_width_max = 16
gpu_pcie_generation_max = 5
pcie_replays = 0                          # a counter, as are all errors
pcie_correctable_errors = 0
pcie_non_fatal_errors = 0
pcie_fatal_errors = 0
nvlinks = 18
nvlink_generation = 4
nvlink_tx = 100e9                         # By/s, all links together
nvlink_rx = 100e9                         # By/s
nvlinks_down = [17]
nvlink_crc_flit_errors = 0
nvlink_crc_data_errors = 0
nvlink_replays = 0
nvlink_recoveries = 0

ecc = true
ecc_corrected_volatile = [[0, 0], [30, 0], [30, 5]]
ecc_uncorrected_volatile = 0
ecc_corrected_aggregate = 12
ecc_uncorrected_aggregate = 0
row_remapping = true
remapped_correctable = 0
remapped_uncorrectable = 0
remap_pending = 0
remap_failure = 0
remap_histogram = [640, 0, 0, 0, 0]
page_retirement = false
retired_single_bit = 0
retired_double_bit = 0
retired_pending = 0
recovery_action = 0                       # NVML_GPU_RECOVERY_ACTION_*

unsupported = []                          # names of C functions
unsupported_fields = ["NVML_FI_DEV_MEMORY_TEMP"]
mig_capable = true
max_mig_devices = 7
fields = { NVML_FI_DEV_PCIE_COUNT_BAD_TLP = [[0, 0], [60, 3]] }  # any field, in NVML's own unit

[[gpu.processes]]
pid = 4242
memory = 60e9                             # bytes; left out, NVML cannot tell
sm_utilization = 0.9                      # ratio, as are all of these
memory_utilization = 0.3
encoder_utilization = 0.0
decoder_utilization = 0.0
kind = "compute"                          # or "graphics"
since = 0                                 # seconds
until = 3600                              # seconds

[[gpu]]                                   # every key has a default
unsupported = ["nvmlDeviceGetTotalEnergyConsumption"]

[[gpu]]                                   # a GPU in MIG mode

[[gpu.mig]]                               # one table per MIG device, with the keys of memory and GPM as above
profile = "1g.10gb"
name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
uuid = "MIG-5a1e0000-0000-4000-8000-000000000000"
gpu_instance_id = 1
compute_instance_id = 0
multiprocessors = 16
slices = 1
memory_total = 10737418240
memory_used = 1e9
sm_activity = 0.5

[[gpu.processes]]
pid = 4243
gpu_instance_id = 1
compute_instance_id = 0

[[fail]]                                  # the second GPU falls off the bus for half a minute
function = "*"                            # every function that names a device
gpu = 1                                   # optional: one GPU, by index
code = "NVML_ERROR_GPU_IS_LOST"           # or the number
after = 60                                # optional, seconds: from, inclusive
until = 90                                # optional, seconds: to, exclusive

[[fail_field]]                            # one field of the many, for ever
field = "NVML_FI_DEV_POWER_INSTANT"
code = "NVML_ERROR_UNKNOWN"
gpu = 1                                   # optional, as are after and until

[[fail_gpm_metric]]
metric = "NVML_GPM_METRIC_DRAM_BW_UTIL"
code = "NVML_ERROR_NOT_SUPPORTED"
gpu = 1                                   # optional, as are after and until

[[delay]]                                 # a slow call
function = "nvmlDeviceGetPowerUsage"
seconds = 0.25
gpu = 0                                   # optional, as are after and until

[[garble]]                                # a call that says success and writes all ones
function = "nvmlDeviceGetMemoryInfo_v2"
gpu = 1                                   # optional, as are after and until

[[hang]]                                  # a call made in this time never returns
function = "nvmlDeviceGetUtilizationRates"
after = 120
until = 121                               # optional, as are after and gpu
```

A series is one number, or keyframes `[[seconds, number], ...]` in order of time, linear in between and held at both
ends; two keyframes at the same second make a step. Anything else in the file is a `ScenarioError`.

Importing this module is cheap, since OpenTelemetry does so in every process that a training starts: the names below are
loaded when they are first used, and `pynvml` when the first `FakeNvml` is made.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_hwmetrics.testing.binding import without_nvml
    from otel_hwmetrics.testing.captures import ReplayNvml
    from otel_hwmetrics.testing.clock import ManualClock
    from otel_hwmetrics.testing.faults import Hang
    from otel_hwmetrics.testing.gpu import FakeGpu, FakeMig, FakeProcess, Value
    from otel_hwmetrics.testing.nvml import FakeNvml
    from otel_hwmetrics.testing.scenario import ScenarioError, load_scenario

__all__ = [
    "FakeGpu",
    "FakeMig",
    "FakeNvml",
    "FakeProcess",
    "Hang",
    "ManualClock",
    "ScenarioError",
    "Value",
    "install_from_environment",
    "load_scenario",
    "without_nvml",
]

_HOMES = {
    "FakeGpu": "gpu",
    "FakeMig": "gpu",
    "FakeNvml": "nvml",
    "FakeProcess": "gpu",
    "Hang": "faults",
    "ManualClock": "clock",
    "ScenarioError": "scenario",
    "Value": "gpu",
    "load_scenario": "scenario",
    "without_nvml": "binding",
}


def install_from_environment() -> FakeNvml | ReplayNvml | None:
    """Install the scenario or capture that `OTEL_PYTHON_HWMETRICS_FAKE_NVML` names, for the life of the process.

    Meant as an `opentelemetry_pre_instrument` entry point, so it never raises: what is wrong with the file is logged
    as an error on `otel_hwmetrics.testing`, and NVML stays as it is. A warning there says that GPUs are scripted.

    Returns:
        What was installed; None if the variable is unset or empty, or the file is bad.
    """
    path = os.environ.get("OTEL_PYTHON_HWMETRICS_FAKE_NVML")
    if not path:
        return None
    from otel_hwmetrics.testing.scenario import install

    return install(path)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
