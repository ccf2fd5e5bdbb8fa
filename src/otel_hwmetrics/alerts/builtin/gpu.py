# SPDX-License-Identifier: Apache-2.0
"""Rules of GPUs.

Thresholds are those of the field: NVIDIA DCGM's health limits and hardware limits, AWS SageMaker HyperPod's
preconfigured alarms, gpud's components, Meta's GCM checks, all-smi's alerts, and what users of training callbacks know.
"""

from __future__ import annotations

from otel_hwmetrics.alerts.ahead import SUDDEN, Leaked, TimeToFull
from otel_hwmetrics.alerts.allocators import MemoryLeft, OnGpu
from otel_hwmetrics.alerts.atwork import AtWork
from otel_hwmetrics.alerts.builtin.common import QUIET, RECENT, has
from otel_hwmetrics.alerts.conditions import Extreme, Less, Level, ShareOf, Where
from otel_hwmetrics.alerts.gpus import GENERAL, HARMFUL_CAUSES, Coded, PcieSpeed, SlowerThanSiblings, Xids
from otel_hwmetrics.alerts.over import Aggregate, Over
from otel_hwmetrics.alerts.rule import Rule, Severity, Side
from otel_hwmetrics.catalog import framework, gpu, gpu_activity, gpu_health, gpu_links
from otel_hwmetrics.model import Attribute

_LIMIT = Level(gpu.MEMORY_LIMIT)
# AMD's edge is what NVIDIA's sensor is; its junction, the hottest spot, may be at 100 °C and more in daily work, and how much
# further it may go is what the margin tells. MI300 and newer have no other: there the margin alone is judged.
_CORE: Where = {gpu.HW_SENSOR_LOCATION: frozenset({"gpu", "edge"})}

_LINK_ERRORS: frozenset[Attribute] = frozenset({"replay", "recovery", "recovery_failed", "receive"})

_RECOVERY = (
    (0, "nothing"),
    (1, "a reset of the GPU"),
    (2, "a reboot of the node"),
    (3, "an end of all peer-to-peer traffic"),
    (4, "a reset of the GPU, once nothing runs on it"),
    (5, "a recovery of the NVLink domain (IMEX)"),
    (6, "a reset of the GPU's bus"),
    (7, "a reboot of the system"),
)
"""nvmlDeviceGpuRecoveryAction_t in nvml.h."""

_GONE = ("gpu_lost",)

RULES: tuple[Rule, ...] = (
    Rule(
        "gpu_lost",
        Severity.CRITICAL,
        Level(gpu_health.STATUS, {gpu_health.HW_STATE: "failed"}),
        **has(for_seconds=3.0),
        message="{device} does not answer the driver any more.",
        advice="Whatever runs on it is lost: see the kernel log (dmesg) for an XID, take the node out of service and restart "
        "the job from its last checkpoint elsewhere.",
    ),
    Rule(
        "gpu_recovery_needed",
        Severity.CRITICAL,
        Coded(gpu_health.RECOVERY_ACTION, "action", _RECOVERY),
        **has(),
        message="The driver asks for {action} before {device} can be trusted again.",
        advice="Save a checkpoint if you still can, and have the node drained.",
        inhibited_by=_GONE,
    ),
    *(
        Rule(
            f"gpu_xid_{severity.value}",
            severity,
            Xids(severity, RECENT),
            **has(),
            message="{device} had XID {xid} ({name}): {meaning}",
            advice="{advice}",
        )
        for severity in reversed(Severity)
    ),
    Rule(
        "gpu_ecc_uncorrected",
        Severity.CRITICAL,
        Over(gpu_health.ERRORS, Aggregate.INCREASE, RECENT, {gpu_health.ERROR_TYPE: "uncorrected"}),
        **has(),
        message="{value} of the memory of {device} could not be corrected in the last 5 min.",
        advice="Results since then may be wrong: go back to a checkpoint from before it, and have the GPU reset.",
    ),
    Rule(
        "gpu_remap_pending",
        Severity.WARNING,
        Level(gpu_health.REMAP_PENDING),
        **has(),
        message="Memory of {device} waits to be taken out of use.",
        advice="It is done at the next reset of the GPU: have it reset when the job is over.",
    ),
    Rule(
        "gpu_remap_failed",
        Severity.CRITICAL,
        Level(gpu_health.REMAP_FAILED),
        **has(),
        message="Bad memory of {device} could not be taken out of use.",
        advice="Take the node out of service: the board has to be replaced.",
    ),
    Rule(
        "gpu_memory_pressure",
        Severity.WARNING,
        ShareOf(Less(_LIMIT, MemoryLeft()), _LIMIT),
        Side.ABOVE,
        threshold=0.9,
        slack=0.05,
        for_seconds=5.0,
        message="{value} of the memory of {device} is used ({beyond}).",
        advice="An out-of-memory error may be near: a smaller batch, gradient accumulation or activation checkpointing "
        "makes room.",
        inhibited_by=_GONE,
    ),
    Rule(
        "gpu_oom_ahead",
        Severity.CRITICAL,
        TimeToFull(MemoryLeft(), seconds=600.0, since_first_step=True, sudden=SUDDEN),
        Side.BELOW,
        threshold=1200.0,
        slack=600.0,
        for_seconds=30.0,
        message="The memory of {device} is full in about {value}, between {soonest_seconds} and {latest_seconds}, if it goes on "
        "like this; {left_bytes} are left.",
        advice="Save a checkpoint, and look for what keeps tensors alive: losses summed up with their graphs, growing caches, "
        "ever longer sequences (torch.cuda.memory._dump_snapshot shows who holds what).",
        samples=3,
        keep_firing_seconds=60.0,
        warm_up_seconds=900.0,  # a model is loaded for minutes, evenly, and it looks like this
        inhibited_by=_GONE,
    ),
    Rule(
        "gpu_memory_leak",
        Severity.WARNING,
        Leaked(OnGpu(framework.TORCH_ALLOCATED)),
        Side.ABOVE,
        threshold=512 * 1024**2,
        slack=0.0,
        for_seconds=0.0,
        message="PyTorch's tensors on {device} take {value} more than at first, and {hourly_bytes} more each hour.",
        advice="Something keeps tensors of past steps alive: use .item() or .detach() for what is only logged.",
        keep_firing_seconds=600.0,
        inhibited_by=("gpu_oom_ahead", *_GONE),
    ),
    Rule(
        "gpu_very_hot",
        Severity.CRITICAL,
        Level(gpu.TEMPERATURE, _CORE),
        Side.ABOVE,
        threshold=90.0,
        slack=2.0,
        for_seconds=5.0,
        message="{device} is at {value} ({beyond}).",
        advice="It slows itself down, and switches off before it takes harm: check its cooling now.",
        inhibited_by=_GONE,
    ),
    Rule(
        "gpu_heat_margin",
        # Nothing is lost at the margin's end but speed, and boards with a fan are built to run there.
        Severity.WARNING,
        Level(gpu.TEMPERATURE_MARGIN),
        Side.BELOW,
        threshold=2.0,
        slack=2.0,
        for_seconds=10.0,
        message="{device} is {value} from slowing itself down ({beyond}).",
        advice="Check its cooling, and that of the boards beside it.",
        inhibited_by=_GONE,
    ),
    Rule(
        "gpu_hot",
        Severity.WARNING,
        Level(gpu.TEMPERATURE, _CORE),
        Side.ABOVE,
        threshold=80.0,
        slack=2.0,
        for_seconds=5.0,
        message="{device} is at {value} ({beyond}).",
        advice="It will slow itself down before it takes harm: check its cooling and its neighbours.",
        inhibited_by=("gpu_very_hot", "gpu_heat_margin", *_GONE),
    ),
    Rule(
        "gpu_throttled",
        Severity.WARNING,
        Extreme(
            gpu_activity.THROTTLE_SHARE,
            {gpu_activity.THROTTLE_CAUSE: HARMFUL_CAUSES},
            across=gpu_activity.THROTTLE_CAUSE,
            word="cause",
        ),
        Side.ABOVE,
        threshold=0.1,
        slack=0.05,
        for_seconds=30.0,
        message="{device} is held back {value} of the time by {cause}.",
        advice="Thermal causes: its cooling; a power brake or a board limit: the node's power supply. All ranks wait for the "
        "slowest one.",
        keep_firing_seconds=30.0,
        inhibited_by=_GONE,
    ),
    Rule(
        "gpu_power_limit",
        Severity.INFO,
        ShareOf(Level(gpu.POWER), Level(gpu.POWER_LIMIT)),
        Side.ABOVE,
        threshold=0.95,
        slack=0.05,
        for_seconds=60.0,
        message="{device} draws {value} of the power that it is held to ({beyond}).",
        advice="Its clocks are limited by power. Usual in dense training; if not wanted, raise the limit.",
        keep_firing_seconds=60.0,
        inhibited_by=_GONE,
    ),
    Rule(
        "gpu_straggler",
        Severity.WARNING,
        SlowerThanSiblings(),
        Side.ABOVE,
        threshold=0.1,
        slack=0.05,
        for_seconds=60.0,
        message="{device} runs {value} slower than its siblings: {difference}.",
        advice="Every step of a synchronous job is as slow as its slowest GPU.",
        keep_firing_seconds=600.0,  # an evaluation, in which nothing is to be seen of it, is no end of it
        inhibited_by=_GONE,
        silent_in=QUIET,
    ),
    Rule(
        "gpu_pcie_degraded",
        Severity.WARNING,
        PcieSpeed(),
        Side.BELOW,
        threshold=0.9,
        slack=0.0,
        for_seconds=60.0,
        message="The PCIe link of {device} runs at {value} of its speed under load: generation {generation} with {width} lanes, "
        "where {generation_limit} with {width_limit} would do.",
        advice="Copies between host and GPU are slower for it: have the board, its riser and the BIOS settings checked.",
        keep_firing_seconds=600.0,  # likewise
        inhibited_by=_GONE,
    ),
    Rule(
        "gpu_nvlink_errors",
        Severity.WARNING,
        Over(gpu_links.NVLINK_ERRORS, Aggregate.INCREASE, RECENT, {gpu_links.ERROR_TYPE: _LINK_ERRORS}),
        **has(),
        message="The NVLinks of {device} had {value} in the last 5 min.",
        advice="Collectives may slow down or fail: see `nvidia-smi nvlink -e`, and have the link checked.",
    ),
    Rule(
        "gpu_nvlink_crc",
        Severity.WARNING,
        Over(gpu_links.NVLINK_ERRORS, Aggregate.RATE, 60.0, {gpu_links.ERROR_TYPE: "crc"}),
        Side.ABOVE,
        threshold=100.0,
        slack=50.0,
        for_seconds=30.0,
        message="Data on the NVLinks of {device} arrives damaged: {value} ({beyond}).",
        advice="All of it is sent again, which slows collectives down: have the link checked.",
    ),
    Rule(
        "gpu_idle",
        Severity.CRITICAL,
        AtWork(Level(gpu.UTILIZATION, GENERAL)),
        Side.BELOW,
        threshold=0.05,
        slack=0.0,
        for_seconds=300.0,
        message="{device} is busy {value} of the time ({beyond}).",
        advice="It has next to nothing to do: the job may hang (py-spy dump shows where), or has ended and keeps the GPU.",
        inhibited_by=("training_stalled", *_GONE),
        silent_in=QUIET,
    ),
    Rule(
        "gpu_underused",
        Severity.WARNING,
        # Steps of some seconds make the utilization of single ones jump between nothing and everything.
        AtWork(Over(gpu.UTILIZATION, Aggregate.MEAN, 30.0, GENERAL)),
        Side.BELOW,
        threshold=0.5,
        slack=0.05,
        for_seconds=120.0,  # a checkpoint of which nobody tells may take a minute and a half
        message="{device} is busy {value} of the time ({beyond}).",
        advice="It may be waiting for data, for the CPU or for other ranks.",
        warm_up_seconds=120.0,
        inhibited_by=("gpu_idle", "training_stalled", *_GONE),
        silent_in=QUIET,
    ),
)
