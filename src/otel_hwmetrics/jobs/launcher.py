# SPDX-License-Identifier: Apache-2.0
"""Runs jobs from the first to the last: begins them, passes signals on, sees them end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from otel_hwmetrics._guard import guard
from otel_hwmetrics.config import Config
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.jobs.children import NOT_EXECUTABLE, CannotRun, Child, has_ended, reap, spawn
from otel_hwmetrics.jobs.command import Prepared, prepared, prepared_text
from otel_hwmetrics.jobs.environment import environment
from otel_hwmetrics.jobs.orphans import FIRST, let_go
from otel_hwmetrics.jobs.schedule import Schedule
from otel_hwmetrics.jobs.signals import ENDING, Signals, as_terminal, hearers, is_of_terminal, pass_on, stop
from otel_hwmetrics.jobs.spec import JobSpec
from otel_hwmetrics.jobs.watching import Watching
from otel_hwmetrics.ranks import LOCAL_RANK, ranks

EARLY: Final = (0.1, 0.3)
"""Seconds after its beginning at which a job is looked at besides: it may be over before the next look at all."""


class Outcome(NamedTuple):
    """How a job ended.

    Attributes:
        code: As subprocess has it; None for one that was never begun.
        log: The file of its output; empty where that is ours.
    """

    code: int | None
    log: str = ""


@dataclass(frozen=True)
class Settings:
    """How jobs are run.

    Attributes:
        config: Every option; None where nothing is watched.
        run: The run's id.
        at_once: How many jobs may run.
        logs: Where the output of each goes to a file; None where it is ours.
        say: Tells people something, a line.
    """

    config: Config | None
    run: str
    at_once: int = 1
    logs: Folder | None = None
    say: Callable[[str], object] = field(default=lambda _: None)


class Launcher:
    """Runs the jobs of a plan, once.

    Args:
        jobs: What is to be run, numbered from 1 on in their order.
        settings: How.
        environ: What the jobs inherit.
    """

    def __init__(self, jobs: Sequence[JobSpec], settings: Settings, environ: Mapping[str, str]) -> None:
        self.outcomes: dict[int, Outcome] = {}
        """By number, of each that will not run on."""
        self.ended_by = 0
        """The signal that kept further jobs from being begun; 0 for none."""
        self._jobs = jobs
        self._settings = settings
        self._environ = environ
        self._schedule = Schedule(jobs, settings.at_once)
        self._prepared = [self._prepare(job) for job in jobs]
        self._running: dict[int, tuple[Child, str]] = {}
        self._looks: list[float] = []  # when young jobs are looked at
        self._watching: Watching | None = None

    def _prepare(self, job: JobSpec) -> Prepared:
        if self._settings.config is None:
            return Prepared(("/bin/sh", "-c", *job.command) if job.as_text else job.command)
        inherited = {**self._environ, **job.environ}
        made = prepared_text(job.command[0], inherited) if job.as_text else prepared(job.command, inherited)
        if made.note:
            self._settings.say(f"{job.name}: {made.note}" if job.as_text else made.note)
        return made

    def _judges(self) -> bool:
        """Whether alerts are ours to tell: jobs that measure themselves do, and of several launchers on a node the first."""
        first = ranks(self._environ).get(LOCAL_RANK, 0) == 0
        return first and not all(each.instrumented for each in self._prepared)

    @property
    def recording(self) -> str:
        """The file that was written; empty for none."""
        return "" if self._watching is None else self._watching.recording

    def run(self) -> None:
        """Run them all. Called on the main thread, before any other is started."""
        with Signals() as signals:
            config = self._settings.config
            if config is not None:
                with guard("getting ready to watch the jobs"):
                    self._watching = Watching(self._jobs, config, self._environ, judges=self._judges())
            try:
                while self._go_on(signals):
                    pass
            finally:
                if self._watching is not None:
                    self._watching.stop()

    def _go_on(self, signals: Signals) -> bool:
        while (number := self._schedule.ready()) is not None:
            self._begin(number, signals)
        if self._schedule.is_over:
            return False
        now = time.monotonic()
        told = signals.wait(self._looks[0] - now if self._looks else None)
        if told is None:
            self._looks = [at for at in self._looks if at > time.monotonic()]
            if self._watching is not None:
                self._watching.look()
        elif told.si_signo != signal.SIGCHLD:
            if told.si_signo in ENDING and self._settings.logs is not None:  # of a file, of one job, too
                self._stop(told.si_signo)
            self._pass_on(told)
        self._see_who_ended()
        if told is not None and told.si_signo == signal.SIGCHLD and os.getpid() == FIRST:
            let_go({child.pid for child, _ in self._running.values()})
        return True

    def _pass_on(self, told: signal.struct_siginfo) -> None:
        """Let the jobs have it; and stop with them where it stops them."""
        for number in self._running:
            pass_on(told, self._hearers(number, told.si_signo), self._environ)
        if (
            told.si_signo == signal.SIGTSTP and not stop() and is_of_terminal(told)
        ):  # nobody could have them go on, either
            for number in self._running:
                as_terminal(signal.SIGCONT, self._hearers(number, signal.SIGCONT))

    def _hearers(self, number: int, told: int) -> Iterable[int]:
        """Who is to get a signal that is a job's; the shell is nobody's who did not type it."""
        pid = self._running[number][0].pid
        return hearers(pid, told) if self._jobs[number - 1].as_text else [pid]

    def _begin(self, number: int, signals: Signals) -> None:
        job, made = self._jobs[number - 1], self._prepared[number - 1]
        log, output = "", None
        try:
            log, output = self._log(number, job)
            child = spawn(made.argv, self._environ_of(job, made), mask=signals.before, output=output)
        except CannotRun as error:
            self._settings.say(f"{job.name}: {error}" if len(self._jobs) > 1 else str(error))
            self._over(number, error.code, log, begun=False)
            return
        except OSError as error:
            self._settings.say(f"{job.name}: its output cannot be written, so it is not begun: {error}")
            self._over(number, NOT_EXECUTABLE, log, begun=False)
            return
        finally:
            if output is not None:
                os.close(output)
        self._running[number] = child, log
        if self._watching is not None:
            self._watching.begin(number, child)
            now = time.monotonic()
            self._looks = sorted([*self._looks, *(now + after for after in EARLY)])
        if self._settings.logs is not None:
            self._settings.say(f"{job.name}: begun, its output is in {log}")

    def _environ_of(self, job: JobSpec, made: Prepared) -> dict[str, str]:
        inherited, settings = {**self._environ, **job.environ}, self._settings
        if settings.config is None:
            return inherited
        return environment(
            inherited, settings.config, settings.run, job.name, instrumented_by_us=made.by_us, own=job.environ
        )

    def _log(self, number: int, job: JobSpec) -> tuple[str, int | None]:
        """The file of a job's output, open; nothing where it is ours."""
        folder = self._settings.logs
        if folder is None:
            return "", None
        plain = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in job.name)[:64]
        name = f"{self._settings.run}-{plain}" + ("" if plain == job.name else f"-{number}")  # two may be alike by now
        descriptor = folder.open_file(f"{name}.log")
        os.lseek(descriptor, 0, os.SEEK_END)  # of a run that is gone on with, as in one batch job, it has more already
        return folder / f"{name}.log", descriptor

    def _see_who_ended(self) -> None:
        ended = [number for number, (child, _) in self._running.items() if has_ended(child)]
        if ended and self._watching is not None:
            self._watching.last_look(ended)
        for number in ended:
            child, log = self._running.pop(number)
            ending = reap(child)
            if self._watching is not None:
                self._watching.end(number, ending)
            self._over(number, ending.code, log)

    def _over(self, number: int, code: int, log: str, *, begun: bool = True) -> None:
        self.outcomes[number] = Outcome(code, log)
        if not begun and self._watching is not None:
            self._watching.skip(number, code=code)
        for each in self._schedule.ended(number, failed=code != 0):
            self._skip(each)
        if self._settings.logs is not None and begun:
            self._settings.say(f"{self._jobs[number - 1].name}: {ending_in_words(code)}")

    def _skip(self, number: int) -> None:
        self.outcomes[number] = Outcome(None)
        if self._watching is not None:
            self._watching.skip(number)

    def _stop(self, number: int) -> None:
        self.ended_by = self.ended_by or number
        for each in self._schedule.stop():
            self._skip(each)


def ending_in_words(code: int) -> str:
    """How something ended: ``done``, ``failed with exit code 3``, ``ended by SIGTERM``."""
    if code >= 0:
        return f"failed with exit code {code}" if code else "done"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
