# SPDX-License-Identifier: Apache-2.0
"""The flight recorder: the last minute of samples and alerts, written to a file when something went badly wrong.

What it remembers is two tuples that are never changed, only replaced as a whole, and by the sampler's thread alone. So
any other thread has it by reading an attribute: also a signal's handler that has interrupted the sampler or the
training in the middle of anything. There is no lock here, and nothing that takes one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping

from opentelemetry.semconv._incubating.attributes import host_attributes, process_attributes

from otel_hwmetrics import __version__, redaction
from otel_hwmetrics._guard import faults
from otel_hwmetrics.alerts.rule import Severity, State
from otel_hwmetrics.alerts.transition import Transition
from otel_hwmetrics.folders import Folder, file_name, host
from otel_hwmetrics.ranks import identity
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.sinks.flight_file import SUFFIX, Stacks, lines
from otel_hwmetrics.sinks.rows import Row, Rows
from otel_hwmetrics.windows.samples import Sample

_logger = redaction.logger()

MOST_ROWS = 3600
"""Samples that are remembered, however long ago the first of them may be."""
MOST_TRANSITIONS = 500
"""Steps of alerts that are remembered."""
MOST_FILES = 10
"""Files that alerts make in a run."""
PAUSE = 60.0
"""Seconds for which further alerts go into the file of the first one, which is then written anew."""

_Step = tuple[float, Transition]
"""A step of an alert, and when it was told of, in seconds of the monotonic clock."""


class _File:
    """A file that alerts' events name, and what was known when the last of them did.

    Attributes:
        name: What it is called.
        began: When the first alert came, in seconds of the monotonic clock.
        told: The first alert, for the header.
        cause: The step of the last alert.
        rows: Samples, from a minute before the first alert to the last one.
        steps: Steps of alerts, likewise.
        stacks: Where threads stood at the alerts that tell of it.
        written: With which header and steps it was last; None before it was.
    """

    __slots__ = ("began", "cause", "name", "rows", "stacks", "steps", "told", "written")

    def __init__(self, name: str, began: float, cause: Transition) -> None:
        self.name = name
        self.began = began
        self.told: dict[str, object] = {}
        self.cause = cause
        self.rows: tuple[Row, ...] = ()
        self.steps: tuple[_Step, ...] = ()
        self.stacks: list[Stacks] = []
        self.written: tuple[Mapping[str, object], list[Transition]] | None = None

    def take(self, cause: Transition, rows: tuple[Row, ...], steps: tuple[_Step, ...]) -> None:
        """One more alert, and what is remembered by now; what was known before stays."""
        last = self.rows[-1].at if self.rows else float("-inf")
        known = {id(step) for _, step in self.steps}
        self.rows = (*self.rows, *(row for row in rows if row.at > last))
        self.steps = (*self.steps, *(step for step in steps if id(step[1]) not in known))
        self.cause = cause


class FlightRecorder:
    """Remembers what was, and writes it.

    The sampler's thread gives each sample to `on_sample`, then each step of an alert to `on_transition`; then it asks
    `path_for` which file an alert's event is to name, and passes the alert on to `on_alert` through a `Background`.
    In a forked child nothing is written: it would be its parent's story.

    Args:
        seconds: How much of the past is remembered; 0 for nothing, and then no file is written.
        folder: Where the files go; None for nowhere.
        packed: Packs samples, also for others that remember them.
        monotonic: Seconds that never go back.
        time_ns: The wall clock, in nanoseconds since the epoch.
    """

    def __init__(
        self,
        seconds: float,
        folder: Folder | None,
        *,
        packed: Rows | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._seconds = seconds
        self._folder = folder if seconds > 0 else None
        self._packed = packed or Rows()
        self._monotonic = monotonic
        self._time_ns = time_ns
        self._pid = os.getpid()
        self._started = time_ns()
        self._rows: tuple[Row, ...] = ()
        self._steps: tuple[_Step, ...] = ()
        self._promises: dict[int, _File] = {}  # by the step of the alert whose event names it
        self._kept: tuple[Transition, _File] | None = None  # the last promise, if its workers may be asked
        self._file: _File | None = None  # the last one, while further alerts go into it
        self._files = 0

    @property
    def _writes(self) -> Folder | None:
        """Where to, if at all."""
        return self._folder if os.getpid() == self._pid else None

    def on_sample(self, sample: Sample) -> None:
        """Remember where every series stands. Called on the sampler's thread, once a second."""
        if self._folder is None:
            return
        rows = self._rows
        if self._file is not None and self._monotonic() - self._file.began >= PAUSE:
            self._file = None
        row = self._packed.of(sample)
        begin = max(0, len(rows) - MOST_ROWS + 1)
        while begin < len(rows) and rows[begin].at < sample.at - self._seconds:
            begin += 1
        self._rows = (*rows[begin:], row)

    def on_transition(self, transition: Transition) -> None:
        """Remember a step of an alert, whether people are told of it or not. Called on the sampler's thread."""
        if self._folder is not None:
            self._steps = (*self._steps[-MOST_TRANSITIONS + 1 :], (self._monotonic(), transition))

    def path_for(self, alert: Alert) -> str | None:
        """The file that will tell of an alert that begins to fire, known before it is written.

        Called on the sampler's thread; the disk is not touched. What is remembered now is what will be written.

        Returns:
            None where there is none: the alert is not critical, there were enough files, recording is off. An alert
            that comes less than `PAUSE` after another's file has that one's, which goes on to this one then.
        """
        step = alert.transition
        folder = self._writes
        if folder is None or alert.severity is not Severity.CRITICAL or step.state is not State.FIRING or step.blind:
            return None
        now = self._monotonic()
        if self._file is None or now - self._file.began >= PAUSE:
            if self._files >= MOST_FILES:
                return None
            self._file = _File(file_name(alert.name, SUFFIX, step.time_unix_nano), now, step)
            self._files += 1
        self._file.take(step, self._rows, self._steps)
        self._promises[id(step)] = self._file
        return folder / self._file.name

    def on_alert(self, alert: Alert) -> None:
        """Write the file that was promised for it, if one was. Called on a thread that may wait for a disk."""
        step = alert.transition
        file = self._promises.pop(id(step), None)
        if file is None:
            return
        self._kept = (step, file) if alert.stacks else None
        if alert.stacks:
            file.stacks.append(Stacks(step.time_unix_nano, alert.name, "process", alert.stacks))
        if not file.told:
            file.told = {
                "rule": alert.name,
                "time_unix_nano": step.time_unix_nano,
                "attributes": dict(alert.attributes),
            }
            if alert.known_span is not None:
                file.told |= {"trace_id": alert.trace_id, "span_id": alert.span_id}
        if file.cause is not step:
            return  # that one comes next, and writes all of it
        steps = {id(each): each for _, each in self._since(file.rows, file.steps)}
        # Those of the same look that were told of later than it.
        steps |= {id(each): each for _, each in self._steps if each.time_unix_nano == step.time_unix_nano}
        steps[id(step)] = step
        header = self._header(str(file.told["rule"])) | {"alert": file.told}
        file.written = header, list(steps.values())
        self._write(file.name, header, file.rows, file.written[1], file.stacks)

    def on_workers(self, alert: Alert, stacks: str) -> None:
        """Add where workers stood to the file of the alert that came last, if it has one. On the thread of `on_alert`."""
        step, file = self._kept or (None, None)
        if step is not alert.transition or file is None:
            return
        file.stacks.append(Stacks(alert.time_unix_nano, alert.name, "workers", stacks))
        if file.written is not None:  # else an alert comes next that writes all of it
            self._write(file.name, file.written[0], file.rows, file.written[1], file.stacks)

    def flush(self, reason: str, exception: str = "", stacks: str = "") -> str | None:
        """Write what is remembered, now and on this thread: any one, also when a signal has interrupted it.

        It waits for the disk as long as that takes to accept a megabyte, which is no time but where a network's file
        system hangs; who cannot wait calls it on a thread (`otel_hwmetrics.sinks.last_words.LastWords`).

        Args:
            reason: Why, in a word for the file's name and its header.
            exception: The type of the exception that ends the job.
            stacks: Where the threads of the job stand.

        Returns:
            The file's path; None where nothing is remembered or the file could not be written.
        """
        rows, steps = self._rows, self._steps
        if not rows and not steps:
            return None
        header = self._header(reason) | ({"exception": exception} if exception else {})
        now = self._time_ns()
        told = [Stacks(now, reason, "process", stacks)] if stacks else []
        return self._write(
            file_name(reason, SUFFIX, now), header, rows, [step for _, step in self._since(rows, steps)], told
        )

    def _since(self, rows: tuple[Row, ...], steps: Iterable[_Step]) -> Iterable[_Step]:
        """The steps that are not older than the oldest sample."""
        oldest = rows[0].at if rows else float("-inf")
        return (step for step in steps if step[0] >= oldest)

    def _header(self, reason: str) -> dict[str, object]:
        """Who writes, when and why. Of the command line the program alone: arguments may hold secrets."""
        who = {host_attributes.HOST_NAME: host(), **identity()}
        if command := next(iter(getattr(sys, "argv", ())), ""):
            who[process_attributes.PROCESS_COMMAND] = redaction.text(command)
        return {
            "package_version": __version__,
            "reason": reason,
            "resource": who,
            "seconds": self._seconds,
            "started_unix_nano": self._started,
            "time_unix_nano": self._time_ns(),
            "monotonic": self._monotonic(),
        }

    def _write(
        self,
        name: str,
        header: Mapping[str, object],
        rows: tuple[Row, ...],
        steps: Iterable[Transition],
        stacks: Iterable[Stacks],
    ) -> str | None:
        folder = self._writes
        if folder is None:
            return None
        try:
            with folder.new(name) as file:
                file.writelines(lines(header, rows, steps, stacks))
        except OSError as error:
            faults["writing a flight recording"] += 1
            _logger.warning("No flight recording %s, training is not affected: %s", folder / name, error)
            return None
        folder.prune(SUFFIX)
        return folder / name
