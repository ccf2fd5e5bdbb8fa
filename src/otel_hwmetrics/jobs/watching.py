# SPDX-License-Identifier: Apache-2.0
"""The jobs of a plan as they are recorded, and the monitor that watches them: all that may fail while the jobs run on.

What watches is loaded when there is something to be watched: where Python lacks a part of it, as sqlite3, the jobs run on, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import Config
from otel_hwmetrics.folders import host
from otel_hwmetrics.jobs.children import Child, Ending
from otel_hwmetrics.jobs.gpus import NO_GPU, VARIABLES, GpuLists, Visible, visible_to
from otel_hwmetrics.jobs.spec import JobSpec
from otel_hwmetrics.ranks import RANK, ranks
from otel_hwmetrics.recording.nouns import WAITING, Job, Request


def as_recorded(
    jobs: Sequence[JobSpec], environ: Mapping[str, str], *, every_gpu: bool = False
) -> list[tuple[Job, Visible]]:
    """The jobs before they begin, each with the GPUs that it may use.

    What nobody asked for one job is what the launcher itself was given; of several jobs, each has but a part of that, which
    nobody knows.

    Args:
        jobs: All of them.
        environ: The launcher's environment.
        every_gpu: Whether every GPU of the machine is looked at.
    """
    from otel_hwmetrics.recording.requests import Bounds, joined, requested
    from otel_hwmetrics.sinks.recorder_own_job import command_line
    from otel_hwmetrics.sources.linux.cgroup import bounds

    given = requested(environ, Bounds(*bounds())) if len(jobs) == 1 else Request()
    rank = ranks(environ).get(RANK)
    return [
        (
            Job(
                id=number,
                name=job.name,
                command=command_line(job.command) if not job.as_text else command_text(job.command[0]),
                state=WAITING,
                request=joined(job.request, given),
                tags=job.tags,
                blocked_by=job.blocked_by,
                host=host(),
                rank=rank if isinstance(rank, int) else None,
            ),
            # Where nothing tells whose a GPU is, it is not of a job that needs none.
            NO_GPU if job.request.gpus == 0 else visible_to(job.environ, environ, every=every_gpu),
        )
        for number, job in enumerate(jobs, 1)
    ]


def command_text(text: str) -> str:
    """A command that a shell reads, without its secrets."""
    return redaction.text(text)[:2000]


class Watching:
    """Watches the jobs of a plan; whatever fails of it, nothing is raised.

    Args:
        jobs: All of them, numbered from 1 on.
        config: Every option.
        environ: The launcher's environment.
        judges: Whether alerts are judged.
    """

    def __init__(self, jobs: Sequence[JobSpec], config: Config, environ: Mapping[str, str], *, judges: bool) -> None:
        from otel_hwmetrics.jobs.monitor import Monitor
        from otel_hwmetrics.jobs.watch import Watch

        lists = GpuLists()
        if any(name in job.environ for job in jobs for name in VARIABLES):  # GPUs of theirs may be none of ours
            config = replace(config, gpus="all")
        self._watch = Watch(as_recorded(jobs, environ, every_gpu=config.gpus == "all"), lists)
        self._monitor = Monitor(config, self._watch, lists, judges=judges)

    def begin(self, number: int, child: Child) -> None:
        """A job has begun."""
        with guard("watching a job begin"):
            self._watch.begin(number, child)

    def look(self) -> None:
        """Look at young jobs."""
        with guard("looking at young jobs"):
            self._watch.look()

    def last_look(self, numbers: Iterable[int]) -> None:
        """Look at jobs that have ended, before they are let go of."""
        with guard("looking at jobs that have ended"):
            self._watch.last_look(numbers)

    def end(self, number: int, ending: Ending) -> None:
        """A job has ended."""
        with guard("watching a job end"):
            self._watch.end(number, ending)

    def skip(self, number: int, *, code: int | None = None) -> None:
        """A job will not begin; with an exit code, since it cannot."""
        with guard("noting a job that is not begun"):
            self._watch.skip(number, failed=code is not None, code=code)

    @property
    def recording(self) -> str:
        """The file that was written; empty for none."""
        return self._monitor.recording

    def stop(self) -> None:
        """Have all of it written."""
        with guard("ending the watch"):
            self._monitor.stop()
