# SPDX-License-Identifier: Apache-2.0
"""Which process of which job this is.

These facts belong to the Resource. They are taken from what launchers put into the environment, so nothing of the
training framework is imported: torchrun (https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables),
SLURM's srun (https://slurm.schedmd.com/srun.html, output environment variables), Open MPI
(https://docs.open-mpi.org/en/main/tuning-apps/environment-var.html), MPICH's and Intel's Hydra
(https://github.com/pmodels/mpich/blob/main/doc/wiki/how_to/Using_the_Hydra_Process_Manager.md), and Lightning
(https://github.com/Lightning-AI/pytorch-lightning/blob/master/src/lightning/fabric/plugins/environments/lightning.py).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry.semconv._incubating.attributes import process_attributes

if TYPE_CHECKING:
    # The SDK loads the resource detector in every process that a training starts, and this is the dearest part of it.
    from otel_hwmetrics.model import Attribute

RANK = "hwmetrics.rank"
LOCAL_RANK = "hwmetrics.local_rank"
NODE_RANK = "hwmetrics.node_rank"
WORLD_SIZE = "hwmetrics.world_size"

_LAUNCHERS: tuple[dict[str, str], ...] = (
    {RANK: "RANK", LOCAL_RANK: "LOCAL_RANK", NODE_RANK: "GROUP_RANK", WORLD_SIZE: "WORLD_SIZE"},
    {
        RANK: "OMPI_COMM_WORLD_RANK",
        LOCAL_RANK: "OMPI_COMM_WORLD_LOCAL_RANK",
        WORLD_SIZE: "OMPI_COMM_WORLD_SIZE",
    },
    {RANK: "PMI_RANK", LOCAL_RANK: "MPI_LOCALRANKID", WORLD_SIZE: "PMI_SIZE"},
    {RANK: "SLURM_PROCID", LOCAL_RANK: "SLURM_LOCALID", NODE_RANK: "SLURM_NODEID", WORLD_SIZE: "SLURM_NTASKS"},
    {NODE_RANK: "NODE_RANK", LOCAL_RANK: "LOCAL_RANK", WORLD_SIZE: "WORLD_SIZE"},
)
# The innermost launcher first: srun may start torchrun, and then each torchrun process carries srun's numbers, too. The
# last one is Lightning's, which tells no rank of the whole.

_COUNT = re.compile(r"[0-9]{1,9}")


def ranks(environ: Mapping[str, str]) -> dict[str, Attribute]:
    """The process's place in a distributed job, by the first launcher whose first variable is there; empty outside of one."""
    for variables in _LAUNCHERS:
        told = {key: environ.get(name, "") for key, name in variables.items()}
        place: dict[str, Attribute] = {key: int(text) for key, text in told.items() if _COUNT.fullmatch(text)}
        if next(iter(variables)) in place:
            return place
    return {}


def identity(environ: Mapping[str, str] | None = None) -> dict[str, Attribute]:
    """What tells this process from the others: pid, executable, ranks. One process, one value, for its whole life."""
    known: dict[str, Attribute] = {process_attributes.PROCESS_PID: os.getpid()}
    if sys.executable:  # an embedded interpreter has none
        known[process_attributes.PROCESS_EXECUTABLE_NAME] = os.path.basename(sys.executable)
    return known | ranks(os.environ if environ is None else environ)


def missing_from(resource: Mapping[str, object] | None) -> dict[str, Attribute]:
    """The part of `identity` that a Resource with these attributes (None: no Resource to be seen) does not tell."""
    known = resource or {}
    return {key: value for key, value in identity().items() if key not in known}
