# SPDX-License-Identifier: Apache-2.0
"""What was asked for, where nobody has typed it: by the batch system, and by what the process is held to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from otel_hwmetrics.recording.nouns import Request

SLURM: Final = "slurm"
CGROUP: Final = "cgroup"
KUBERNETES: Final = "kubernetes"

_NO_LIMIT: Final = 360 * 86400.0
# SLURM tells a job without a time limit an end a year ahead.
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_TASKS: Final = re.compile(r"([0-9]+)(?:\(x([0-9]+)\))?")
_SIZE: Final = re.compile(r"([0-9]+)([KMGT]?)B?", re.IGNORECASE)
_GPU: Final = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]+")


class Bounds(NamedTuple):
    """What a process is held to by its cgroup, or a container's; None where it is by nothing but the machine.

    Attributes:
        cpus: CPUs.
        memory: Bytes.
    """

    cpus: float | None = None
    memory: int | None = None


def requested(environ: Mapping[str, str], bounds: Bounds = Bounds()) -> Request:  # noqa: B008 - it is immutable
    """What was asked for, as far as it is known: by SLURM, else by what the process is held to.

    It is what one process and its descendants may use: of a node's share, or a container's, that several tasks have
    together, each has its part.

    SLURM's words: https://slurm.schedmd.com/srun.html and https://slurm.schedmd.com/sbatch.html, output environment
    variables. Kubernetes tells a container's processes nothing of their limits, but holds them to these by the cgroup; of
    GPUs, NVIDIA's device plugin tells which (https://github.com/NVIDIA/k8s-device-plugin, ``DEVICE_LIST_STRATEGY``).

    Args:
        environ: The process's environment.
        bounds: What it is held to, as the caller has found.
    """
    found: dict[str, float] = {}
    by: dict[str, str] = {}

    def take(name: str, value: float | None, who: str) -> None:
        if value is not None and value > 0 and name not in found:
            found[name], by[name] = value, who

    workers = _number(environ, "LOCAL_WORLD_SIZE") or 1  # of torchrun, below which each process is one of several
    if environ.get("SLURM_JOB_ID"):
        for name, value in _by_slurm(environ).items():
            take(name, _part(value, 1 if name == "runtime" else workers), SLURM)
    held_by = KUBERNETES if environ.get("KUBERNETES_SERVICE_HOST") else CGROUP
    together = workers * _tasks_here(environ)
    take("cpus", _part(bounds.cpus, together), held_by)
    take("memory", _part(bounds.memory, together), held_by)
    if held_by == KUBERNETES:
        take("gpus", _part(_given_gpus(environ), workers), KUBERNETES)
    memory = found.get("memory")
    return Request(
        cpus=found.get("cpus"),
        memory=None if memory is None else round(memory),
        runtime=found.get("runtime"),
        gpus=found.get("gpus"),
        by=by,
    )


def joined(*requests: Request) -> Request:
    """Several that somebody said, as one: of each resource what the first of them says who says any."""
    names = ("cpus", "memory", "runtime", "gpus", "gpu_memory")
    found: dict[str, Any] = {}
    by: dict[str, str] = {}
    for request in reversed(requests):
        for name in names:
            if (value := getattr(request, name)) is not None:
                found[name] = value
                by.pop(name, None)
                if name in request.by:
                    by[name] = request.by[name]
    return Request(**found, by={name: by[name] for name in names if name in by})


def _by_slurm(environ: Mapping[str, str]) -> dict[str, float | None]:
    """What a task of SLURM's has; in the batch script itself, what the job has on this node."""
    tasks = _tasks_here(environ)
    of_node = _part(_number(environ, "SLURM_CPUS_ON_NODE"), tasks)
    of_task = _number(environ, "SLURM_CPUS_PER_TASK")
    cpus = of_task if of_task and (_in_step(environ) or of_node is None) else of_node
    gpus = _gpus_of_slurm(environ, tasks)
    memory = _part(_size(environ, "SLURM_MEM_PER_NODE"), tasks)
    per_cpu, per_gpu = _size(environ, "SLURM_MEM_PER_CPU"), _size(environ, "SLURM_MEM_PER_GPU")
    if memory is None and per_cpu is not None and cpus is not None:
        memory = per_cpu * cpus
    if memory is None and per_gpu is not None and gpus is not None:
        memory = per_gpu * gpus
    begin, end = _number(environ, "SLURM_JOB_START_TIME"), _number(environ, "SLURM_JOB_END_TIME")
    runtime = None if begin is None or end is None or end - begin > _NO_LIMIT else float(end - begin)
    return {"cpus": cpus, "memory": memory, "runtime": runtime, "gpus": gpus}


def _in_step(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("SLURM_STEP_ID"))


def _tasks_here(environ: Mapping[str, str]) -> int:
    """How many tasks of this step are on this node; the batch script is alone."""
    if not _in_step(environ):
        return 1
    text = environ.get("SLURM_STEP_TASKS_PER_NODE", "")  # 2(x3),1
    counts = [int(count) for count, times in _TASKS.findall(text) for _ in range(min(int(times or 1), 100_000))]
    node = _number(environ, "SLURM_NODEID") or 0
    return max(1, counts[node]) if node < len(counts) else 1


def _gpus_of_slurm(environ: Mapping[str, str], tasks: int) -> float | None:
    per_task = environ.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2]  # a100:2
    if _in_step(environ) and _NUMBER.fullmatch(per_task):
        return float(per_task)
    count = _number(environ, "SLURM_GPUS_ON_NODE")
    if count is None:
        listed = environ.get("SLURM_STEP_GPUS" if _in_step(environ) else "SLURM_JOB_GPUS", "")
        count = len([each for each in listed.split(",") if each.strip()]) or None
    return _part(count, tasks)


def _given_gpus(environ: Mapping[str, str]) -> int | None:
    """How many GPUs the device plugin gave; ``all`` is what images say that ask for whatever is there."""
    listed = [each.strip() for each in environ.get("NVIDIA_VISIBLE_DEVICES", "").split(",")]
    return len(set(listed)) if all(map(_GPU.fullmatch, listed)) else None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if _NUMBER.fullmatch(text) else None


def _size(environ: Mapping[str, str], name: str) -> float | None:
    """Bytes; SLURM means mebibytes where it names no unit. 0 is all that there is, which nobody has asked for."""
    found = _SIZE.fullmatch(environ.get(name, ""))
    if found is None:
        return None
    number, unit = int(found[1]), found[2].upper() or "M"
    return float(number * 1024 ** ("KMGT".index(unit) + 1)) or None


def _part(value: float | None, of: int) -> float | None:
    return None if value is None else value / of
