# SPDX-License-Identifier: Apache-2.0
"""What the jobs of one run, or of several, used at the most and in the mean, beside what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from otel_hwmetrics.display.plots.picture import Bars, Dashboard, Heading
from otel_hwmetrics.recording.nouns import Job, Request, Stat

_GIB: Final = 2.0**30
_KWH: Final = 3.6e6
_WH: Final = 3600.0


class _Chart(NamedTuple):
    title: str
    figure: str
    unit: str
    scale: float
    digits: int
    asked: Callable[[Request], float | None]
    top: float | None = None


_CHARTS: Final = (
    _Chart("CPU", "cpu", "%", 100.0, 1, lambda asked: asked.cpus),
    _Chart("Memory", "memory", "GiB", 1 / _GIB, 2, lambda asked: asked.memory),
    _Chart("GPU activity", "gpu_activity", "%", 100.0, 1, lambda _: None, 100.0),
    _Chart("GPU memory, of the fullest GPU", "gpu_memory_most", "GiB", 1 / _GIB, 2, lambda asked: asked.gpu_memory),
)
_TIMES: Final = (("s", 1.0), ("min", 60.0), ("h", 3600.0))


def dashboard(jobs: Sequence[tuple[str, Job]], heading: Heading) -> Dashboard:
    """Bars of all jobs; a chart of which nothing is known is left out.

    Args:
        jobs: What each is called, each otherwise, and the job.
        heading: Above it.
    """
    alone = [job for _, job in jobs]
    charts = [chart for each in _CHARTS if (chart := _stats(each, alone)) is not None]
    charts += [chart for chart in (_runtime(alone), _energy(alone)) if chart is not None]
    return Dashboard(heading, tuple(name for name, _ in jobs), tuple(charts))


def _stats(chart: _Chart, jobs: Sequence[Job]) -> Bars | None:
    stats: list[Stat | None] = [job.summary.figures.get(chart.figure) for job in jobs]
    if not any(stats):
        return None
    return Bars(
        chart.title,
        chart.unit,
        tuple(None if each is None else each.peak * chart.scale for each in stats),
        tuple(None if each is None else each.mean * chart.scale for each in stats),
        _scaled([chart.asked(job.request) for job in jobs], chart.scale),
        chart.digits,
        top=chart.top,
    )


def _scaled(values: Sequence[float | None], scale: float) -> tuple[float | None, ...]:
    scaled = tuple(None if each is None else each * scale for each in values)
    return scaled if any(each is not None for each in scaled) else ()


def _runtime(jobs: Sequence[Job]) -> Bars | None:
    seconds = [job.runtime for job in jobs]
    longest = max((each for each in seconds if each is not None), default=None)
    if longest is None:
        return None
    unit, length = next((each for each in reversed(_TIMES) if longest >= 2 * each[1]), _TIMES[0])
    asked = _scaled([job.request.runtime for job in jobs], 1 / length)
    return Bars("Runtime", unit, _scaled(seconds, 1 / length), (), asked, 2, "runtime")


def _energy(jobs: Sequence[Job]) -> Bars | None:
    joules = [job.summary.energy for job in jobs]
    most = max((each for each in joules if each is not None), default=None)
    if most is None:
        return None
    unit, scale = ("kWh", _KWH) if most >= _KWH else ("Wh", _WH)
    return Bars("Energy of the GPUs", unit, _scaled(joules, 1 / scale), (), (), 2, "energy")
