# SPDX-License-Identifier: Apache-2.0
"""What rules of the training loop look at where it waits for data; a step that does not end is `otel_hwmetrics.alerts.stalls`'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from otel_hwmetrics.alerts.conditions import Condition, Finding, Totals, Watcher
from otel_hwmetrics.alerts.over import Aggregate, Growth
from otel_hwmetrics.alerts.rule import show, show_seconds
from otel_hwmetrics.alerts.subjects import HOST, Subject
from otel_hwmetrics.catalog import container, pressure, training, tree
from otel_hwmetrics.model import Attribute, Metric, Snapshot, Unit


@dataclass(frozen=True)
class InputBound(Condition):
    """Share of the steps' time that training waited for data, and what on this machine tells why.

    Attributes:
        seconds: Over how long.
        steps: Only once so many steps have ended: the first batches wait for the loader to start.
    """

    also = (training.DATA_WAIT_TIME, training.STEP_TIME)

    seconds: float = 60.0
    steps: int = 5

    @property
    def unit(self) -> Unit:
        """A ratio."""
        return Unit.RATIO

    @property
    def evidence(self) -> tuple[str, ...]:
        """What tells why, in words, and the figures."""
        return ("why", "io_share", "cpu_share", "quota_share", "processes")

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        del totals
        return _InputBound(self)

    def __str__(self) -> str:
        return (
            f"growth of {training.DATA_WAIT_TIME.name} as a share of that of {training.STEP_TIME.name} over "
            f"{show_seconds(self.seconds)}, once {self.steps} steps have ended"
        )


_IO_OF_NOTE: Final = 0.1
_CPU_OF_NOTE: Final = 0.2
_QUOTA_OF_NOTE: Final = 0.1


class _InputBound:
    def __init__(self, condition: InputBound) -> None:
        self._steps = condition.steps
        self._waits = _Waits(condition.seconds)

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        share = self._waits.share(snapshot)
        steps = _value(snapshot, training.STEPS)
        if steps is None or not _tells_of_waits(snapshot):
            return {}
        known = share is not None and steps >= self._steps
        return {HOST: Finding(share, dict(_why(snapshot))) if known else Finding(None)}


def _tells_of_waits(snapshot: Snapshot) -> bool:
    return bool(snapshot.of(training.DATA_WAIT_TIME) and snapshot.of(training.STEP_TIME))


class _Waits:
    """How long training waits for data, over the last seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._growths: dict[Metric, Growth] = {}

    def share(self, snapshot: Snapshot) -> float | None:
        """Of its steps' time; None where there was none, and where the job does not tell of both."""
        waited, whole = (self._grown(metric, snapshot) for metric in (training.DATA_WAIT_TIME, training.STEP_TIME))
        return min(1.0, waited / whole) if waited is not None and whole else None

    def _grown(self, metric: Metric, snapshot: Snapshot) -> float | None:
        reading = next(iter(snapshot.of(metric)), None)
        if reading is None:
            return None
        if metric not in self._growths:
            # From here on: what was before is of other data.
            self._growths[metric] = Growth(Aggregate.INCREASE, self._seconds, reading.value, snapshot.window.end)
        return self._growths[metric].add(snapshot.window.end, reading.value)


@dataclass(frozen=True)
class Felt(Condition):
    """What a condition finds, unless the job tells that it hardly waits for data.

    Attributes:
        of: The condition.
        share: Of its steps' time, over the last minute, it waits at least.
    """

    also = (training.DATA_WAIT_SHARE,)

    of: Condition
    share: float = 0.05

    @property
    def unit(self) -> Unit:
        """The condition's."""
        return self.of.unit

    @property
    def evidence(self) -> tuple[str, ...]:
        """The condition's."""
        return self.of.evidence

    def watcher(self, totals: Totals) -> Watcher:
        """Somebody who looks, and remembers."""
        return _Felt(self.of.watcher(totals), self.share)

    def __str__(self) -> str:
        return f"{self.of}, unless {training.DATA_WAIT_SHARE.name} is below {self.share:.0%}"


class _Felt:
    def __init__(self, of: Watcher, share: float) -> None:
        self._of = of
        self._share = share
        self._waits = _Waits(60.0)

    def look(self, snapshot: Snapshot) -> dict[Subject, Finding]:
        share = self._waits.share(snapshot)
        found = self._of.look(snapshot)
        if share is None or share >= self._share:
            return found
        return {subject: Finding(None) for subject in found}


def _why(snapshot: Snapshot) -> Iterator[tuple[str, Attribute]]:
    """What on this machine tells why data comes late: each figure that there is, and in words the first of note."""
    io, cpu = _pressure(snapshot, "io"), _pressure(snapshot, "cpu")
    quota = _value(snapshot, container.CPU_THROTTLED_SHARE)
    processes = int(sum(reading.value for reading in snapshot.of(tree.PROCESS_COUNT)))
    for word, share in (("io_share", io), ("cpu_share", cpu), ("quota_share", quota)):
        if share is not None:
            yield word, share
    if processes:
        yield "processes", processes
    if io is not None and io >= _IO_OF_NOTE:
        yield "why", f"storage: work waits for I/O {show(io, Unit.RATIO)} of the time"
    elif quota is not None and quota >= _QUOTA_OF_NOTE:
        yield "why", f"the CPU quota: used up in {show(quota, Unit.RATIO)} of its periods"
    elif cpu is not None and cpu >= _CPU_OF_NOTE:
        yield "why", f"the CPUs: work waits for one {show(cpu, Unit.RATIO)} of the time"
    elif io is None or cpu is None:  # a machine that is not looked at cannot be acquitted
        yield "why", f"nothing here tells: pressure of {_unread(io, cpu)} cannot be read"
    else:
        in_all = f" ({show(processes, Unit.PROCESS)} in all)" if processes else ""
        yield "why", f"not the machine: too few workers, or too little prefetching{in_all}"


def _unread(io: float | None, cpu: float | None) -> str:
    return " and ".join(what for what, share in (("I/O", io), ("CPUs", cpu)) if share is None)


def _pressure(snapshot: Snapshot, resource: str) -> float | None:
    """The share of the time in which some work stood still, of the job's own cgroup or the host: whichever is higher."""
    # A host's storage may be what others keep busy.
    wanted = {pressure.RESOURCE: resource, pressure.KIND: "some"}
    told = [
        reading.value for reading in snapshot.of(pressure.STALL_SHARE) if wanted.items() <= reading.attributes.items()
    ]
    return max(told, default=None)


def _value(snapshot: Snapshot, metric: Metric) -> float | None:
    return next((reading.value for reading in snapshot.of(metric)), None)
