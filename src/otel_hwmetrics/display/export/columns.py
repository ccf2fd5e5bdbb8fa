# SPDX-License-Identifier: Apache-2.0
"""What a recorded series is called in an export, and what else the catalog knows of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_hwmetrics import flat
from otel_hwmetrics.catalog import METRICS
from otel_hwmetrics.model import Attribute, Kind, Metric, Peak, Series, Unit
from otel_hwmetrics.recording.nouns import FIGURES, Job, RecordedSeries

JOB_NAME: Final = "hwmetrics.job.name"
JOB_NUMBER: Final = "hwmetrics.job.number"
OF_JOBS: Final = "hwmetrics.job."
"""Before the names of the figures of jobs, which are metrics in exports: they are recorded, and never exported live."""

_WHOLE: Final = frozenset({"memory", "processes", "gpus", "gpu_memory", "gpu_memory_most"})
_UNITS: Final = {unit.value: unit for unit in Unit} | {"{gpu}": Unit.RATIO}
JOB_METRICS: Final = tuple(
    Metric(
        f"{OF_JOBS}{name}",
        Kind.GAUGE,
        _UNITS[unit],
        description,
        attributes=(JOB_NAME, JOB_NUMBER),
        integer=name in _WHOLE,
    )
    for name, (unit, description) in FIGURES.items()
)
"""The figures of jobs as rows of the catalog."""

_KNOWN: Final[Mapping[str, Metric]] = {metric.name: metric for metric in (*JOB_METRICS, *METRICS)}
_ORDER: Final = {name: place for place, name in enumerate(_KNOWN)}


@dataclass(frozen=True)
class Column:
    """A series of an export.

    Attributes:
        name: Its flat name (`otel_hwmetrics.flat`); that of no other series of the same file.
        metric: Name of its metric.
        unit: By UCUM.
        kind: What its values are.
        attributes: By key.
        integer: Whether it counts or measures in whole numbers.
        peak: Whether it is the highest of something.
        description: In a sentence; empty for a metric that this version does not know.
    """

    name: str
    metric: str
    unit: str
    kind: Kind
    attributes: Mapping[str, Attribute] = field(default_factory=dict, hash=False)
    integer: bool = False
    peak: bool = False
    description: str = ""

    @property
    def order(self) -> tuple[int, str, str]:
        """Where people look for it: as the catalog has the metrics, jobs first."""
        return (_ORDER.get(self.metric, len(_ORDER)), self.metric, self.name)


def columns_of(recorded: Iterable[RecordedSeries]) -> dict[int, Column]:
    """The columns of the series of one file, by their numbers there. No two have one name."""
    known = {each.id: each for each in recorded}
    series = {number: Series(_metric_of(each), each.attributes) for number, each in known.items()}
    called: dict[str, list[int]] = {}
    for number, each in series.items():
        called.setdefault(flat.flat_name(each), []).append(number)
    taken: set[str] = set()
    found = {}
    for name, numbers in called.items():
        for number in numbers:
            each = series[number]
            wanted = name if len(numbers) == 1 else flat.told_apart(name, each)
            found[number] = _column(_free(wanted, taken), each, known[number].unit)
    return found


def columns_of_job(number: int, job: Job) -> tuple[Column, ...]:
    """The columns of a job's figures, in the order of `FIGURES`."""
    attributes: dict[str, Attribute] = {JOB_NAME: job.name, JOB_NUMBER: number}
    made = (Series(metric, attributes) for metric in JOB_METRICS)
    units = (unit for unit, _ in FIGURES.values())
    return tuple(_column(flat.flat_name(series), series, unit) for series, unit in zip(made, units, strict=True))


def known_names() -> Iterable[str]:
    """The names of all metrics that a recording can have."""
    return _KNOWN.keys()


def is_detail(metric: str) -> bool:
    """Whether a metric is exported live only to whom asks for it; those of jobs are not."""
    return metric in _KNOWN and _KNOWN[metric].detail


def _metric_of(recorded: RecordedSeries) -> Metric:
    known = _KNOWN.get(recorded.metric)
    if known is not None and known.kind is recorded.kind:
        return known
    unit = _UNITS.get(recorded.unit, Unit.RATIO)
    return Metric(recorded.metric, recorded.kind, unit, "Of another version.", tuple(sorted(recorded.attributes)))


def _column(name: str, series: Series, unit: str) -> Column:
    metric = series.metric
    told = metric.description if _KNOWN.get(metric.name) is metric else ""
    peak = isinstance(metric.derivation, Peak)
    return Column(name, metric.name, unit, metric.kind, series.attributes, metric.integer, peak, told)


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it where it is taken: a device that has changed nothing but its driver."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}--{number}"
    taken.add(found)
    return found
