# SPDX-License-Identifier: Apache-2.0
"""Which process of which job this is.

These facts belong to the Resource. They are taken from what launchers put into the environment, so nothing of the
training framework is imported, nor any scheduler asked. Where each launcher's words are told:

- torchrun, and with it ``accelerate launch``: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
- Ray Train, which sets torchrun's words but for NODE_RANK, on each worker, after it has started and before the training
  function: https://github.com/ray-project/ray/blob/master/python/ray/train/torch/config.py
- Open MPI: https://docs.open-mpi.org/en/main/tuning-apps/environment-var.html
- MPICH's and Intel's Hydra: https://github.com/pmodels/mpich/blob/main/doc/wiki/how_to/Using_the_Hydra_Process_Manager.md
- MVAPICH2, as Accelerate reads it: https://github.com/huggingface/accelerate/blob/main/src/accelerate/utils/environment.py
- LSF's jsrun: https://lightning.ai/docs/pytorch/stable/api/pytorch_lightning.plugins.environments.LSFEnvironment.html
- SLURM's srun, output environment variables: https://slurm.schedmd.com/srun.html
- Lightning: https://github.com/Lightning-AI/pytorch-lightning/blob/master/src/lightning/fabric/plugins/environments/lightning.py
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.semconv._incubating.attributes import process_attributes

if TYPE_CHECKING:
    # The SDK loads the resource detector in every process that a training starts, and this is the dearest part of it.
    from otel_hwmetrics.model import Attribute

RANK = "hwmetrics.rank"
LOCAL_RANK = "hwmetrics.local_rank"
NODE_RANK = "hwmetrics.node_rank"
WORLD_SIZE = "hwmetrics.world_size"
JOB_ID = "hwmetrics.job.id"
"""What the batch system, else the launcher, calls the job, in the notation of its own commands (``squeue``, ``bjobs``)."""

_LAUNCHERS: tuple[dict[str, str], ...] = (
    {RANK: "RANK", LOCAL_RANK: "LOCAL_RANK", NODE_RANK: "GROUP_RANK NODE_RANK", WORLD_SIZE: "WORLD_SIZE"},
    {
        RANK: "OMPI_COMM_WORLD_RANK",
        LOCAL_RANK: "OMPI_COMM_WORLD_LOCAL_RANK",
        WORLD_SIZE: "OMPI_COMM_WORLD_SIZE",
    },
    {
        RANK: "MV2_COMM_WORLD_RANK",
        LOCAL_RANK: "MV2_COMM_WORLD_LOCAL_RANK",
        WORLD_SIZE: "MV2_COMM_WORLD_SIZE",
    },
    {RANK: "JSM_NAMESPACE_RANK", LOCAL_RANK: "JSM_NAMESPACE_LOCAL_RANK", WORLD_SIZE: "JSM_NAMESPACE_SIZE"},
    {RANK: "PMI_RANK", LOCAL_RANK: "MPI_LOCALRANKID", WORLD_SIZE: "PMI_SIZE"},
    {RANK: "SLURM_PROCID", LOCAL_RANK: "SLURM_LOCALID", NODE_RANK: "SLURM_NODEID", WORLD_SIZE: "SLURM_NTASKS"},
    {NODE_RANK: "NODE_RANK", LOCAL_RANK: "LOCAL_RANK", WORLD_SIZE: "WORLD_SIZE"},
)
# Each by its words, where one thing has several the surer first. The innermost launcher first: srun may start torchrun,
# and then each torchrun process carries srun's numbers, too. The last one is Lightning's, which tells no rank of the whole.

_COUNT = re.compile(r"[0-9]{1,9}")


def ranks(environ: Mapping[str, str]) -> dict[str, Attribute]:
    """The process's place in a distributed job, by the first launcher whose first variable is there; empty outside of one.

    What that one does not tell is taken from a later one, if both give the process the same rank of as many: a library
    that srun starts by PMI has its words beside SLURM's.
    """
    place: dict[str, Attribute] = {}
    for words in _LAUNCHERS:
        told: dict[str, Attribute] = {
            key: number for key, names in words.items() if (number := _number(environ, names)) is not None
        }
        if not place and next(iter(words)) in told:
            place = told
        elif {RANK, WORLD_SIZE} <= told.keys() and all(place.get(key) == told[key] for key in (RANK, WORLD_SIZE)):
            place = {**told, **place}
    return place


def _number(environ: Mapping[str, str], names: str) -> int | None:
    """What the first of some variables says that is there, if it is a number."""
    text = next((environ[name] for name in names.split() if environ.get(name)), "")
    return int(text) if _COUNT.fullmatch(text) else None


class Job(NamedTuple):
    """A job, as what started it calls it.

    Attributes:
        by: Whose word it is: ``SLURM``, ``LSF``.
        id: In the notation of its commands.
        key: What no other job of theirs on a node has.
    """

    by: str
    id: str
    key: str


_NAME: Final = re.compile(r"[\w.\[\]@+=-]{1,128}")
"""What a job may be called: neither an address nor what cannot be shown."""
_NO_RUN: Final = "none"
"""What torchrun calls a run that nobody named."""
_RANDOM: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""What it calls a run of one node that nobody named (`uuid.uuid4`), as of PyTorch 2.13 without ``--standalone``, too:
https://github.com/pytorch/pytorch/blob/main/torch/distributed/run.py."""
_NO_RAY_JOB: Final = "ffffffff"
"""Of a worker of Ray's that was started before there was a job for it."""


def batch_job(environ: Mapping[str, str]) -> Job | None:
    """The job that a batch system has started this process in; None for none.

    Elements of a job array are jobs of their own. Where the words are told: https://slurm.schedmd.com/job_array.html,
    https://www.ibm.com/docs/en/spectrum-lsf/10.1.0?topic=variables-environment-set-job-execution (LSB_JOBINDEX is 0 outside
    of an array), qsub(1B) of OpenPBS (PBS_JOBID has the index in it), qsub(1) of Grid Engine, flux-environment(7).
    """
    get = environ.get
    if number := get("SLURM_JOB_ID"):
        # Each element has a number of its own, and what an element starts inherits the words of the array.
        array, task = get("SLURM_ARRAY_JOB_ID"), get("SLURM_ARRAY_TASK_ID")
        return Job("SLURM", f"{array}_{task}" if array and task else number, number)
    if number := get("LSB_JOBID"):
        index = get("LSB_JOBINDEX", "0")
        return _job("LSF", number + (f"[{index}]" if index not in ("", "0") else ""))
    if number := get("PBS_JOBID"):
        return _job("PBS", number)
    if (number := get("JOB_ID")) and (task := get("SGE_TASK_ID")):  # the first alone is a word that anybody may use
        return _job("Grid Engine", number + (f".{task}" if task != "undefined" else ""))
    if number := get("FLUX_JOB_ID"):
        return _job("Flux", number)
    return None


def _job(by: str, number: str) -> Job:
    return Job(by, number, number)


def job_id(environ: Mapping[str, str]) -> str:
    """What the job is called: by the batch system, else by torchrun, Ray or PMIx; empty where nobody does.

    The first that is a name: no address, no text, nothing that looks like a secret, nothing that torchrun made up.

    Of Kubernetes there is nothing: it tells a container its pod's name, and of the job at most the completion index
    (https://kubernetes.io/docs/tasks/job/indexed-parallel-processing-static/). Of Ray it is the job of the cluster, not the
    run of its trainer: RAY_JOB_ID, which a worker is started with
    (https://github.com/ray-project/ray/blob/master/src/ray/raylet/worker_pool.cc).
    """
    batch = batch_job(environ)
    names = (
        "" if batch is None else batch.id,
        _named_run(environ),
        _other_than(_NO_RAY_JOB, environ.get("RAY_JOB_ID", "")),
        environ.get("PMIX_NAMESPACE", ""),
    )
    return next(filter(_may_be_told, names), "")


def _may_be_told(name: str) -> bool:
    """Whether it can be shown, and nobody's key is in it."""
    if not _NAME.fullmatch(name):
        return False
    from otel_hwmetrics import redaction  # most processes that make a Resource are of no job

    return redaction.text(name) == name


def _named_run(environ: Mapping[str, str]) -> str:
    """What torchrun's run is called, if somebody named it. A random name of many nodes is somebody's: all have to know it."""
    name = _other_than(_NO_RUN, environ.get("TORCHELASTIC_RUN_ID", ""))
    return "" if _RANDOM.fullmatch(name) and (_number(environ, "GROUP_WORLD_SIZE") or 1) == 1 else name


def _other_than(nothing: str, name: str) -> str:
    return "" if name == nothing else name


_framework: Callable[[], Mapping[str, Attribute]] | None = None


def ask(framework: Callable[[], Mapping[str, Attribute]] | None) -> None:
    """Where no launcher tells a rank, ask a training framework for it each time; None to ask nobody.

    Args:
        framework: Gives what it knows by now, and waits for nothing. Called from any thread.
    """
    global _framework  # noqa: PLW0603 - a process has one place in one job
    _framework = framework


def identity(environ: Mapping[str, str] | None = None) -> dict[str, Attribute]:
    """What tells this process from the others: pid, executable, ranks, job.

    One value for a process's whole life, but where a launcher, or the training framework for want of one, tells a process
    its rank when that runs already.
    """
    environ = os.environ if environ is None else environ
    known: dict[str, Attribute] = {process_attributes.PROCESS_PID: os.getpid()}
    if sys.executable:  # an embedded interpreter has none
        known[process_attributes.PROCESS_EXECUTABLE_NAME] = os.path.basename(sys.executable)
    if name := job_id(environ):
        known[JOB_ID] = name
    place = ranks(environ)
    if not place and _framework is not None:
        place = dict(_framework())
    return known | place


def missing_from(resource: Mapping[str, object] | None) -> dict[str, Attribute]:
    """The part of `identity` that a Resource with these attributes (None: no Resource to be seen) does not tell."""
    known = resource or {}
    return {key: value for key, value in identity().items() if key not in known}
