# SPDX-License-Identifier: Apache-2.0
"""What people ask for, as they write it: ``8g`` of memory, ``PT2H`` of time, one and a half CPUs."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from otel_hwmetrics.config import duration
from otel_hwmetrics.config.kinds import parse_number, size

_ISO: Final = re.compile(
    r"P(?:(?P<d>\d+)D)?(?:T(?=\d)(?:(?P<h>\d+)H)?(?:(?P<min>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?", re.IGNORECASE
)
# https://en.wikipedia.org/wiki/ISO_8601#Durations
_CLOCK: Final = re.compile(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)")
_DAY, _HOUR, _MINUTE = 86400, 3600, 60


class Amount(NamedTuple):
    """What one resource can be asked for in.

    Attributes:
        parse: Makes the value, in SI units; raises ValueError, TypeError or KeyError.
        allowed: What it takes, in words.
    """

    parse: Callable[[Any], Any]
    allowed: str


def runtime(value: Any) -> float:
    """Seconds: from a number, ``2h30m``, ``PT2H30M``, ``01:30:00``, ``1-12:00:00`` (a day and a half).

    Raises:
        ValueError: It is none of these, or nothing at all.
        TypeError: It is of a type that is none of these.
    """
    text = value.strip() if isinstance(value, str) else ""
    if found := _CLOCK.fullmatch(text):
        days, hours, minutes, rest = (int(part or 0) for part in found.groups())
        seconds = float(days * _DAY + hours * _HOUR + minutes * _MINUTE + rest)
    elif (found := _ISO.fullmatch(text)) and any(found.groups()):
        parts = {name: float(part or 0) for name, part in found.groupdict().items()}
        seconds = parts["d"] * _DAY + parts["h"] * _HOUR + parts["min"] * _MINUTE + parts["s"]
    else:
        seconds = duration(value)
    return _above_zero(seconds)


def _count(value: Any) -> float:
    return _above_zero(parse_number(0, 1e6)(value))


def _gpus(value: Any) -> float:
    """0 is what is written for jobs that need none."""
    number = float(parse_number(0, 1e6)(value))
    if not number >= 0:
        raise ValueError(value)
    return number


def _bytes(value: Any) -> int:
    return int(_above_zero(size(value)))


def _above_zero(value: float) -> float:
    if not value > 0:
        raise ValueError(value)
    return value


AMOUNTS: Final = MappingProxyType(
    {
        "cpus": Amount(_count, "a number of CPUs above 0, as 8 or 0.5"),
        "memory": Amount(_bytes, "bytes above 0, as 8g, 512MiB or 8GB"),
        "runtime": Amount(runtime, "a length of time, as 2h, 90m, PT2H or 01:30:00; a number is seconds"),
        "gpus": Amount(_gpus, "a number of GPUs, as 2; 0 for none"),
        "gpu_memory": Amount(_bytes, "bytes of each GPU, as 40g"),
    }
)
"""By the names of `otel_hwmetrics.recording.nouns.Request`."""
