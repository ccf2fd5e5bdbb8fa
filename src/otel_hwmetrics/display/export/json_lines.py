# SPDX-License-Identifier: Apache-2.0
"""JSON lines: an object a line, all that a run has recorded. docs/how-to/exports.md says what is in each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from otel_hwmetrics.display.export.choice import Choice
from otel_hwmetrics.display.export.columns import Column
from otel_hwmetrics.display.export.looks import Part
from otel_hwmetrics.display.export.rows import moments_of, number_of
from otel_hwmetrics.display.export.target import Heard, target
from otel_hwmetrics.display.finite import finite
from otel_hwmetrics.display.words import iso
from otel_hwmetrics.recording import Run
from otel_hwmetrics.recording.nouns import Job, RecordedAlert, RecordedSpan

VERSION: Final = 1
"""Of what is written; a greater one may leave out or change what is there now, the same one only adds."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def write_json_lines(run: Run, parts: Sequence[Part], choice: Choice, path: str, told: Heard) -> int:
    """Write the run; gives the number of samples, which are looks of one process.

    Raises:
        OSError: It cannot be written.
    """
    samples = 0
    with target(path) as file:
        for line in _lines(run, parts, choice):
            file.write(_as_json(line).encode("utf-8", "replace") + b"\n")
            if line["type"] == "sample":
                samples += 1
                told(line["time_unix_nano"])
    return samples


def _as_json(line: Mapping[str, Any]) -> str:
    try:
        return _ENCODER.encode(line)
    except ValueError:  # a NaN, as a loss may be; the rule has none, and is not to be gone through value by value
        return _ENCODER.encode(finite(line))


def _lines(run: Run, parts: Sequence[Part], choice: Choice) -> Iterator[dict[str, Any]]:
    about = {"type": "run", "version": VERSION, "id": run.id, "name": run.name, "tags": dict(run.tags)}
    yield about | _times({"started_ns": run.started_ns, "ended_ns": run.ended_ns, "heard_ns": run.heard_ns})
    for part in parts:
        yield {
            "type": "process",
            "process": part.number,
            **_times(asdict(part.recording.about)),
            "file": part.recording.path,
        }
    for job in run.jobs():
        yield _job(job)
    for part in parts:
        yield from (_series(part, column) for column in sorted(part.columns, key=lambda column: column.order))
    yield from _samples(parts, choice)
    for part in parts:
        for span in part.recording.spans():
            end = span.ended_ns or part.recording.about.heard_ns
            if _overlaps(span.started_ns, end, choice):
                yield {"type": "span", "process": part.number, **_of_process(span)}
        for alert in part.recording.alerts():
            if _overlaps(alert.at_ns, alert.at_ns, choice):
                yield {"type": "alert", "process": part.number, **_of_process(alert)}
        for file in part.recording.files():
            yield {"type": "file", "process": part.number, **_times(file._asdict())}


def _of_process(told: RecordedSpan | RecordedAlert) -> dict[str, Any]:
    """A span or an alert; host and rank are told of its process."""
    return {name: value for name, value in _times(asdict(told)).items() if name not in {"host", "rank"}}


def _job(job: Job) -> dict[str, Any]:
    told = _times(asdict(job))
    told["summary"]["figures"] = {name: stat._asdict() for name, stat in job.summary.figures.items()}
    return {"type": "job", **told, "runtime": job.runtime}


def _series(part: Part, column: Column) -> dict[str, Any]:
    return {
        "type": "series",
        "process": part.number,
        "name": column.name,
        "metric": column.metric,
        "unit": column.unit,
        "kind": column.kind.value,
        "attributes": dict(column.attributes),
        "description": column.description or None,
    }


def _samples(parts: Sequence[Part], choice: Choice) -> Iterator[dict[str, Any]]:
    for together in moments_of(parts, choice):
        at_ns, number = together[0][:2]
        values = {
            column.name: told
            for each in together
            for column, value in zip(each.columns, each.values, strict=True)
            if (told := number_of(column, value)) is not None
        }
        yield {"type": "sample", "process": number, "time": iso(at_ns), "time_unix_nano": at_ns, "values": values}


def _times(told: Mapping[str, Any]) -> dict[str, Any]:
    """Moments as people and programs read them, ``started_ns`` as ``started``; to the nanosecond beside that."""
    found: dict[str, Any] = {}
    for key, value in told.items():
        if key.endswith("_ns"):
            found[key.removesuffix("_ns")] = iso(value)
            found[f"{key.removesuffix('_ns')}_unix_nano"] = value
        else:
            found[key] = value
    return found


def _overlaps(start_ns: int, end_ns: int, choice: Choice) -> bool:
    return (choice.end_ns is None or start_ns <= choice.end_ns) and (
        choice.start_ns is None or end_ns >= choice.start_ns
    )
