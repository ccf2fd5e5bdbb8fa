# SPDX-License-Identifier: Apache-2.0
"""Training spans and alerts in lanes: what lies within another below it, what overlaps beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from otel_hwmetrics.display.plots.picture import COLOURS, SEVERITIES, Band, Lanes, Mark, Stretch, Strip
from otel_hwmetrics.display.words import duration
from otel_hwmetrics.recording.nouns import RecordedAlert, RecordedSpan

When = Callable[[int], str]
EPOCH: Final = "hwmetrics.training.epoch"
STEP: Final = "hwmetrics.training.step"
MOST_LANES: Final = 6
MOST_BANDS: Final = 200
MOST_MARKS: Final = 60
"""More of them would hide the lines."""

_KNOWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "training": "#64748b",
        "fit": "#64748b",
        "epoch": "#3b82f6",
        "validation": "#10b981",
        "evaluation": "#10b981",
        "test": "#14b8a6",
        "checkpoint": "#f97316",
        "step": "#a78bfa",
    }
)
"""Colours of spans of the training frameworks' integrations."""
_OTHERS: Final = tuple(each for each in COLOURS if each not in _KNOWN.values())
_SHADED: Final = {"validation", "evaluation", "test", "checkpoint"}
"""Spans that are shaded in all panels; and every other epoch, by which one sees where each begins."""


class Drawn(NamedTuple):
    """Lanes, and what they do to the panels below.

    Attributes:
        lanes: None where there is nothing.
        bands: Shaded.
        marks: Marked.
        notes: What has to be known of them.
    """

    lanes: Lanes | None
    bands: tuple[Band, ...] = ()
    marks: tuple[Mark, ...] = ()
    notes: tuple[str, ...] = ()


def of_spans(spans: Sequence[RecordedSpan], start_ns: int, end_ns: int, columns: int, when: When) -> Drawn:
    """Training spans from the outermost to the innermost.

    Args:
        spans: Any number; those without an end are open until ``end_ns``.
        start_ns: Where the picture begins.
        end_ns: Where it ends.
        columns: Of pixels: of spans that are narrower, the longest of each column is left.
        when: Words for a moment.
    """
    pixel = max(1, (end_ns - start_ns) // columns)
    placed = _placed(_levels(spans), start_ns, end_ns, pixel)
    shown = [each for each in placed if each[0] < MOST_LANES]
    hidden = len(spans) - len(shown)
    kinds: dict[str, list[Stretch]] = {}
    for lane, begin, end, span in sorted(shown, key=lambda each: each[:3]):
        kinds.setdefault(span.name, []).append(Stretch(lane, begin, end, _label(span), _lines(span, when)))
    if not kinds:
        return Drawn(None)
    others = iter(_OTHERS * (len(kinds) // len(_OTHERS) + 1))
    strips = tuple(Strip(name, _KNOWN.get(name) or next(others), tuple(those)) for name, those in kinds.items())
    lanes = Lanes("Training spans", 1 + max(each.lane for strip in strips for each in strip.stretches), strips)
    notes = (f"{hidden} of {len(spans)} training spans are too short or too many to be seen.",) if hidden else ()
    return Drawn(lanes, _bands(strips), notes=notes)


def of_alerts(alerts: Iterable[Sequence[RecordedAlert]], start_ns: int, end_ns: int, when: When) -> Drawn:
    """Alerts from where they fire to where they are resolved.

    Args:
        alerts: Those of each process, by their time.
        start_ns: Where the picture begins.
        end_ns: Where it ends, and what was not resolved.
        when: Words for a moment.
    """
    told = (each for of_one in alerts for each in _lasting(of_one, start_ns, end_ns, when))
    lasting = sorted(
        ((max(start_ns, begin), end, alert, lines) for begin, end, alert, lines in told if end >= start_ns),
        key=lambda each: each[:2],
    )
    free: list[int] = []
    kinds: dict[str, list[Stretch]] = {name: [] for name in SEVERITIES}
    hidden = 0
    for begin, end, alert, lines in lasting:
        lane = next((number for number, until in enumerate(free) if until <= begin), len(free))
        if lane == MOST_LANES:
            hidden += 1
            continue
        free[lane : lane + 1] = [end]
        kinds.setdefault(alert.severity, []).append(Stretch(lane, begin, end, alert.rule, lines))
    strips = tuple(
        Strip(name, SEVERITIES.get(name, "#64748b"), tuple(those), marked=True)
        for name, those in kinds.items()
        if those
    )
    if not strips:
        return Drawn(None)
    fired = sorted({(each.start_ns, strip.colour) for strip in strips for each in strip.stretches})
    marks = tuple(Mark(*each) for each in fired) if len(fired) <= MOST_MARKS else ()
    notes = (f"{hidden} of {len(lasting)} alerts are not shown: too many fire at once.",) if hidden else ()
    return Drawn(Lanes("Alerts", len(free), strips), marks=marks, notes=notes)


def _levels(spans: Iterable[RecordedSpan]) -> list[tuple[int, RecordedSpan]]:
    """Each with how many others it lies within."""
    known = {each.span_id: each for each in spans}
    levels: dict[str, int] = {}
    for each in known.values():
        chain, at = [], each
        while at.span_id not in levels and at.span_id not in chain:  # somebody's ids may run in a circle
            chain.append(at.span_id)
            at = known.get(at.parent_id, at)
        level = levels.get(at.span_id, -1)
        for span_id in reversed(chain):
            level += 1
            levels[span_id] = level
    return [(levels[each.span_id], each) for each in known.values()]


def _placed(
    levels: list[tuple[int, RecordedSpan]], start_ns: int, end_ns: int, pixel: int
) -> list[tuple[int, int, int, RecordedSpan]]:
    """Each in a lane in which nothing else is at the time; of those that share a pixel the longest."""
    placed: list[tuple[int, int, int, RecordedSpan]] = []
    first = 0
    for level in sorted({level for level, _ in levels}):
        of_level = sorted(
            (
                (max(start_ns, span.started_ns), min(end_ns, end_ns if span.ended_ns is None else span.ended_ns), span)
                for its, span in levels
                if its == level
            ),
            key=lambda each: each[:2],
        )
        lanes: list[list[tuple[int, int, int, RecordedSpan]]] = []
        for begin, end, span in of_level:
            if begin > end:
                continue
            number = next((at for at, lane in enumerate(lanes) if lane[-1][2] <= begin), len(lanes))
            if number == len(lanes):
                lanes.append([])
            lane = lanes[number]
            if lane and (begin - start_ns) // pixel == (lane[-1][1] - start_ns) // pixel:
                if end - begin > lane[-1][2] - lane[-1][1]:
                    lane[-1] = (first + number, begin, end, span)
                continue
            lane.append((first + number, begin, end, span))
        placed += [each for lane in lanes for each in lane]
        first += len(lanes)
    return placed


def _label(span: RecordedSpan) -> str:
    number = span.attributes.get(EPOCH if span.name == "epoch" else STEP if span.name == "step" else "")
    return span.name if number is None else f"{span.name} {number}"


def _lines(span: RecordedSpan, when: When) -> tuple[str, ...]:
    """What is told of a span: what it is, when, how long, and how it ended."""
    if span.ended_ns is None:
        return (_label(span), f"from {when(span.started_ns)}, and its end was not seen")
    lasted = duration((span.ended_ns - span.started_ns) / 1e9)
    failed = ("it failed",) if span.status == "error" else ()
    return (_label(span), f"{when(span.started_ns)} to {when(span.ended_ns)}, {lasted}", *failed)


def _bands(strips: Sequence[Strip]) -> tuple[Band, ...]:
    bands = [
        Band(each.start_ns, each.end_ns, strip.colour, 0.16 if strip.name in _SHADED else 0.07)
        for strip in strips
        for place, each in enumerate(strip.stretches)
        if strip.name in _SHADED or (strip.name == "epoch" and place % 2)
    ]
    return tuple(bands) if len(bands) <= MOST_BANDS else ()


def _lasting(
    alerts: Iterable[RecordedAlert], start_ns: int, end_ns: int, when: When
) -> Iterable[tuple[int, int, RecordedAlert, tuple[str, ...]]]:
    """Each alert from when it fires: begin, end, the alert, what is told of it."""
    firing: dict[tuple[str, str], RecordedAlert] = {}
    for alert in alerts:
        key = (alert.rule, alert.device)
        if alert.state == "resolved":
            begun = firing.pop(key, None)
            began = start_ns if begun is None else begun.at_ns
            lasted = f"{when(began)} to {when(alert.at_ns)}, {duration((alert.at_ns - began) / 1e9)}"
            how = lasted if begun else f"until {when(alert.at_ns)}"
            yield began, min(end_ns, alert.at_ns), begun or alert, _told(begun or alert, how)
        else:
            firing.setdefault(key, alert)
    for begun in firing.values():
        yield begun.at_ns, max(begun.at_ns, end_ns), begun, _told(begun, f"from {when(begun.at_ns)}, not resolved")


def _told(alert: RecordedAlert, how: str) -> tuple[str, ...]:
    named = f"{alert.severity}: {alert.rule}" + (f" ({alert.device})" if alert.device else "")
    return tuple(each for each in (named, alert.message, how) if each)
