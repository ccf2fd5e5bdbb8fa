# SPDX-License-Identifier: Apache-2.0
"""What a machine's NVML answered over some time, as a file.

[`record`][otel_hwmetrics.testing.captures.recorder.record] makes such a file on a machine with a GPU, and
[`load_capture`][otel_hwmetrics.testing.captures.replay.load_capture] plays it under the real `pynvml` on a machine without.

**Format 1** is JSON, an entry a line:

```json
{"format": 1,
 "origin": "real",
 "note": "8 x H100 SXM, idle, then a matrix product",
 "seconds": 60.0,
 "binding": "13.580.82",
 "anonymous": true,
 "absent": ["nvmlDeviceGetTemperatureV"],
 "answers": [
  {"call": "nvmlDeviceGetHandleByIndex_v2", "asked": [[0]], "told": [[0.2, ["gpu0"]]]},
  {"call": "nvmlDeviceGetPowerUsage", "of": "gpu0", "told": [[1, [97000]], [7, [612345]], [9, null, 15]]},
  {"call": "nvmlDeviceGetMemoryInfo_v2", "of": "gpu0", "asked": [[{"version": 33554472}]],
   "told": [[1, [{"total": 85899345920, "reserved": 0, "free": 85899345920, "used": 0}]], [7, [{"used": 4096}]]]},
  {"call": "nvmlDeviceGetFieldValues", "of": "gpu0", "asked": [[254, 0], [255, 0]], "told": [[1, [{"nvmlReturn": 3}]]]},
  {"call": "nvmlDeviceGetSamples", "of": "gpu0", "asked": [[1]], "told": [[1, [1]]],
   "ring": {"clock": "boot", "fields": ["sampleValue.uiVal"], "rows": [[0.166667, 97], [0.333333, 98]]}}],
 "latencies": [
  {"call": "nvmlDeviceGetPowerUsage", "of": "gpu0", "seconds": [[1, 0.000021], [8, 0.25]]}]}
```

- `origin`: `real`, or `scripted` for what another fake answered. `seconds`: how long it was recorded. `binding`: the
  version of nvidia-ml-py. `anonymous`: whether UUIDs, serial numbers, PCI addresses, process ids and names are
  pseudonyms. `absent`: C functions that were looked for and that the driver's library has not.
- `call`: the C function. `of`: the first device that the call names (`gpu0`, `gpu0/mig1`). `asked`: what else the
  caller passed by value, in order, a NULL included; of a struct, the fields by which a caller says what it wants.
  Calls with the same answers share an entry, so there is a list of them. Left out: lengths of buffers, event sets,
  GPM samples.
- `told`: `[seconds since the start, what was written]`, with the return code as a third where it is not 0. What was
  written is a list with an element for each argument that the driver may write to. An answer equal to the one before is
  not told again, and of a struct only the fields that changed are; `null` is what was before.
- For the two functions that answer many questions at once, `asked` is one question: `[field, scope]` of
  nvmlDeviceGetFieldValues, and `[metric]` of nvmlGpmMetricsGet, with the GPU instance as a second on MIG.
- `ring`: what a function with a `lastSeenTimeStamp` gave in total, each sample at the time stamped on it, and the
  clock of the stamps. A sample without a plausible one has its own `timeStamp`.
- Moments are texts relative to when the call was made: `epoch-0.01` is 10 ms before it in microseconds since 1970,
  `boot-0.01` the same on the clock that starts at boot. `self` is the id of the recording process.
- `latencies`: how long calls took, where that changed by more than half (and 0.2 ms).

Host names, users and command lines are never in a capture: NVML tells a process's name only, and that is a pseudonym.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from otel_hwmetrics.testing.captures.layouts import Plain

FORMAT: Final = 1

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer:
    """What one call gave.

    Attributes:
        code: The return code.
        outputs: What it wrote, by argument; None where it wrote nothing worth keeping.
    """

    code: int = 0
    outputs: list[Plain] | None = None


class Timeline(Generic[_T]):
    """Values by the second since which they hold."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.values: list[_T] = []

    def add(self, seconds: float, value: _T) -> None:
        """Append a value; one that comes out of order, from another thread, takes the time of the last."""
        self.times.append(max(seconds, self.times[-1]) if self.times else seconds)
        self.values.append(value)

    def at(self, seconds: float) -> _T:
        """Return the value that holds at that time: the latest, or the first before there is one."""
        return self.values[max(0, bisect_right(self.times, seconds) - 1)]

    def __iter__(self) -> Iterator[tuple[float, _T]]:
        return iter(zip(self.times, self.values, strict=True))

    def __len__(self) -> int:
        return len(self.times)


@dataclass
class Ring:
    """Samples that the driver keeps, and tells those of which are newer than a given time.

    Attributes:
        clock: What they are stamped with: `boot` or `epoch`.
        rows: The samples in order of time, each with its seconds since the start, and its values by field.
    """

    clock: str = "boot"
    rows: list[tuple[float, dict[str, Plain]]] = field(default_factory=list)

    def add(self, seconds: float, row: dict[str, Plain]) -> None:
        """Put a sample in its place; before the start is negative."""
        insort(self.rows, (round(seconds, 6), row), key=itemgetter(0))


@dataclass
class Series:
    """What one question was answered over time.

    Attributes:
        call: The C function.
        of: The device that it is about, None for none.
        asked: What else was passed.
        told: The answers.
        ring: The samples, where the function gives those since another time.
    """

    call: str
    of: str | None
    asked: list[Plain]
    told: Timeline[Answer] = field(default_factory=Timeline)
    ring: Ring | None = None


@dataclass
class Capture:
    """A recorded machine; the module describes each attribute under the key of its name."""

    origin: str = "scripted"
    note: str = ""
    seconds: float = 0.0
    binding: str = ""
    anonymous: bool = True
    absent: set[str] = field(default_factory=set)
    series: list[Series] = field(default_factory=list)
    latencies: dict[tuple[str, str | None], Timeline[float]] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, whole or not at all.

        Raises:
            OSError: It cannot be written.
        """
        target = Path(path)
        partial = target.with_name(f"{target.name}.part")
        partial.write_text(self.dump(), encoding="utf-8")
        partial.replace(target)

    def dump(self) -> str:
        """Return the text of the file."""
        head = {
            "format": FORMAT,
            "origin": self.origin,
            "note": self.note,
            "seconds": round(self.seconds, 3),
            "binding": self.binding,
            "anonymous": self.anonymous,
            "absent": sorted(self.absent),
        }
        lines = ",\n ".join(f'"{key}": {_json(value)}' for key, value in head.items())
        answers = ",\n  ".join(_json(entry) for entry in _entries(self.series))
        latencies = ",\n  ".join(
            _json(
                {"call": call, **({"of": of} if of else {}), "seconds": [[_short(at), took] for at, took in timeline]}
            )
            for (call, of), timeline in self.latencies.items()
        )
        return f'{{{lines},\n "answers": [\n  {answers}],\n "latencies": [\n  {latencies}]}}\n'


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _entries(series: list[Series]) -> Iterator[dict[str, Any]]:
    """Yield an entry for all questions with the same answers."""
    merged: dict[str, dict[str, Any]] = {}
    for one in series:
        entry: dict[str, Any] = {"call": one.call}
        if one.of is not None:
            entry["of"] = one.of
        answers: dict[str, Any] = {"told": list(_changes(one.told))}
        if one.ring is not None:
            answers["ring"] = _table(one.ring)
        merged.setdefault(_json([entry, answers]), {**entry, "asked": [], **answers})["asked"].append(one.asked)
    for entry in merged.values():
        if entry["asked"] == [[]]:
            del entry["asked"]
        yield entry


def _changes(told: Timeline[Answer]) -> Iterator[list[Any]]:
    before: list[Plain] = []
    for seconds, answer in told:
        outputs: list[Plain] | None = None
        if answer.outputs is not None:
            outputs = [
                _change(before[index] if index < len(before) else None, value)
                for index, value in enumerate(answer.outputs)
            ]
            before = answer.outputs
        yield [_short(seconds), outputs, answer.code] if answer.code else [_short(seconds), outputs]


def _short(seconds: float) -> float:
    return int(seconds) if seconds == int(seconds) else seconds


def _change(before: Plain, now: Plain) -> Plain:
    if before == now:
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        return {key: value for key, value in now.items() if key not in before or before[key] != value}
    return now


def _table(ring: Ring) -> dict[str, Any]:
    names = sorted({name for _, row in ring.rows for name in row})
    rows = [[_short(seconds), *(row.get(name) for name in names)] for seconds, row in ring.rows]
    return {"clock": ring.clock, "fields": names, "rows": rows}
