# SPDX-License-Identifier: Apache-2.0
"""Which processes of a node belong to one job, by what launchers put into their environment.

The batch system's own number comes first (`ranks.batch_job`): what it started may start torchrun, and all of that is one
job. Then torchrun (https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables), PMIx, which Open MPI 4
and 5 start ranks by (PMIX_NAMESPACE), and what `torch.distributed` needs of any launcher (MASTER_ADDR and MASTER_PORT).
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from otel_hwmetrics.ranks import LOCAL_RANK, batch_job, ranks

_KEYS: tuple[tuple[str, ...], ...] = (
    # A run that has no name is called "none"; the rendezvous tells it from others of the node.
    ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"),
    ("PMIX_NAMESPACE",),
    ("OMPI_MCA_ess_base_jobid",),
    ("MASTER_ADDR", "MASTER_PORT"),
)
"""Variables that name a job of no batch system, all of a row together; the first row that is there counts."""


_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - nothing is bound to it


class Job(NamedTuple):
    """What a process is a part of.

    Attributes:
        key: Names the job in file names; empty for a process that is a job of its own.
        local_rank: Its number among those on this node; None where nobody numbered them.
    """

    key: str
    local_rank: int | None


def job_of(environ: Mapping[str, str] | None = None) -> Job:
    """The job of this process.

    Args:
        environ: Instead of the process's own.
    """
    environ = os.environ if environ is None else environ
    place = ranks(environ)
    local = place.get(LOCAL_RANK)
    name = _named(environ) if place or "SLURM_JOB_ID" in environ else ""
    name = name or _started_by(numbered=bool(place))
    return Job(hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16] if name else "", _whole(local))


def _named(environ: Mapping[str, str]) -> str:
    """What launchers call it; empty for nothing."""
    if batch := batch_job(environ):
        return f"{batch.by}={batch.key}"
    for row in _KEYS:
        if all(environ.get(variable) for variable in row):
            name = "\n".join(f"{variable}={environ[variable]}" for variable in row)
            at_home = "MASTER_ADDR" in row and environ["MASTER_ADDR"] in _LOOPBACK
            return name + _namespace("net") if at_home else name
    return ""


def _started_by(*, numbered: bool) -> str:
    """Of ranks that nobody named, or that a script spawned by `multiprocessing`: who started them; empty for all others."""
    if numbered or multiprocessing.parent_process() is not None:
        return f"children of {os.getppid()}" + _namespace("pid")
    return ""


def _namespace(kind: str) -> str:
    """Which of the kernel's namespaces of a kind this is: in each container there may be a process 1, and a localhost.

    Containers may meet all the same, where they share the memory of the host (``docker run --ipc=host``).
    """
    try:
        return f"\n{kind}={os.stat(f'/proc/self/ns/{kind}').st_ino}"
    except OSError:
        return ""


def _whole(rank: object) -> int | None:
    return rank if isinstance(rank, int) else None
