# SPDX-License-Identifier: Apache-2.0
"""What the files of one run have in common: its id, which each of its processes finds by itself."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from typing import Final

from otel_hwmetrics.ranks import batch_job

LONGEST: Final = 48
"""Characters of a run's id at most, each of them a letter, a digit or one of ``._-``."""

_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_RUN_OF_TORCH: Final = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
_BOOT: Final = "/proc/sys/kernel/random/boot_id"


def run_id(environ: Mapping[str, str], proc: str = "/proc") -> str:
    """The id of the run that this process is a part of; the same in all that one launcher has started together.

    By the batch system's number of the job, with the step and how often it was begun again; else by what torchrun or PMIx
    call it; else a random one, which nobody else can know.

    SLURM's words: https://slurm.schedmd.com/srun.html and https://slurm.schedmd.com/sbatch.html, output environment
    variables; torchrun's: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables.

    Args:
        environ: The process's environment.
        proc: Where the kernel shows processes.
    """
    if batch := batch_job(environ):
        step = environ.get("SLURM_STEP_ID", "") if batch.by == "SLURM" else ""
        restarts = environ.get("SLURM_RESTART_COUNT", "") if batch.by == "SLURM" else ""
        parts = (f"{batch.by.partition(' ')[0].lower()}-{batch.key}", *([step] if step else []))
        return _plain(".".join(parts) + (f"-r{restarts}" if restarts not in ("", "0") else ""))
    if "TORCHELASTIC_RUN_ID" in environ:
        words = [environ.get(name, "") for name in _RUN_OF_TORCH]
        # On one node all have the same parent. On several nothing more is known in common.
        if environ.get("GROUP_WORLD_SIZE", "1") == "1":
            words += _parent(proc)
        return f"torch-{_hashed(words)}"
    if name := environ.get("PMIX_NAMESPACE"):
        return f"mpi-{_hashed([name, environ.get('PMIX_SERVER_URI', '')])}"
    return os.urandom(4).hex()


def _parent(proc: str) -> list[str]:
    """What no other process than the parent has had; nothing where the kernel does not tell."""
    number = os.getppid()
    try:
        with open(f"{proc}/{number}/stat", "rb") as file:
            began = file.read().rpartition(b")")[2].split()[19].decode()  # starttime, proc_pid_stat(5)
        with open(_BOOT, encoding="ascii") as file:
            return [file.read().strip(), str(number), began]
    except (OSError, ValueError, IndexError):
        return [str(number)]


def _hashed(words: list[str]) -> str:
    return f"{zlib.crc32(chr(0).join(words).encode('utf-8', 'replace')):08x}"


def _plain(text: str) -> str:
    return _ODD.sub("_", text)[:LONGEST].strip("._-") or "run"
