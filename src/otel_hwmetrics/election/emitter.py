# SPDX-License-Identifier: Apache-2.0
"""What this process tells of: its own, and what it holds an office for."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from otel_hwmetrics.alerts.subjects import Subject, subject_of
from otel_hwmetrics.catalog import PER_PROCESS, container, gpu, own, pressure
from otel_hwmetrics.election.jobs import Job
from otel_hwmetrics.election.offices import Offices, office_name
from otel_hwmetrics.election.succession import Books, Count, Ledger
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Attribute, Metric, Reading, Series

NODE: Final = "node"
_OF_CONTAINER: Final = frozenset(metric.name for metric in container.METRICS)
_ALSO_OF_CONTAINER: Final = _OF_CONTAINER | {metric.name for metric in pressure.METRICS}
_OF_ALERTS: Final = frozenset(metric.name for metric in (own.ALERT_ACTIVE, own.ALERT_TRANSITIONS, own.ALERT_TIME))
_MOST_SERIES: Final = 16384
"""Series whose offices are remembered, before they are worked out anew."""
_EMITTER: Final = Series(own.EMITTER)
_HEARD: Final = "heard"
"""What those share whose metrics somebody collects."""
UNHEARD_AFTER: Final = 130.0
"""Seconds without a collection after which a process counts as unheard, at least: an SDK's reader has 60 by default."""
_LONELY_AFTER: Final = 30
"""Looks after which a rank that has not met the local rank 0 takes it that it never will."""
_ALONE_FOR: Final = 10
"""Looks after which a process that is a job of its own sees whether it still is."""


class Emitter:
    """Decides what this process exports and tells of. `look` on the sampler's thread, questions from any.

    Args:
        emit: The option: ``auto`` by election, ``always`` everything, ``process`` its own alone, ``never`` nothing.
        job: Gives which processes share the node with this one; asked again now and then by one that is alone, since
            some launchers are no processes of their own: they tell the script's own process that it is rank 0 later on.
        folders: Gives where they may meet.
        judged: Which metrics each alert rule judges, by its name.
        ledger: Of this process.
        anew: Successors begin to count anew, as metrics need that are exported by their growth (delta temporality): what
            the holder before has exported was added up already.
        regular: Whether looks come of themselves, and not only when somebody collects.
        now: The monotonic clock.
    """

    def __init__(  # noqa: PLR0913 - each is a different part of the world
        self,
        emit: str,
        job: Callable[[], Job],
        folders: Callable[[], Sequence[Folder]],
        judged: Mapping[str, frozenset[Metric]],
        ledger: Ledger,
        *,
        anew: bool = False,
        regular: bool = True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit = emit
        self._find_job = job
        self._find_folders = folders
        self._judged = judged
        self._ledger = ledger
        self._anew = anew
        self._regular = regular
        self._now = now
        self._began = now()
        self._asked_at: float | None = None
        self._gap = 0.0  # between the last two collections
        self._job = Job("", None)
        self._offices = Offices((), "")
        self._container = office_name("container", _cgroup())
        self._office_of: dict[Series, str] = {}
        self._known: tuple[list[Series], list[Count]] = ([], [])  # the counters of the last look
        self._gpus: Mapping[str, Attribute] = {}  # offices of GPUs, and the numbers of these; replaced, never changed
        self._free: set[str] = set()  # offices that nobody had at the last look
        self._books: dict[str, Books] = {}
        self._since: dict[str, float] = {}  # when each office was stood for last
        self._at = 0.0  # of this look
        self._looks = 0

    def start(self) -> None:
        """Meet the job's other processes; also for them to see, where this one stands for nothing."""
        self._job = self._find_job()
        if self._job.key:
            self._offices = Offices(self._find_folders(), self._job.key)
            self._offices.join(self._container if self._job.local_rank == 0 else None)

    @property
    def _elects(self) -> bool:
        return self._emit == "auto" and bool(self._job.key)

    @property
    def _everything(self) -> bool:
        return self._emit == "always" or (self._emit == "auto" and not self._job.key)

    def asked(self) -> None:
        """Somebody collects metrics: whoever holds an office has to be heard."""
        at = self._now()
        if self._asked_at is not None:
            self._gap = at - self._asked_at
        self._asked_at = at

    def look(self, counters: Mapping[Series, Count], at: float = 0.0) -> None:
        """Stand for the offices that are free, and leave in each that is held where its counters stand.

        Args:
            counters: Every one that this process reads.
            at: When, by the clock of samples.
        """
        self._at = at
        self._looks += 1
        if self._emit == "auto" and not self._job.key and self._looks % _ALONE_FOR == 0:
            self.start()
        if not self._elects:
            return
        self._offices.look_after()
        known = list(counters), list(counters.values())
        if known != self._known:  # by their places: mostly they are the same objects
            self._known = known
            self._divide(counters)
        if self._has_a_say():
            for office in (NODE, self._container, *sorted(self._gpus)):
                self._stand(office)
        else:
            for office in self._books:
                self._offices.give_up(office)
        for office, books in self._books.items():
            if self._offices.holds(office):
                books.keep()
            elif office in self._gpus:
                books.remember()
            else:
                books.lose()

    @property
    def _is_heard(self) -> bool:
        """Whether somebody collects what this process has, or may be about to for the first time."""
        last = self._began if self._asked_at is None else self._asked_at
        return self._now() - last <= max(UNHEARD_AFTER, 3 * self._gap)

    def _has_a_say(self) -> bool:
        """Let others know that it is heard, if it is; whether it may hold offices: it is heard, or nobody is.

        A notebook that is open but idle, a rank that was given no reader, one whose provider was shut down: it would hold
        an office, and nobody would tell of the machine.
        """
        if self._asked_at is None and not self._regular:
            return False  # it looks no more until somebody asks, and could give nothing up
        if not self._is_heard:
            return not self._offices.shared(_HEARD)
        if self._asked_at is not None:
            self._offices.share(_HEARD)
        return True

    def _divide(self, counters: Mapping[Series, Count]) -> None:
        """Find out which counters are whose."""
        of_office: dict[str, list[tuple[Series, Count]]] = {}
        for series, count in counters.items():
            office = self._office(series)
            if office:
                of_office.setdefault(office, []).append((series, count))
        for office in (*self._books, *of_office):
            self._books_of(office).of(of_office.get(office, ()))

    def _books_of(self, office: str) -> Books:
        if office not in self._books:
            name = self._offices.file(f"{office}.totals")
            self._books[office] = Books(self._offices.folders, name, self._ledger, anew=self._anew)
        return self._books[office]

    def _stand(self, office: str) -> None:
        """Take an office, if it is free; who has not the node's leaves its holder one look's time to be the first."""
        if self._offices.holds(office):
            return
        self._since[office] = self._at  # first: whoever exports meanwhile tells of the look before
        first = office == NODE or self._offices.holds(NODE)
        if self._may(office) and self._offices.take(office):
            if not first and office not in self._free:
                self._free.add(office)
                self._offices.give_up(office)
                return
            self._books_of(office).inherit()
        self._free.discard(office)

    def _may(self, office: str) -> bool:
        """Whether it may stand for it: of ranks that share no folder the local rank 0 alone, for each would be elected.

        But one that sees a single GPU, or instances of one, was given those, and nobody else sees them; and its container
        is its own.
        """
        if self._job.local_rank in (None, 0) or self._offices.first is not None:
            return True
        if self._looks <= _LONELY_AFTER:
            return False
        divided = any("-MIG-" in each for each in self._gpus)
        its_own = len(set(self._gpus.values())) == 1 and (not divided or "-MIG-" in office)
        return office == self._container or (office in self._gpus and its_own)

    def _holds(self, office: str) -> bool:
        """Whether it speaks for an office; where nobody can be met, whether it may."""
        return self._offices.holds(office) if self._offices.folders else self._may(office)

    def _office(self, series: Series) -> str:
        """The office that a series belongs to; empty for what is this process's own."""
        known = self._office_of.get(series)
        if known is None:
            if len(self._office_of) >= _MOST_SERIES:
                self._office_of.clear()
            known = self._office_of[series] = self._found(series)
        return known

    def _found(self, series: Series) -> str:
        if series.metric.name in PER_PROCESS:
            return ""
        if series.metric.name in _OF_CONTAINER or series.attributes.get(pressure.SCOPE) == "cgroup":
            return self._container
        if gpu.GPU_INDEX not in series.attributes:
            return NODE
        office = office_name("gpu", subject_of(series).key)
        if office not in self._gpus:
            self._gpus = {**self._gpus, office: series.attributes[gpu.GPU_INDEX]}
        return office

    @property
    def silent(self) -> bool:
        """Whether nothing leaves this process."""
        return self._emit == "never"

    def shows(self, series: Series, at: float = math.inf) -> bool:
        """Whether this process exports a series.

        Args:
            series: Which.
            at: When the look was that the export tells of, by the clock of samples. What was seen before the office came is
                not told: the last holder has told of a later moment.
        """
        if self._everything or self.silent:
            return not self.silent
        if series.metric.name in _OF_ALERTS:
            return self.tells(str(series.attributes[own.ALERT_RULE]), subject_of(series))
        office = self._office(series)
        return not office or (self._elects and self._holds(office) and self._since.get(office, at) <= at)

    def recorded(self, series: tuple[Series, ...], at: float) -> tuple[Series, ...]:
        """Those of some series that this process records: what it exports; all, where nothing leaves it.

        Args:
            series: Which.
            at: When the look was, by the clock of samples.

        Returns:
            The same tuple where it is all of them.
        """
        if self._everything or self.silent:
            return series
        return tuple(each for each in series if self.shows(each, at))

    def more(self, series: Series) -> float:
        """What is added to a counter's total, to go on from where the last holder stood."""
        return self._ledger.more.get(series, 0.0)

    def signs(self, series: Series) -> bool:
        """Whether a series has to say which process it is of: its own, and its container's, unless that is rank 0's, too."""
        name = series.metric.name
        if name in PER_PROCESS:
            return name != own.ALERT_ACTIVE.name or self._of_process(str(series.attributes[own.ALERT_RULE]))
        if not self._elects or self._job.local_rank in (None, 0) or self._office(series) != self._container:
            return False
        return self._offices.first != self._container

    def tells(self, rule: str, subject: Subject) -> bool:
        """Whether this process tells others of an alert: one that judges anything of its own, or what it holds.

        Args:
            rule: The alert rule's name.
            subject: What the alert is about; the host also for a rule as such.
        """
        if self._everything or self.silent:
            return not self.silent
        if self._of_process(rule):
            return True
        if not self._elects:
            return False
        metrics = self._judged.get(rule, frozenset())
        if all(gpu.HW_ID in metric.attributes for metric in metrics):
            device = subject.whole or subject.key
            return self._holds(office_name("gpu", device)) if device else any(map(self._holds, (NODE, *self._gpus)))
        contained = any(metric.name in _ALSO_OF_CONTAINER for metric in metrics)
        return self._holds(NODE) or (contained and self._holds(self._container))

    def _of_process(self, rule: str) -> bool:
        """Whether a rule judges anything that is this process's own."""
        metrics = self._judged.get(rule)
        return not metrics or any(metric.name in PER_PROCESS for metric in metrics)

    def readings(self, at: float) -> Iterable[Reading]:
        """Whether this process tells of the machine."""
        yield Reading(_EMITTER, int(self._everything or (self._elects and self._holds(NODE))), at)

    def step_back(self) -> None:
        """Leave every office to others until the next look: there may be none. From any thread, but not during a look."""
        for office, books in self._books.items():
            books.lose()
            self._offices.give_up(office)
        self._offices.give_up(_HEARD)

    def stop(self) -> None:
        """Leave every office to others."""
        for books in self._books.values():
            books.lose()
        self._offices.leave()


def _cgroup() -> str:
    """What tells this process's cgroup from others of the node; empty where there are none.

    Its path is relative to the namespace, so two containers have one path, and two namespaces (cgroup_namespaces(7)).
    """
    with contextlib.suppress(OSError), open("/proc/self/cgroup", "rb") as file:
        namespace = os.stat("/proc/self/ns/cgroup").st_ino
        return hashlib.sha256(file.read() + str(namespace).encode()).hexdigest()[:12]
    return ""
