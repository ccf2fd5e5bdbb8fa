# SPDX-License-Identifier: Apache-2.0
"""What to ask for next time, in the words of those who are asked.

- ``yaml``: the resource_requirements of a file of jobs (`otel-hwmetrics run --file`).
- ``sbatch``: lines of a batch script (https://slurm.schedmd.com/sbatch.html).
- ``kubernetes``: a container's resources
  (https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from otel_hwmetrics.display.report.advice import Advice
from otel_hwmetrics.display.table import plain
from otel_hwmetrics.display.words import counted, duration, share, size

_MIB: Final = 2**20
_GIB: Final = 2**30
_BARE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORDS_OF_YAML: Final = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))


def as_yaml(found: Sequence[Advice]) -> list[str]:
    """As resource_requirements: lines of YAML."""
    lines = ["resource_requirements:"]
    for each in found:
        why = _why(each)
        lines += [f"  # {each.unsure}"] if each.unsure else []
        lines += [f"  # all of {_tasks(each)}, not each"] if each.several else []
        lines.append(f"  - name: {_name(each.name)}")
        told = {
            "num_cpus": (each.node_cpus, why["cpus"]),
            "num_gpus": (each.node_gpus, ""),
            "memory": (each.node_memory and _bytes(each.node_memory, "m", "g"), why["node_memory"]),
            "gpu_memory": (each.gpu_memory and _bytes(each.gpu_memory, "m", "g"), why["gpu_memory"]),
            "runtime": (each.runtime and iso_duration(each.runtime), why["runtime"]),
        }
        lines += [f"    {key}: {value}{f'  # {text}' if text else ''}" for key, (value, text) in told.items() if value]
    return lines


def as_sbatch(found: Sequence[Advice]) -> list[str]:
    """As lines of a batch script: for one task each, or as many as ran at the same time, with the memory of a node."""
    lines: list[str] = []
    for each in found:
        why = _why(each)
        lines += [""] if lines else []
        lines.append(f"# {plain(each.name)}" + (f"; {each.unsure}" if each.unsure else ""))
        lines += [f"# {text}" for text in (_sentence(why),) if text]
        lines += _one_task(each) if each.tasks_per_node > 1 else []
        told = {
            "nodes": each.several and each.nodes,
            "ntasks": each.several and each.tasks,
            "ntasks-per-node": each.several and each.tasks_per_node,
            "cpus-per-task": each.cpus,
            "mem": each.node_memory and _bytes(each.node_memory, "M", "G"),
            "time": each.runtime and slurm_time(each.runtime),
            "gpus-per-task" if each.several else "gpus": each.gpus,
        }
        lines += [f"#SBATCH --{option}={value}" for option, value in told.items() if value]
        lines += [f"# GPUs with {size(each.gpu_memory)} or more" for _ in range(1) if each.gpu_memory]
    return lines


def _one_task(each: Advice) -> list[str]:
    """What to say instead, where one task of a node starts them all."""
    told = {
        "ntasks": each.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": each.node_cpus,
        "gpus-per-task": each.node_gpus,
    }
    options = " ".join(f"--{option}={value}" for option, value in told.items() if value)
    return [f"# {_tasks(each)}, started one by one; for one torchrun a node say instead {options}"]


def as_kubernetes(found: Sequence[Advice]) -> list[str]:
    """As a container's resources, a document of YAML each, for all that ran on one host.

    CPUs are no limit, since what is above would be throttled.
    """
    lines: list[str] = []
    for each in found:
        lines += ["---"] if lines else []
        lines.append(f"# {plain(each.name)}" + (f"; {each.unsure}" if each.unsure else ""))
        lines += [f"# {text}" for text in (_sentence(_why(each)),) if text]
        lines += [f"# a container has all of {_tasks(each)}"] if each.tasks_per_node > 1 else []
        lines += [f"# {each.nodes} such containers"] if each.nodes > 1 else []
        memory = each.node_memory and _bytes(each.node_memory, "Mi", "Gi")
        limits = {"memory": memory, "nvidia.com/gpu": each.node_gpus}
        requests = {"cpu": each.node_cpus and f'"{each.node_cpus}"', **limits}
        parts = {"requests": requests, "limits": limits}
        told = {name: {key: value for key, value in part.items() if value} for name, part in parts.items()}
        lines += _resources({name: part for name, part in told.items() if part})
        if each.runtime:
            lines.append(f"# of its Job: activeDeadlineSeconds: {each.runtime}")
    return lines


def _resources(parts: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    if parts:
        yield "resources:"
    for name, part in parts.items():
        yield f"  {name}:"
        yield from (f"    {key}: {value}" for key, value in part.items())


FORMATS: Final[Mapping[str, Callable[[Sequence[Advice]], list[str]]]] = MappingProxyType(
    {"yaml": as_yaml, "sbatch": as_sbatch, "kubernetes": as_kubernetes}
)
"""How it may be told."""


def in_words(each: Advice) -> str:
    """In one line: ``8 CPUs, 12.00 GiB of memory, 3 h 30 min, 1 GPU with 18.00 GiB``."""
    parts = [
        counted(each.cpus, "CPU") if each.cpus else "",
        f"{size(each.memory)} of memory" if each.memory else "",
        duration(each.runtime) if each.runtime else "",
        "no GPU" if each.gpus == 0 else "",
        counted(each.gpus, "GPU") + (f" with {size(each.gpu_memory)}" if each.gpu_memory else "") if each.gpus else "",
    ]
    told = ", ".join(part for part in parts if part)
    if not each.several or not told:
        return told
    memory = f"; {size(each.node_memory)} of memory for those on a node together" if each.node_memory else ""
    return f"for each of {_tasks(each)} {told}{memory if each.tasks_per_node > 1 else ''}"


def _tasks(each: Advice) -> str:
    """How many at a time: ``4 tasks on a node``."""
    return counted(each.tasks_per_node, "task") + (
        f" on each of {each.nodes} nodes" if each.nodes > 1 else " on a node"
    )


def iso_duration(seconds: int) -> str:
    """As ISO 8601 has it: ``PT3H30M``, ``P1DT6H``."""
    days, rest = divmod(seconds, 86400)
    parts = (("H", rest // 3600), ("M", rest % 3600 // 60), ("S", rest % 60))
    time = "".join(f"{amount}{unit}" for unit, amount in parts if amount)
    return f"P{f'{days}D' if days else ''}{f'T{time}' if time or not days else ''}" if seconds else "PT0S"


def slurm_time(seconds: int) -> str:
    """As SLURM has it: ``03:30:00``, ``1-06:00:00``."""
    days, rest = divmod(seconds, 86400)
    return f"{f'{days}-' if days else ''}{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"


def _bytes(value: int, mib: str, gib: str) -> str:
    """A number of MiB, or of GiB where that is whole."""
    return f"{value // _MIB}{mib}" if value % _GIB else f"{value // _GIB}{gib}"


def _name(text: str) -> str:
    """A name as YAML has it, in quotes where it needs them."""
    if _BARE.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(each if each.isprintable() else _code(each) for each in escaped)}"'


def _code(character: str) -> str:
    return f"\\U{ord(character):08x}"


def _why(each: Advice) -> dict[str, str]:
    """What each value was made of."""
    most = f", the most of {each.runs}" if each.runs > 1 else ""
    together = f" of {each.tasks_per_node} together" if each.tasks_per_node > 1 else ""
    node = each.peak_node_memory
    return {
        "cpus": "" if each.peak_cpus is None else f"peak {share(each.peak_cpus)}{most}",
        "node_memory": "" if node is None else f"peak {size(node)}{together} + 15%{'' if together else most}",
        "runtime": "" if not each.peak_runtime else f"{duration(each.peak_runtime)} + 25%{most}",
        "gpu_memory": "" if each.peak_gpu_memory is None else f"peak {size(each.peak_gpu_memory)} + 15%{most}",
    }


def _sentence(why: Mapping[str, str]) -> str:
    names = {"cpus": "CPU", "node_memory": "memory", "runtime": "runtime", "gpu_memory": "GPU memory"}
    return "; ".join(f"{name} {why[key]}" for key, name in names.items() if why[key])
