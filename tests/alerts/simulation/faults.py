# SPDX-License-Identifier: Apache-2.0
"""What is made to fail, as it fails in the field: one row a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from alerts.simulation.host import CHECKPOINTS, GB, ROOT
from alerts.simulation.job import WAITING
from alerts.simulation.runs import Run
from alerts.simulation.world import Activity
from otel_hwmetrics.catalog import tree

SICK: Final = 3
"""The GPU that fails where one of them does."""

Change = Callable[[Run], object]

COLLECTIVE: Final = Activity(busy=1.0, power=0.32)
"""All wait for a rank that does not come: kernels run, and do nothing; 45 % of the usual power."""
DEADLOCK: Final = Activity(power=0.09, cpu=0.0)
"""Threads of Python wait for each other."""
STARVED: Final = Activity(power=0.2, io=0.02, cpu=0.05)


@dataclass(frozen=True)
class Fault:
    """One thing that fails.

    Attributes:
        title: What it is, for people.
        rules: Which rules are to find it.
        begins: Makes it happen.
        ends: Makes it stop; None where only a repair does.
        lasts: Seconds until then.
        on: The name of what the rules are to find it on; empty for the host.
        later: What else happens, so many seconds after it began.
        full: Seconds after which what it fills up is full; None where it fills nothing up.
    """

    title: str
    rules: tuple[str, ...]
    begins: Change
    ends: Change | None = None
    lasts: float = 200.0
    on: str = f"GPU {SICK}"
    later: tuple[tuple[float, Change], ...] = ()
    full: float | None = None


def sick(**changes: object) -> Change:
    """Change how the GPU is that fails."""

    def change(run: Run) -> None:
        for name, value in changes.items():
            setattr(run.gpus.boards[SICK], name, value)

    return change


def host(**changes: object) -> Change:
    """Change how the host is."""

    def change(run: Run) -> None:
        for name, value in changes.items():
            setattr(run.host, name, value)

    return change


def job(**changes: object) -> Change:
    """Change how the job goes on."""

    def change(run: Run) -> None:
        for name, value in changes.items():
            setattr(run.job, name, value)

    return change


def xid(*codes: int) -> Change:
    """Let the driver tell of XIDs of the GPU."""

    def change(run: Run) -> None:
        xids = run.gpus.boards[SICK].xids
        for code in codes:
            xids[code] = xids.get(code, 0) + 1

    return change


def end(cause: str) -> Change:
    """Let a worker end so."""

    def change(run: Run) -> None:
        run.host.ends[cause] += 1

    return change


def both(*changes: Change) -> Change:
    """One after the other."""

    def change(run: Run) -> None:
        for each in changes:
            each(run)

    return change


def _loses_gpu(run: Run) -> None:
    run.gpus.boards[SICK].lost = True
    run.gpus.forget(SICK)


def _takes_room(run: Run) -> None:
    run.host.free[CHECKPOINTS] = 12 * GB


def _gives_room_back(run: Run) -> None:
    run.host.free[CHECKPOINTS] = 900 * GB


def _kills_worker(run: Run) -> None:
    run.host.oom_kills += 1
    run.host.ends[tree.KILLED] += 1


_FREED: Final = {"leak": 0.0, "kept": 0.0}
_TRAINS: Final = job(hang=None)
_HANGS: Final = job(hang=COLLECTIVE)
_HEALTHY_LINKS: Final = sick(link_error_rates={})

FAULTS: Final[tuple[Fault, ...]] = (
    Fault(
        "A collective hangs: a rank has gone astray, and the kernels of all others wait for it",
        ("training_stalled",),
        _HANGS,
        _TRAINS,
        on="",
    ),
    Fault(
        "Storage becomes slow: every batch is 0.25 s late",
        ("input_bound", "io_bottleneck"),
        both(job(starved=0.25, starved_as=STARVED), host(at_least={"io": 0.85})),
        both(job(starved=0.0), host(at_least={})),
        lasts=360.0,
        on="",
    ),
    Fault(
        "There are too few workers: every batch is 0.25 s late",
        ("input_bound",),
        job(starved=0.25, starved_as=STARVED),
        job(starved=0.0),
        lasts=360.0,
        on="",
    ),
    Fault(
        "Workers are held back by a CPU quota: every batch is 0.25 s late",
        ("cpu_throttled", "input_bound"),
        both(job(starved=0.25, starved_as=STARVED), host(quota=0.7, at_least={"cpu": 0.6})),
        both(job(starved=0.0), host(quota=0.0, at_least={})),
        lasts=360.0,
        on="",
    ),
    Fault(
        f"GPU {SICK} falls off the bus (XID 79)",
        ("gpu_lost", "gpu_xid_critical"),
        both(_loses_gpu, xid(79), _HANGS),
    ),
    Fault(
        f"The system processor of GPU {SICK} does not answer (XID 119), and the driver asks for a reset (XID 154)",
        ("gpu_recovery_needed",),
        both(xid(119, 154), sick(recovery=1), _HANGS),
    ),
    Fault(
        f"An access out of bounds on GPU {SICK} (XID 31)",
        ("gpu_xid_warning",),
        xid(31),
        lambda _: None,
        lasts=0.0,
    ),
    Fault(
        f"The driver tells of a channel of GPU {SICK} that it has retired (XID 160)",
        ("gpu_xid_info",),
        xid(160),
        lambda _: None,
        lasts=0.0,
    ),
    Fault(
        f"A double-bit error in the memory of GPU {SICK} (XID 48); its row is to be remapped at the next reset (XID 63)",
        ("gpu_ecc_uncorrected", "gpu_remap_pending"),
        both(xid(48, 63), sick(uncorrected=1, remap_pending=1)),
    ),
    Fault(
        f"A row of the memory of GPU {SICK} cannot be remapped (XID 64)",
        ("gpu_remap_failed",),
        both(xid(64), sick(remap_failed=1)),
    ),
    Fault(
        f"A cache of keys and values fills 95 % of the memory of GPU {SICK}",
        ("gpu_memory_pressure",),
        sick(kept=46 * GB, swing=0.05),
        sick(kept=0.0, swing=1.0),
    ),
    Fault(
        f"Tensors are kept on GPU {SICK}, 2 GB more each minute, which fills it within 455 s",
        ("gpu_oom_ahead",),
        sick(leak=2 * GB / 60),
        sick(**_FREED),
        lasts=450.0,
        full=455.0,
    ),
    Fault(
        f"Tensors are kept on GPU {SICK}, 100 MB more each minute",
        ("gpu_memory_leak",),
        sick(leak=0.1 * GB / 60),
        sick(**_FREED),
        lasts=4200.0,
    ),
    Fault(
        f"The fan of GPU {SICK} fails, and it slows itself down at 87 °C",
        ("gpu_hot", "gpu_heat_margin", "gpu_throttled", "gpu_very_hot"),
        sick(cooling=2.1),
        sick(cooling=1.0),
        lasts=240.0,
    ),
    Fault(
        f"The node's power supply holds GPU {SICK} back half of the time",
        ("gpu_throttled", "gpu_straggler"),
        both(sick(braked=0.5, clock=0.7), job(slower=1.4)),
        both(sick(braked=0.0, clock=1.0), job(slower=1.0)),
    ),
    Fault(
        f"The power limit of GPU {SICK} is lowered to 450 W",
        ("gpu_power_limit",),
        both(sick(power_limit=450.0, clock=0.85), job(slower=1.2)),
        both(sick(power_limit=700.0, clock=1.0), job(slower=1.0)),
    ),
    Fault(
        f"The clock of GPU {SICK} stays at 80 %",
        ("gpu_straggler",),
        both(sick(clock=0.8), job(slower=1.25)),
        both(sick(clock=1.0), job(slower=1.0)),
    ),
    Fault(
        f"The PCIe link of GPU {SICK} is renegotiated to 8 lanes",
        ("gpu_pcie_degraded",),
        sick(width=8),
        sick(width=16),
    ),
    Fault(
        f"An NVLink of GPU {SICK} has to be trained anew, and replays",
        ("gpu_nvlink_errors",),
        sick(link_error_rates={"replay": 0.5, "recovery": 0.05}),
        _HEALTHY_LINKS,
        lasts=60.0,
    ),
    Fault(
        f"A storm of CRC errors on an NVLink of GPU {SICK}, 500 a second",
        ("gpu_nvlink_crc",),
        sick(link_error_rates={"crc": 500.0}),
        _HEALTHY_LINKS,
    ),
    Fault(
        "Threads of the training process wait for each other, and nothing is launched any more",
        ("gpu_idle",),
        job(hang=DEADLOCK),
        _TRAINS,
        lasts=450.0,
    ),
    Fault(
        f"GPU {SICK} gets a third of the work",
        ("gpu_underused",),
        sick(uses=0.3),
        sick(uses=None),
    ),
    Fault(
        "The kernel kills a worker for want of memory, and training waits for the loader to notice",
        ("oom_kill", "worker_died"),
        both(_kills_worker, job(hang=DEADLOCK)),
        _TRAINS,
        lasts=20.0,
        on="",
    ),
    Fault(
        "A worker crashes (SIGSEGV)",
        ("worker_died",),
        end(tree.CRASHED),
        lambda _: None,
        lasts=0.0,
        on="",
    ),
    Fault(
        "A process in the job's container takes 12 GB more each minute, which fills it within 22 min",
        ("host_oom_ahead",),
        host(hog=12 * GB / 60),
        host(hog=0.0, hogged=0.0),
        lasts=900.0,
        on="",
        full=1320.0,
    ),
    Fault(
        "A process in the job's container takes 255 GB within a minute",
        ("host_memory_pressure",),
        host(hog=255 * GB / 60),
        host(hog=0.0, hogged=0.0),
        on="",
        later=((60.0, host(hog=0.0)),),
    ),
    Fault(
        "The container is at its limit, and reads its own pages again and again",
        ("host_memory_stalled",),
        host(at_least={"memory": 0.35, "io": 0.3}),
        host(at_least={}),
        on="",
    ),
    Fault(
        "A worker leaks 40 MB each minute",
        ("memory_leak",),
        host(leak=0.04 * GB / 60),
        host(leak=0.0, leaked=0.0),
        lasts=3900.0,
        on="",
    ),
    Fault(
        "More memory is in use than there is: 20,000 pages a second go to swap and come back",
        ("swap_thrash",),
        host(swapping=20_000.0, at_least={"memory": 0.3}),
        host(swapping=0.0, at_least={}),
        on="",
    ),
    Fault(
        "A log fills the root filesystem, 1 GB each minute, within 3 h",
        ("disk_full_ahead",),
        host(filling={ROOT: GB / 60}),
        host(filling={}),
        lasts=3600.0,
        on=ROOT,
        full=10_800.0,
    ),
    Fault(
        "Somebody else fills the filesystem of the checkpoints, until the next one does not fit",
        ("disk_full_ahead",),
        _takes_room,
        _gives_room_back,
        on=CHECKPOINTS,
    ),
    Fault(
        "More threads want to run than there are CPUs",
        ("cpu_saturated",),
        host(at_least={"cpu": 0.99}),
        host(at_least={}),
        lasts=360.0,
        on="",
    ),
    Fault(
        "A file server does not answer: a worker sleeps uninterruptibly, and training waits for its batch",
        ("worker_stuck",),
        both(lambda run: setattr(run.host, "stuck_since", run.world.now), job(hang=WAITING)),
        both(host(stuck_since=None), _TRAINS),
        lasts=120.0,
        on="",
    ),
    Fault(
        "The source of filesystems hangs",
        ("source_failing",),
        host(down={"filesystem"}),
        host(down=set()),
        on="filesystem",
    ),
    Fault(
        "A call into the driver hangs",
        ("source_failing",),
        both(lambda run: setattr(run.gpus, "hang", True), host(down={"nvidia"})),
        both(lambda run: setattr(run.gpus, "hang", False), host(down=set())),
        on="nvidia",
    ),
    Fault(
        "A look at the machine costs 80 ms of CPU time",
        ("monitor_over_budget",),
        host(cost=0.08),
        host(cost=0.012),
        lasts=450.0,
        on="",
    ),
)
"""Every fault, in the order in which people read them."""
