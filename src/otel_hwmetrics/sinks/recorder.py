# SPDX-License-Identifier: Apache-2.0
"""Records the run while it runs: samples, jobs, training spans, alerts, in one file of this process.

Whoever has something to tell puts it into a queue and goes on; a thread of ours writes it, one batch in one transaction.
What a kill can lose is what was told since the last one.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.util import Finalize
from typing import Any, Final, NamedTuple, cast

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import faults, guard
from otel_hwmetrics.model import Snapshot
from otel_hwmetrics.recording import Writer
from otel_hwmetrics.recording.nouns import RecordedFile, RecordedSpan
from otel_hwmetrics.sinks.base import Alert, dropped
from otel_hwmetrics.sinks.last_words import RECORDING
from otel_hwmetrics.sinks.nudge import Nudge
from otel_hwmetrics.sinks.recorder_choice import Choice
from otel_hwmetrics.sinks.recorder_file import RecordingFile
from otel_hwmetrics.sinks.recorder_jobs import JobLook, JobWatch
from otel_hwmetrics.sinks.recorder_spans import ended_span, files_of, recorded_alert, recorded_span
from otel_hwmetrics.sinks.rows import Row, Rows
from otel_hwmetrics.threads import Lasting
from otel_hwmetrics.windows import Sample

_logger = redaction.logger()

MOST_LOOKS: Final = 600
"""Looks that wait for the disk; of more the oldest are lost."""
MOST_OTHERS: Final = 10_000
"""Spans, and alerts and files, that wait for it; more are dropped."""
FIRST_AFTER: Final = 1.0
"""Seconds after which the first batch is written at the latest, so that there is a file to be seen."""
AT_EXIT: Final = 1.0
"""Seconds that the end of the interpreter waits for the last batch at most, where a disk hangs."""

_SPANS: Final = "recording a span"
_NOTING_A_SPAN: Final = guard(_SPANS)
_PASSING_ON: Final = guard("writing what is recorded")


class _Look(NamedTuple):
    number: int
    row: Row | None
    jobs: tuple[JobLook, ...]


class Recorder:
    """Takes what there is to record, and has it written. A sink of alerts, and the journal of training spans.

    `on_look` is called on the sampler's thread, `began`, `ended`, `on_alert` and `on_file` on any; none of them waits.

    Args:
        file: Where it is written.
        jobs: Watches the jobs.
        choice: Which series are recorded; None for none, as in a summary.
        batch: Seconds for which things are collected.
        packed: Packs samples, also for others that remember them.
        time_ns: The wall clock.
    """

    def __init__(  # noqa: PLR0913 - each is a different part of the world
        self,
        file: RecordingFile,
        jobs: JobWatch,
        *,
        choice: Choice | None,
        batch: float = 5.0,
        packed: Rows | None = None,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._file = file
        self._jobs = jobs
        self._of_jobs = threading.Lock()  # one thread at a time asks for them; none holds it for long
        self._choice = choice
        self._batch = batch
        self._packed = packed or Rows()
        self._time_ns = time_ns
        self._looks: deque[_Look] = deque(maxlen=MOST_LOOKS)
        self._given = 0
        self._taken = 0
        self._others: deque[Callable[[Writer], object]] = deque()
        self._files: set[str] = set()
        self._spans: dict[int, Callable[[], RecordedSpan]] = {}  # by their ids: a start that waits gives way to its end
        self._open: dict[int, RecordedSpan] = {}  # whose start is taken, and whose end must be
        self._lost_spans, self._told_of_lost = 0, False
        self._wake = Nudge()
        self._written = threading.Event()
        self._ending: int | None = None  # how it seems to end
        self._hurry = self._closing = False
        self._pid = os.getpid()
        self._life = Lasting("recorder", self._run, "the run is recorded no further")

    @property
    def path(self) -> str:
        """The file's; empty before there is one."""
        return self._file.path

    def start(self) -> None:
        """Begin to write. Called on the thread that instruments."""
        self._pid = os.getpid()
        self._life.start()
        atexit.register(self._at_exit)
        if multiprocessing.parent_process() is not None:
            # Such a process ends without what is registered above, but not without this.
            Finalize(None, self._at_exit, exitpriority=0)

    def on_look(self, sample: Sample, snapshot: Snapshot | None) -> None:
        """Record a look at the machine. Called on the sampler's thread."""
        if self._closing:
            return
        row = self._choice.of(self._packed.of(sample)) if self._choice is not None else None
        jobs: tuple[JobLook, ...] = ()
        if snapshot is not None:
            with guard("looking at the jobs that are recorded"), self._of_jobs:
                jobs = tuple(self._jobs.looked(snapshot))
        self._given += 1
        self._looks.append(_Look(self._given, row, jobs))
        self._life.check()

    def on_alert(self, alert: Alert) -> None:
        """Record an alert that is told of, and the files that it names."""
        told = recorded_alert(alert)
        if not self._other(lambda writer: writer.alert(told)):
            dropped["recorder", "queue_full"] += 1
        for kind, path in files_of(alert):
            self.on_file(alert.time_unix_nano, kind, path)

    def on_file(self, time_unix_nano: int, kind: str, path: str) -> None:
        """Record that there is, or will be, another file of the run: a ``flight`` recording, a ``profile``."""
        file = RecordedFile(time_unix_nano, kind, path.encode(errors="replace").decode())
        # Several alerts may share one; if there is no room for it now, there may be at the next.
        if path not in self._files and self._other(lambda writer: writer.file(file)):
            self._files = {*self._files, path}

    def began(self, span: Any) -> None:
        """Record that a training span has begun, with the attributes that it has by now. On its thread."""
        with _NOTING_A_SPAN:
            told = recorded_span(span, self._time_ns())
            if len(self._spans) < MOST_OTHERS:
                span_id = span.get_span_context().span_id
                self._open[span_id] = told
                self._keep(span_id, lambda: told)

    def ended(self, span: Any) -> None:
        """Record a training span that has ended and changes no more. On its thread."""
        span_id = span.get_span_context().span_id
        begun = self._open.pop(span_id, None)
        if begun is None and len(self._spans) >= MOST_OTHERS:
            self._lost_spans += 1
            faults[_SPANS] += 1
        else:  # an end alone that was lost would be a span without one
            self._keep(span_id, partial(ended_span, span, begun, self._time_ns()))

    def gone(self, span_id: int) -> None:
        """Record that a training span is no more, of whose end nobody told: this is its latest. On any thread.

        Python calls it in the middle of anything, so it does nothing that may wait.
        """
        begun = self._open.pop(span_id, None)
        if begun is not None:
            self._spans[span_id] = partial(replace, begun, ended_ns=self._time_ns())

    def flush(self, exit_code: int) -> None:
        """The job may be about to end: have all of it written, now. Waits for nothing; see `wait`.

        Args:
            exit_code: How it would, as subprocess has it.
        """
        self._ending = exit_code
        self._written.clear()
        self._hurry = True
        self._wake.set()

    def wait(self, timeout: float = RECORDING) -> None:
        """Wait until what `flush` asked for is done, ``timeout`` seconds at most."""
        self._written.wait(timeout)

    def close(self) -> None:
        """Have what waits written, and the file closed in good order. Never waits."""
        error = sys.exc_info()[1]
        if error is None and self._ending == 1:  # told of an exception: this may be on the way out of it
            error = _unhandled()
        self._close(_exit_code_of(error))

    def join(self, timeout: float) -> None:
        """Wait for that after `close`, ``timeout`` seconds at most; later it is done when the disk lets it."""
        self._life.join(timeout)

    def abandon(self) -> None:
        """Have no part in it, in a forked child."""
        self._closing = True
        atexit.unregister(self._at_exit)
        self._file.abandon()
        for waiting in (self._looks, self._others, self._spans, self._open):
            waiting.clear()

    def write(self, *, at_once: bool = False) -> bool:
        """Write a batch. Called on the thread that writes; True where all of it is written.

        Args:
            at_once: As `RecordingFile.ready` has it.
        """
        file = self._file
        writer = file.ready(at_once=at_once)
        if self._looks:
            file.missing += self._looks[0].number - self._taken - 1
            self._taken = self._looks[0].number - 1
        # While the disk refuses, things wait here, where there is a bound to them.
        if writer is None or (file.failing and not file.commit()):
            return False
        self._pass_on(writer)
        self._pass_spans_on(writer)
        return file.commit()

    def _close(self, exit_code: int | None) -> None:
        self._ending = exit_code  # a SIGTERM that was told of before did not end it
        self._closing = True
        self._wake.set()

    def _at_exit(self) -> None:
        if os.getpid() == self._pid:
            if not self._closing:
                self._close(_exit_code_of(sys.exc_info()[1] or _unhandled()))
            self._life.join(AT_EXIT)  # of one that was closed before, too: it may not be done yet

    def _other(self, task: Callable[[Writer], object]) -> bool:
        if len(self._others) >= MOST_OTHERS:
            return False
        self._others.append(task)
        return True

    def _keep(self, span_id: int, task: Callable[[], RecordedSpan]) -> None:
        """Have a span wait; where many do, they are written before their time."""
        self._spans[span_id] = task
        if len(self._spans) >= MOST_OTHERS // 4 and not self._file.failing:
            self._wake.set()

    def _pass_spans_on(self, writer: Writer) -> None:
        """Give the writer the spans that wait, and no more of them than it takes at once."""
        for _ in range(min(len(self._spans), MOST_OTHERS)):
            with _NOTING_A_SPAN:  # what a foreign span tells may be anything
                writer.span(self._spans.popitem()[1]())
        if self._lost_spans and not self._told_of_lost:
            self._told_of_lost = True
            _logger.warning(
                "Training spans are missing in the recording, %d by now; training is not affected: more ended than could be "
                "written. Let fewer be training spans (the options alert_spans and step_spans).",
                self._lost_spans,
            )

    def _pass_on(self, writer: Writer) -> None:
        """Give the writer what waits."""
        while self._looks:
            number, row, jobs = self._looks.popleft()
            self._taken = number
            if row is not None:
                with _PASSING_ON:
                    writer.look(row.time_unix_nano, row.series, row.values)
            with _PASSING_ON:
                _write_jobs(jobs, writer)
        while self._others:
            with _PASSING_ON:  # each for itself: behind it may be how the job ended
                self._others.popleft()(writer)

    def _run(self) -> None:
        pause = min(FIRST_AFTER, self._batch)
        while not self._closing:
            self._wake.wait(pause)
            self._wake.clear()
            pause = self._batch
            if self._closing:
                break
            hurry, self._hurry = self._hurry, False
            with guard("recording the run"):
                if hurry:
                    self._say_that_it_ends()
                self.write(at_once=hurry)
            if hurry:
                self._written.set()
        if os.getpid() == self._pid:
            with guard("ending a recording"):
                self._finish()
            self._written.set()
            atexit.unregister(self._at_exit)

    def _finish(self) -> None:
        writer = self._file.ready(at_once=True)
        if writer is None:
            return
        self._pass_on(writer)
        self._pass_spans_on(writer)
        self._say_that_it_ends()
        self._pass_on(writer)
        self._file.finish()

    def _say_that_it_ends(self) -> None:
        """Have each job told as it would be left, should this be the end."""
        with guard("telling how jobs end"), self._of_jobs:
            jobs = tuple(self._jobs.ended(self._time_ns(), self._ending))
            self._others.append(partial(_write_jobs, jobs))  # whatever waits already


def _write_jobs(jobs: tuple[JobLook, ...], writer: Writer) -> None:
    for job, sample, totals in jobs:
        writer.job(job)
        writer.sample(job.id, sample, totals)


def _unhandled() -> BaseException | None:
    """The exception that ends this process; None where there is none, or somebody types at it.

    https://docs.python.org/3/library/sys.html#sys.last_exc
    """
    if sys.flags.interactive or hasattr(sys, "ps1"):
        return None
    return cast("BaseException | None", getattr(sys, "last_exc", getattr(sys, "last_value", None)))


def _exit_code_of(error: BaseException | None) -> int | None:
    """How a process ends that an exception ends, as subprocess has it; None for none."""
    if error is None or isinstance(error, GeneratorExit):
        return None
    if isinstance(error, KeyboardInterrupt):
        return -signal.SIGINT
    if isinstance(error, SystemExit):
        code = error.code
        return 0 if code is None else code & 0xFF if isinstance(code, int) else 1  # what waitpid(2) gives of it
    return 1
