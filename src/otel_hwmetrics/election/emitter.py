# SPDX-License-Identifier: Apache-2.0
"""What this process tells of: its own, and what it holds an office for."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from otel_hwmetrics.alerts.subjects import Subject, subject_of
from otel_hwmetrics.catalog import PER_PROCESS, container, gpu, own, pressure
from otel_hwmetrics.election.jobs import Job
from otel_hwmetrics.election.offices import Offices, office_name
from otel_hwmetrics.election.succession import Books, Count
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Metric, Reading, Series

NODE: Final = "node"
_OF_CONTAINER: Final = frozenset(metric.name for metric in container.METRICS)
_ALSO_OF_CONTAINER: Final = _OF_CONTAINER | {metric.name for metric in pressure.METRICS}
_OF_ALERTS: Final = frozenset(metric.name for metric in (own.ALERT_ACTIVE, own.ALERT_TRANSITIONS, own.ALERT_TIME))
_MOST_SERIES: Final = 16384
"""Series whose offices are remembered, before they are worked out anew."""
_EMITTER: Final = Series(own.EMITTER)


class Emitter:
    """Decides what this process exports and tells of. `look` on the sampler's thread, questions from any.

    Args:
        emit: The option: ``auto`` by election, ``always`` everything, ``process`` its own alone, ``never`` nothing.
        job: Which processes share the node with this one.
        folders: Where they may meet.
        judged: Which metrics each alert rule judges, by its name.
        anew: Successors begin to count anew, as metrics need that are exported by their growth (delta temporality): what
            the holder before has exported was added up already.
    """

    def __init__(
        self,
        emit: str,
        job: Job,
        folders: Callable[[], Sequence[Folder]],
        judged: Mapping[str, frozenset[Metric]],
        *,
        anew: bool = False,
    ) -> None:
        alone = emit == "auto" and not job.key
        self.silent = emit == "never"
        self._everything = emit == "always" or alone
        self._elects = emit == "auto" and not alone
        self._job = job
        self._judged = judged
        self._anew = anew
        self._offices = Offices(folders() if job.key else (), job.key)
        self._container = office_name("container", _cgroup() if self._elects else "")
        self._office_of: dict[Series, str] = {}
        self._known: tuple[list[Series], list[Count]] = ([], [])  # the counters of the last look
        self._devices: frozenset[str] = frozenset()  # replaced, never changed: exports may meet a device, too
        self._free: set[str] = set()  # offices that nobody had at the last look
        self._books: dict[str, Books] = {}

    def start(self) -> None:
        """Meet the job's other processes. Where they cannot be met, the local rank 0 tells of everything."""
        self._offices.join(first=self._job.local_rank == 0)  # also for others to see, where it stands for nothing
        if self._elects and not self._offices.folders:
            self._elects = False
            self._everything = self._job.local_rank in (None, 0)

    def look(self, counters: Mapping[Series, Count]) -> None:
        """Stand for the offices that are free, and leave in each that is held where its counters stand.

        Args:
            counters: Every one that this process reads.
        """
        if not self._elects:
            return
        self._offices.look_after()
        known = list(counters), list(counters.values())
        if known != self._known:  # by their places: mostly they are the same objects
            self._known = known
            self._divide(counters)
        self._stand(NODE)
        for office in (self._container, *sorted(self._devices)):
            self._stand(office)
        for office, books in self._books.items():
            if self._offices.holds(office):
                books.keep()
            elif office in self._devices:
                books.remember()

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
            self._books[office] = Books(self._offices.folders, name, anew=self._anew)
        return self._books[office]

    def _stand(self, office: str) -> None:
        """Take an office, if it is free; who has not the node's leaves its holder one look's time to be the first."""
        if self._offices.holds(office):
            return
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

        But one that sees a single GPU was given that GPU, and nobody else sees it; and its container is its own.
        """
        if self._job.local_rank in (None, 0) or self._offices.met_first:
            return True
        return office == self._container or self._devices == {office}

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
        self._devices |= {office}
        return office

    def shows(self, series: Series) -> bool:
        """Whether this process exports a series."""
        if self._everything or self.silent:
            return not self.silent
        if series.metric.name in _OF_ALERTS:
            return self.tells(str(series.attributes[own.ALERT_RULE]), subject_of(series))
        office = self._office(series)
        return not office or self._offices.holds(office)

    def more(self, series: Series) -> float:
        """What is added to a counter's total, to go on from where the last holder stood."""
        books = self._books.get(self._office(series)) if self._elects else None
        return books.more.get(series, 0.0) if books is not None else 0.0

    def signs(self, series: Series) -> bool:
        """Whether a series has to say which process it is of: its own; and its container's, where others have another."""
        if series.metric.name in _OF_ALERTS:
            return self._of_process(str(series.attributes[own.ALERT_RULE]))
        if series.metric.name in PER_PROCESS:
            return True
        return self._elects and self._office(series) == self._container and not self._offices.holds(NODE)

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
        metrics = self._judged.get(rule, frozenset())
        holds = self._offices.holds
        if all(gpu.HW_ID in metric.attributes for metric in metrics):
            device = subject.whole or subject.key
            return holds(office_name("gpu", device)) if device else any(map(holds, (NODE, *self._devices)))
        contained = any(metric.name in _ALSO_OF_CONTAINER for metric in metrics)
        return holds(NODE) or (contained and holds(self._container))

    def _of_process(self, rule: str) -> bool:
        """Whether a rule judges anything that is this process's own."""
        metrics = self._judged.get(rule)
        return not metrics or any(metric.name in PER_PROCESS for metric in metrics)

    def readings(self, at: float) -> Iterable[Reading]:
        """Whether this process tells of the machine."""
        yield Reading(_EMITTER, int(self._everything or self._offices.holds(NODE)), at)

    def stop(self) -> None:
        """Leave every office to others."""
        self.abandon()

    def abandon(self) -> None:
        """Close everything; in a forked child, which has no part in its parent's offices."""
        for books in self._books.values():
            books.close()
        self._offices.abandon()


def _cgroup() -> str:
    """What tells this process's cgroup from others of the node; empty where there are none.

    Its path is relative to the namespace, so two containers have one path, and two namespaces (cgroup_namespaces(7)).
    """
    with contextlib.suppress(OSError), open("/proc/self/cgroup", "rb") as file:
        namespace = os.stat("/proc/self/ns/cgroup").st_ino
        return hashlib.sha256(file.read() + str(namespace).encode()).hexdigest()[:12]
    return ""
