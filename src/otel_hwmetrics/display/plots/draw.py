# SPDX-License-Identifier: Apache-2.0
"""Draws runs into a folder: a file a job, one of each figure that jobs are compared by, and a summary."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from otel_hwmetrics.descriptors import opened
from otel_hwmetrics.display.plots.gather import seen
from otel_hwmetrics.display.plots.overview import dashboard
from otel_hwmetrics.display.plots.picture import Heading, Picture, zone_at
from otel_hwmetrics.display.plots.timeline import Outline, of_figure, of_job, outline
from otel_hwmetrics.display.words import counted, when
from otel_hwmetrics.recording import RecordingError, Run
from otel_hwmetrics.recording.nouns import SUMMARY, Job

HTML: Final = "html"
_COMPARED: Final = {"cpu": "CPU of all jobs", "memory": "Memory of all jobs"}


@dataclass(frozen=True)
class Wish:
    """What is to be drawn, and how.

    Attributes:
        folder: Where files go.
        prefix: What their names begin with.
        form: ``html``, ``png`` or ``svg``.
        width: In pixels; of a page, how finely long runs are drawn.
        job_ids: Which jobs; empty for all.
    """

    folder: str = "."
    prefix: str = "resource_plot"
    form: str = HTML
    width: int = 1600
    job_ids: tuple[int, ...] = ()


class Subject(NamedTuple):
    """What of a run is drawn.

    Attributes:
        run: The run.
        start_ns: From when on; None for the beginning.
        end_ns: Until when; None for the end.
    """

    run: Run
    start_ns: int | None = None
    end_ns: int | None = None

    @property
    def partly(self) -> bool:
        """Whether it is not the whole run."""
        return self.start_ns is not None or self.end_ns is not None


class Drawn(NamedTuple):
    """A file that was written, or could not be.

    Attributes:
        path: Of it; empty where there was nothing to draw.
        what: Is to be seen in it; or why there is none.
    """

    path: str
    what: str


def draw(subjects: Sequence[Subject], wish: Wish) -> Iterator[Drawn]:
    """Draw all jobs of some runs, file by file.

    Args:
        subjects: One at least.
        wish: How.

    Raises:
        ImportError: What draws this format is not installed.
        RecordingError: There is no such job, or a file cannot be read.
        OSError: A file cannot be written.
    """
    paint = _painter(wish)
    chosen = _chosen(subjects, wish.job_ids)
    runs = [each.run for each in subjects]
    labels = _labels(chosen)
    os.makedirs(wish.folder, exist_ok=True)
    outlines: dict[str, list[Outline]] = {name: [] for name in _COMPARED}
    for (subject, job, jobs), label in zip(chosen, labels, strict=True):
        told = seen(subject.run, job, subject.start_ns, subject.end_ns, jobs)
        for name in _COMPARED:
            outlines[name] += [each] if (each := outline(name, label, told, wish.width)) is not None else []
        timeline = of_job(told, wish.width, subject.start_ns, subject.end_ns)
        if timeline is None:
            yield Drawn("", f"job {label}: {_why_none(subject)}")
        else:
            middle = f"_{_slug(subject.run.id)}" if len(runs) > 1 else ""
            yield _written(timeline, f"{wish.prefix}{middle}_job_{job.id}", f"job {label}", wish, paint)
    for name, title in _COMPARED.items():
        picture = of_figure(name, outlines[name], _heading(title, runs), elapsed=len(runs) > 1)
        if picture is not None:
            yield _written(picture, f"{wish.prefix}_{name}_all_jobs", title, wish, paint)
    partly = any(each.partly for each in subjects)
    notes = ("Figures are of whole jobs, also where a part of their time is drawn.",) if partly else ()
    jobs_by_label = [(label, job) for label, (_, job, _) in zip(labels, chosen, strict=True)]
    summary = dashboard(jobs_by_label, _heading("Summary", runs, notes))
    if summary.charts:
        yield _written(summary, f"{wish.prefix}_summary", "Summary of all jobs", wish, paint)
    else:
        yield Drawn("", "summary: nothing is known of these jobs")


def _painter(wish: Wish) -> Callable[[Picture, str], bytes]:
    """What draws a picture; loads no more than it needs."""
    if wish.form == HTML:
        from otel_hwmetrics.display.plots import interactive

        return lambda picture, name: interactive.draw(picture, name).encode("utf-8", "replace")
    from otel_hwmetrics.display.plots import still

    return lambda picture, _: still.draw(picture, wish.form, wish.width)


def _chosen(subjects: Sequence[Subject], job_ids: Sequence[int]) -> list[tuple[Subject, Job, list[Job]]]:
    """What is drawn, job by job, with all jobs of the run."""
    jobs = [(each, job, of_run) for each in subjects for of_run in [each.run.jobs()] for job in of_run]
    known = {job.id for _, job, _ in jobs}
    if missing := [each for each in job_ids if each not in known]:
        there = ", ".join(map(str, sorted(known))) or "none"
        names = ", ".join(f"run {each.run.name} ({each.run.id})" for each in subjects)
        raise RecordingError(f"There is no job {missing[0]} in {names}; there are: {there}.")
    return [each for each in jobs if not job_ids or each[1].id in job_ids]


def _labels(chosen: Sequence[tuple[Subject, Job, list[Job]]]) -> list[str]:
    """What each job is called, each otherwise."""
    names = {subject.run.id: subject.run.name for subject, _, _ in chosen}
    telling = len(set(names.values())) == len(names)
    return [
        (f"{subject.run.name if telling else subject.run.id[:8]} " if len(names) > 1 else "")
        + f"{job.id} {job.name}"
        + (f", rank {job.rank}" if job.rank is not None else "")
        for subject, job, _ in chosen
    ]


def _heading(title: str, runs: Sequence[Run], notes: tuple[str, ...] = ()) -> Heading:
    hosts = sorted({about.host for run in runs for about in run.abouts if about.host})
    began = [f"{each.name}, {when(each.started_ns, zone_at(each.started_ns))}" for each in runs[:4]]
    more = (f"and {counted(len(runs) - len(began), 'run')} more",) if len(runs) > len(began) else ()
    where = (", ".join(hosts[:4]) + (" …" if len(hosts) > 4 else ""),) if hosts else ()  # noqa: PLR2004 - as many as fit a line
    return Heading(title, (*(f"run {each}" for each in began), *more, *where), notes)


def _why_none(subject: Subject) -> str:
    if all(about.granularity == SUMMARY for about in subject.run.abouts):
        return "only its summary was recorded, nothing over time (record_granularity = summary)"
    return "no looks at it were recorded" + (" between --start and --end" if subject.partly else "")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "_", text)[:40] or "run"


def _written(picture: Picture, name: str, what: str, wish: Wish, paint: Callable[[Picture, str], bytes]) -> Drawn:
    """Write a file, which is there as a whole or not at all."""
    path = os.path.join(wish.folder, f"{name}.{wish.form}")
    beside = os.path.join(wish.folder, f".{name}.{os.getpid()}.tmp")
    drawn = paint(picture, name)
    try:
        with open(beside, "xb", opener=partial(opened, mode=0o666)) as file:
            file.write(drawn)
        os.replace(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise
    return Drawn(path, what)
