# SPDX-License-Identifier: Apache-2.0
"""A PyTorch profile of the moment in which an alert fired: of the next steps, and what the GPU's memory holds.

A profiler has to be started and stopped on the same thread of the training, between two steps, so the step clock is asked
to call. It keeps all that it records in memory; so it is stopped where steps stand still, too, lest it records a whole
evaluation. PyTorch is never imported here: a job that has not loaded it has nothing to profile.

Sources: https://docs.pytorch.org/docs/stable/profiler.html; for the snapshot of memory, which
https://docs.pytorch.org/memory_viz shows, https://docs.pytorch.org/docs/stable/torch_cuda_memory.html.
"""

from __future__ import annotations

import contextlib
import operator
import os
import pickle
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from otel_hwmetrics import redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.alerts.rule import State
from otel_hwmetrics.folders import Folder, file_name
from otel_hwmetrics.sinks.base import Alert
from otel_hwmetrics.stepclock import StepClock

_logger = redaction.logger()

TRACE, MEMORY = ".trace.json", ".memory.pickle"
"""What the files end in: a trace for https://ui.perfetto.dev, a snapshot for https://docs.pytorch.org/memory_viz."""
PATIENCE = 300.0
"""Seconds that a profile waits for a step to end; a training that hangs must not keep the next alert from its own."""
LONGEST = 300.0
"""Seconds after which a profile that records is over when the step clock next calls, however few steps it has: a
loop of calls of `step` is not seen to end."""
TRIES = 3
"""How often a profile begins: one in which no step ended before they stood still begins again with the next step."""
MOST_STEPS = 1000
"""Of how many steps a profile can be."""


class Profile:
    """One profile, from its request to its files. Started and stopped on one thread of the training.

    Args:
        name: Of the trace's file in the folder.
        steps: Of how many; fewer where they stand still before, or take too long.
        clock: Calls between steps.
        done: Called once when it is over, whatever came of it; on any thread.

    Attributes:
        begun: Whether a profiler was started for it, and recorded what is, or will be, in its files.
    """

    def __init__(
        self, folder: Folder, name: str, steps: int, clock: StepClock, done: Callable[[Profile], None]
    ) -> None:
        self.begun = False
        self._requested = time.monotonic()
        self._folder = folder
        self._name = name
        self._steps = steps
        self._clock = clock
        self._done = done
        self._given_up = False
        self._on = self._recording = False  # the profiler; and whether it is ours to stop: not while it starts or stops
        self._ended = 0
        self._tries = TRIES
        self._until = 0.0
        self._thread = threading.current_thread()
        self._profiler: Any = None
        self._torch: Any = None

    @property
    def path(self) -> str:
        """Of the trace."""
        return self._folder / self._name

    @property
    def lost(self) -> bool:
        """Whether nothing will come of it: it waits in vain for a step, or its thread is gone. From any thread."""
        if self.begun:
            return self._recording and not self._thread.is_alive()
        return time.monotonic() - self._requested > PATIENCE

    def request(self) -> None:
        """Have it begin with the next step. From any thread."""
        self._clock.at_next_step(self._begin)

    def give_up(self) -> None:
        """Do not begin any more; what records ends now if this is its thread, else when that is next called back."""
        self._given_up = True
        if self._recording and self._thread is threading.current_thread():
            with guard("ending a profile", lambda _: self._done(self)), self._off_at_a_fault():
                self._end()

    def _begin(self) -> None:
        if self._given_up:
            return
        with guard("starting a profile", lambda _: self._done(self)), self._off_at_a_fault():
            self._torch = torch = sys.modules["torch"]
            # PyTorch's profiler is one for the process. A second one is not refused, it takes the first one's place.
            if getattr(torch.autograd.profiler, "_is_profiler_enabled", False):
                self._not_made("the job is profiling itself")
                return
            activities = [torch.profiler.ProfilerActivity.CPU]
            if _on_cuda(torch):
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._thread = threading.current_thread()
            self._profiler = torch.profiler.profile(activities=activities, profile_memory=True)
            self._on = True  # before it is: what fails halfway has to be switched off, too
            self._profiler.start()
            self.begun = self._recording = True
            self._until = time.monotonic() + LONGEST
            self._tries -= 1
            self._wait()

    def _wait(self) -> None:
        self._clock.at_next_step(self._step, lambda still: self._between(still=still))

    def _step(self) -> None:
        """A step has ended, on whatever thread."""
        if self._called_in_vain():
            return
        with guard("going on with a profile", lambda _: self._done(self)), self._off_at_a_fault():
            self._ended += 1
            if self._ended < self._steps and not self._overdue():
                self._wait()
            else:
                self._end()

    def _between(self, *, still: bool) -> None:
        """A loop is over, or a phase begins or ends, on whatever thread; none in which a step could end, if ``still``."""
        if self._called_in_vain():
            return
        with guard("going on with a profile", lambda _: self._done(self)), self._off_at_a_fault():
            if not still and not self._overdue():
                self._wait()
            elif self._ended or not self._tries or self._overdue():
                self._end()
            else:
                self._stop()
                self.begun = False
                self.request()

    def _called_in_vain(self) -> bool:
        """Whether this is not its thread, which alone can stop it, or it is over already."""
        if self._recording and self._thread is not threading.current_thread():
            if self._thread.is_alive():
                self._wait()
            else:
                self._recording = False
                self._done(self)
            return True
        return not self._recording

    def _overdue(self) -> bool:
        return self._given_up or time.monotonic() > self._until

    def _end(self) -> None:
        """Stop, and write what there is."""
        self._stop()
        if not self._ended and self._given_up:
            self._not_made("it was stopped before a step had ended")
            return
        memory = self._torch.cuda.memory._snapshot() if _on_cuda(self._torch) else None  # noqa: SLF001 - its documented name
        # Writing takes as long as the trace is large; the training goes on.
        threading.Thread(target=self._write, args=(memory,), name="hwmetrics-profile", daemon=True).start()

    def _stop(self) -> None:
        self._recording = False
        self._profiler.stop()
        self._on = False

    @contextlib.contextmanager
    def _off_at_a_fault(self) -> Iterator[None]:
        """Leave no profiler on, should the block fail: to stop it comes to nothing while a GPU reports an error."""
        try:
            yield
        except BaseException:
            if self._on:
                self._on = self._recording = False
                _switch_off(self._torch)
            raise

    def _not_made(self, why: str) -> None:
        _logger.warning("The profile %s was not made: %s.", self.path, why)
        self._done(self)

    def _write(self, memory: object) -> None:
        with guard("writing a profile", lambda _: self._done(self)):
            try:
                with self._folder.new(self._name) as file, self._folder.scratch(self._name) as scratch:
                    # PyTorch writes a file of its own, with the mode that it likes, and renames it.
                    path = os.path.join(scratch, TRACE)
                    self._profiler.export_chrome_trace(path)
                    with open(path, "rb") as trace:
                        shutil.copyfileobj(trace, file)
                if memory is not None:
                    with self._folder.new(self._name.removesuffix(TRACE) + MEMORY) as file:
                        pickle.dump(memory, file)
            except OSError as error:
                _logger.warning("The profile %s could not be written: %s", self.path, error)
            else:
                _logger.info("A profile was written: %s", self.path)
                for suffix in (TRACE, MEMORY):
                    self._folder.prune(suffix)
            self._profiler = None
            self._done(self)


def _on_cuda(torch: Any) -> bool:
    """Whether the job itself uses CUDA; nothing is initialised by asking."""
    return bool(torch.cuda.is_initialized())


def _switch_off(torch: Any) -> None:
    """End PyTorch's profiler on this thread without its `stop`, which asks the GPU first; what it recorded is lost.

    These are the two halves of what `stop` does then (torch/autograd/profiler.py).
    """
    with guard("switching a profiler off"):
        try:
            if torch.autograd._profiler_enabled():  # noqa: SLF001
                torch.autograd._disable_profiler()  # noqa: SLF001
        finally:
            torch.autograd.profiler._run_on_profiler_stop()  # noqa: SLF001


def checked_steps(steps: object) -> int:
    """Of how many steps a profile is asked for.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is not from 1 to `MOST_STEPS`.
    """
    try:
        number = operator.index(steps)  # type: ignore[arg-type] # that is what is asked
    except TypeError:
        raise TypeError(f"profile takes a whole number of steps, not {steps!r}") from None
    if not 1 <= number <= MOST_STEPS:
        raise ValueError(f"profile takes a number of steps from 1 to {MOST_STEPS}, not {number}")
    return number


class Profiles:
    """Makes profiles: one at a time, and of alerts so many a run. From any thread.

    Args:
        rules: On which alerts, by name or pattern.
        steps: Of how many steps.
        limit: Most of alerts. One that never begins, because training hangs or profiles itself, does not count.
        folder: Where they are written; None where nothing can be.
        clock: Tells when a step ends.
    """

    def __init__(
        self, rules: Iterable[str], steps: int, limit: int, folder: Callable[[], Folder | None], clock: StepClock
    ) -> None:
        self._rules = tuple(rules)
        self._steps = steps
        self._left = limit
        self._folder = folder
        self._clock = clock
        self._present: Profile | None = None
        self._of_alert = False  # the present one
        self._stopped = False
        self._lock = threading.Lock()  # among those who ask; the training's thread takes none

    def path_for(self, alert: Alert) -> str | None:
        """Have the next steps profiled for an alert that begins to fire, if it is one of the chosen ones.

        Returns:
            Where the trace will be; None where there will be none.
        """
        if alert.state is not State.FIRING or alert.blind:
            return None
        if not any(fnmatchcase(alert.name, rule) for rule in self._rules):
            return None
        return self._ask(alert.name, self._steps, alert.time_unix_nano, of_alert=True)

    def request(self, reason: str, steps: int, time_unix_nano: int) -> str | None:
        """Have the next steps profiled.

        Args:
            reason: In the file's name.
            steps: How many.
            time_unix_nano: In the file's name.

        Returns:
            Where the trace will be; None where there will be none: another profile is under way, the job has not
            loaded PyTorch or does not tell its steps, or nothing can be written.

        Raises:
            TypeError: ``steps`` is no whole number.
            ValueError: It is not from 1 to 1000.
        """
        return self._ask(reason, checked_steps(steps), time_unix_nano, of_alert=False)

    def _ask(self, reason: str, steps: int, time_unix_nano: int, *, of_alert: bool) -> str | None:
        with self._lock:
            if (present := self._present) is not None and present.lost:
                present.give_up()
                self._over(present)
            # In this order: the one that is over is counted before it is no longer present.
            if self._stopped or self._present is not None or (of_alert and self._left <= 0):
                return None
            if "torch" not in sys.modules or not self._clock.look().begun:
                return None
            folder = self._folder()
            if folder is None:
                return None
            name = file_name(reason, TRACE, time_unix_nano)
            self._of_alert = of_alert
            self._present = Profile(folder, name, steps, self._clock, self._over)
            self._present.request()
            return self._present.path

    def stop(self) -> None:
        """Begin no more, and end the one that records with the steps that it has.

        At once on the thread that it records on; from any other when the step clock next calls that.
        """
        self._stopped = True
        if (present := self._present) is not None:
            present.give_up()

    def _over(self, profile: Profile) -> None:
        """One has ended: on whatever thread, and only the present one."""
        if self._present is profile:
            self._left -= self._of_alert and profile.begun
            self._present = None
