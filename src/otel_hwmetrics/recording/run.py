# SPDX-License-Identifier: Apache-2.0
"""A run: the files that its processes have written, read as one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from otel_hwmetrics.folders import folder as own_folder
from otel_hwmetrics.folders import host
from otel_hwmetrics.recording.nouns import (
    LOST,
    PARENT,
    RUNNING,
    About,
    Job,
    JobPart,
    JobSample,
    RecordedAlert,
    RecordedFile,
    RecordedSpan,
)
from otel_hwmetrics.recording.opening import RecordingError
from otel_hwmetrics.recording.reader import Recording

if TYPE_CHECKING:
    from typing_extensions import Self

SUFFIX: Final = ".run.db"
"""What recordings end in."""

SILENT: Final = 60.0
"""Seconds without a word, or three times as long as its writer collects for, after which a job that was not ended is lost."""
_ASKED_AFTER: Final = 3.0
"""So many times as long as its writer collects for nothing was heard: it is seen whether there is such a process."""
_ANOTHER: Final = 600_000_000_000
"""Nanoseconds of nothing between two runs that several nodes of torchrun have given one id: it is made of an address."""

LATEST: Final = "latest"

_Row = TypeVar("_Row")
_Told = TypeVar("_Told", RecordedSpan, RecordedAlert)


class RunFiles(NamedTuple):
    """A run in a folder.

    Attributes:
        run: What its files have in common.
        name: What people call it.
        started_ns: When the first of them began.
        paths: Its files, the launcher's first.
    """

    run: str
    name: str
    started_ns: int
    paths: tuple[str, ...]


class Run:
    """All files of one run.

    Args:
        paths: Of the files, one at least, all of one run.
        now_ns: The time by which who was heard of too long ago is lost; the wall clock's by default.

    Raises:
        RecordingError: One cannot be read.

    Attributes:
        recordings: The files, the launcher's first, then by rank.
    """

    def __init__(self, paths: Sequence[str], now_ns: int | None = None) -> None:
        self._now_ns = time.time_ns() if now_ns is None else now_ns
        opened: list[Recording] = []
        try:
            for path in paths:
                opened.append(Recording(path))  # noqa: PERF401 - those that are open are closed, should one fail
        except BaseException:
            for recording in opened:
                recording.close()
            raise
        self.recordings: tuple[Recording, ...] = tuple(sorted(opened, key=lambda each: _place(each.about)))
        self._places: dict[int, tuple[list[Recording], int]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        for recording in self.recordings:
            recording.close()

    @property
    def abouts(self) -> tuple[About, ...]:
        """Who wrote it, in the order of the files."""
        return tuple(recording.about for recording in self.recordings)

    @property
    def id(self) -> str:
        """What all its files have in common."""
        return self.recordings[0].about.run

    @property
    def name(self) -> str:
        """What people call it."""
        return self.recordings[0].about.name

    @property
    def tags(self) -> dict[str, str]:
        """Words of the user's, of all files together."""
        return {key: value for about in reversed(self.abouts) for key, value in about.tags.items()}

    @property
    def started_ns(self) -> int:
        """When the first of its writers began."""
        return min(about.started_ns for about in self.abouts)

    @property
    def heard_ns(self) -> int:
        """When the last was written."""
        return max(about.heard_ns for about in self.abouts)

    @property
    def ended_ns(self) -> int | None:
        """When the last of its writers ended in good order, the launcher where there is one; None while one runs or is lost."""
        last = [files[-1].about for files in self._writers()]
        ends = [about.ended_ns for about in last if about.role == PARENT] or [each.ended_ns for each in last]
        return None if None in ends else max(end for end in ends if end is not None)

    def jobs(self) -> list[Job]:
        """The jobs, as the launchers saw them; of a run without one, each process that has recorded itself.

        Their numbers are those of the file, if it is one launcher's, or of one process; else from 1 on, in the order of the files.
        """
        jobs: list[Job] = []
        self._places = {}
        writers = self._writers()
        sources = [files for files in writers if files[0].about.role == PARENT] or writers
        for files in sources:
            latest = {job.id: (job, recording.about) for recording in files for job in recording.jobs()}
            for job, about in latest.values():
                number = job.id if len(sources) == 1 else len(jobs) + 1
                self._places[number] = (files, job.id)
                jobs.append(self._standing(replace(job, id=number), about))
        return jobs

    def _writers(self) -> list[list[Recording]]:
        """The files by their writer: one that lost its file has gone on in another, with what its jobs came to before."""
        found: dict[tuple[object, ...], list[Recording]] = {}
        for recording in self.recordings:
            about = recording.about
            found.setdefault((about.role, about.host, about.pid, about.rank), []).append(recording)
        return list(found.values())

    def job_samples(self, job_id: int, start_ns: int | None = None, end_ns: int | None = None) -> list[JobSample]:
        """The looks at a job, by their time.

        Args:
            job_id: Its number, as `jobs` has it.
            start_ns: None for the first.
            end_ns: None for the last; it is included.

        Raises:
            RecordingError: There is no such job.
        """
        files, number = self._place_of(job_id)
        return [sample for recording in files for sample in recording.job_samples(number, start_ns, end_ns)]

    def job_parts(self, job_id: int, start_ns: int, end_ns: int, parts: int) -> list[JobPart]:
        """What a job did over parts of a stretch of time; see `Recording.job_parts`. Of each file for itself.

        Args:
            job_id: Its number, as `jobs` has it.
            start_ns: Where the first part begins.
            end_ns: Where the last part ends.
            parts: How many there are.

        Raises:
            RecordingError: There is no such job.
        """
        files, number = self._place_of(job_id)
        return [part for recording in files for part in recording.job_parts(number, start_ns, end_ns, parts)]

    def spans(self) -> list[RecordedSpan]:
        """The training spans of all files, by their beginning, each with the host and the rank of who wrote it."""
        return self._joined(
            lambda each: _told_by(each.about, each.spans()), lambda span: (span.started_ns, span.span_id)
        )

    def alerts(self) -> list[RecordedAlert]:
        """The alerts that were told of, of all files, by their time, each with the host and the rank of who wrote it."""
        return self._joined(lambda each: _told_by(each.about, each.alerts()), lambda alert: alert.at_ns)

    def files(self) -> list[RecordedFile]:
        """Other files of the run, by their time."""
        return self._joined(Recording.files, lambda file: file.at_ns)

    def _joined(self, rows: Callable[[Recording], Iterable[_Row]], key: Callable[[_Row], object]) -> list[_Row]:
        found = [row for recording in self.recordings for row in rows(recording)]
        return sorted(found, key=key)  # type: ignore[arg-type] # each orders its own

    def _place_of(self, job_id: int) -> tuple[list[Recording], int]:
        if self._places is None:
            self.jobs()
        places = self._places or {}
        if job_id not in places:
            known = ", ".join(map(str, places)) or "none"
            raise RecordingError(f"There is no job {job_id} in run {self.id}; there are: {known}.")
        return places[job_id]

    def _standing(self, job: Job, about: About) -> Job:
        """A job that is called running, of which nothing can be heard any more, is lost."""
        if job.state != RUNNING:
            return job
        silence, usual = (self._now_ns - about.heard_ns) / 1e9, max(about.interval, about.batch)
        lost = silence > max(SILENT, _ASKED_AFTER * usual) or (silence > _ASKED_AFTER * usual and _is_gone(about))
        return replace(job, state=LOST) if about.ended_ns is not None or lost else job


def _told_by(about: About, rows: Iterable[_Told]) -> Iterator[_Told]:
    return (replace(row, host=about.host, rank=about.rank) for row in rows)


def _is_gone(about: About) -> bool:
    """Whether it is known that its writer lives no longer: it was on this machine, and there is no such process."""
    if about.host != host() or about.pid <= 0 or os.name != "posix":
        return False
    try:
        os.kill(about.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _place(about: About) -> tuple[object, ...]:
    return (about.role != PARENT, -1 if about.rank is None else about.rank, about.started_ns, about.pid)


def find_runs(folder: str | None = None) -> list[RunFiles]:
    """The runs in a folder, the newest first; files that cannot be read are passed over.

    Args:
        folder: Where; by default where recordings go that no option ``directory`` sends elsewhere.
    """
    runs: dict[str, list[tuple[About, str]]] = {}
    for path in _paths(_folder(folder)):
        with suppress(RecordingError), Recording(path) as recording:
            runs.setdefault(recording.about.run, []).append((recording.about, path))
    found = []
    for run, files in runs.items():
        for part in _apart(files) if run.startswith("torch-") else [files]:
            part.sort(key=lambda each: _place(each[0]))
            started = min(about.started_ns for about, _ in part)
            found.append(RunFiles(run, part[0][0].name, started, tuple(path for _, path in part)))
    return sorted(found, key=lambda each: each.started_ns, reverse=True)


def _apart(files: list[tuple[About, str]]) -> Iterator[list[tuple[About, str]]]:
    """Files of one id whose times are far from each other: of one run after the other."""
    part: list[tuple[About, str]] = []
    heard = 0
    for about, path in sorted(files, key=lambda each: each[0].started_ns):
        if part and about.started_ns > heard + _ANOTHER:
            yield part
            part, heard = [], 0
        part.append((about, path))
        heard = max(heard, about.heard_ns)
    if part:
        yield part


def open_run(which: str = LATEST, folder: str | None = None) -> Run:
    """Open a run.

    Args:
        which: ``latest``; a file, for the run that it is a part of; a folder, for the latest in it; else the beginning of a
            run's id, or a run's name, and of several the latest.
        folder: Where runs are looked for by id or name; by default as for `find_runs`.

    Raises:
        RecordingError: There is none such, or it cannot be read.
    """
    if os.path.isdir(which):
        return _latest(which)
    if os.path.isfile(which):
        Recording(which).close()  # should it be no recording, that is said
        path = os.path.abspath(which)
        beside = (each.paths for each in find_runs(os.path.dirname(path)) if path in each.paths)
        return Run(next(beside, (which,)))
    if which == LATEST:
        return _latest(folder)
    runs = find_runs(folder)
    found = [each for each in runs if each.run == which] or [
        each for each in runs if each.run.startswith(which) or each.name == which
    ]
    if not found:
        where = _folder(folder)
        raise RecordingError(
            f"There is no run {which!r} in {where}, nor such a file: `otel-hwmetrics report --list` shows all."
        )
    if len({each.run for each in found if each.name != which}) > 1:
        raise RecordingError(f"Several runs begin with {which!r}: {', '.join(each.run for each in found)}.")
    return Run(found[0].paths)


def _latest(folder: str | None) -> Run:
    runs = find_runs(folder)
    if not runs:
        where = _folder(folder)
        raise RecordingError(
            f"There are no recordings in {where}: `otel-hwmetrics run -- COMMAND` makes one, or the option 'record'."
        )
    return Run(runs[0].paths)


def _folder(folder: str | None) -> str:
    if folder is not None:
        return folder
    found = own_folder()
    if found is None:
        raise RecordingError("No folder of this user's for recordings can be found: name one.")
    return found.path


def _paths(folder: str) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordingError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    yield from (os.path.join(folder, name) for name in sorted(names) if name.endswith(SUFFIX))
