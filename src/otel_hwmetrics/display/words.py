# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them; each function takes SI units, and gives ``-`` for what is not known.

Memory in binary units (1 GiB = 2^30 bytes), energy in joules, watt-hours or kilowatt-hours, whichever reads best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timezone, tzinfo
from types import MappingProxyType
from typing import Final, TypeGuard

ABSENT: Final = "-"
"""What stands where nothing is known."""
ELLIPSIS: Final = "…"

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEP: Final = 1024
_BINARY: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_KWH: Final = 3.6e6
_WH: Final = 3600.0


def rounded(value: float, digits: int = 0) -> float:
    """Rounded half away from zero, as people do it; of 31.25 is 31.3, where `round` and format say 31.2.

    What is off by the last bits of a float, as 0.285 * 100, is taken for what it was meant to be.
    """
    scale: float = 10.0**digits
    steps = abs(value) * scale
    return math.copysign(math.floor(steps * (1 + 1e-12) + 0.5) / scale, value)


def number(value: float | None, digits: int = 2) -> str:
    """A plain number without needless zeros: ``4``, ``1.5``."""
    if not _known(value):
        return ABSENT
    text = _fixed(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text else text


def size(value: float | None) -> str:
    """Bytes: ``512 B``, ``312.5 MiB``, ``10.50 GiB``."""
    if not _known(value):
        return ABSENT
    if rounded(abs(value)) < _STEP:
        return f"{_fixed(value, 0)} B"
    scaled = value
    for unit in _BINARY:
        scaled /= _STEP
        digits = 2 if unit in _BINARY[2:] else 1  # a hundredth of a MiB is nobody's concern
        if rounded(abs(scaled), digits) < _STEP or unit == _BINARY[-1]:
            return f"{_fixed(scaled, digits)} {unit}"
    raise AssertionError  # the last unit takes all


def duration(seconds: float | None) -> str:
    """A length of time: ``350 ms``, ``12.3 s``, ``7 min 30 s``, ``2 h 45 min``, ``3 d 4 h``.

    From a minute on it is to the second, from a day on to the minute.
    """
    if not _known(seconds):
        return ABSENT
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if rounded(seconds, 3) < 1:
        return "0 s" if seconds == 0 else f"{number(seconds * 1000, 0 if seconds >= 0.01 else 2)} ms"  # noqa: PLR2004 - 10 ms
    if rounded(seconds, 1) < _MINUTE:
        return f"{_fixed(seconds, 1)} s"
    whole = int(rounded(seconds))
    whole = whole if whole < _DAY else int(rounded(seconds / _MINUTE)) * _MINUTE
    parts = (
        (whole // _DAY, "d"),
        (whole % _DAY // _HOUR, "h"),
        (whole % _HOUR // _MINUTE, "min"),
        (whole % _MINUTE, "s"),
    )
    first = next(place for place, (amount, _) in enumerate(parts) if amount)
    last = max(place for place, (amount, _) in enumerate(parts) if amount)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : last + 1])


def share(ratio: float | None) -> str:
    """A ratio in percent with one decimal: ``87.5%``. 1.5 CPUs of one are ``150.0%``."""
    return f"{_fixed(100 * ratio, 1)}%" if _known(ratio) else ABSENT


def change(ratio: float | None) -> str:
    """By how much something differs, with its sign: ``+31.3%``, ``-47.5%``; ``0.0%`` for what does not show."""
    if not _known(ratio):
        return ABSENT
    shown = rounded(100 * ratio, 1)
    return f"{shown:+.1f}%" if shown else "0.0%"


def energy(joules: float | None) -> str:
    """Energy: ``850 J``, ``12.35 Wh``, ``1.25 kWh``."""
    if not _known(joules):
        return ABSENT
    if rounded(abs(joules)) < _WH:
        return f"{number(joules, 0 if abs(joules) >= 100 else 1)} J"  # noqa: PLR2004 - three digits do
    if rounded(abs(joules) / _WH, 2) < 1000:  # noqa: PLR2004 - a thousand of them
        return f"{_fixed(joules / _WH, 2)} Wh"
    return f"{_fixed(joules / _KWH, 2)} kWh"


def power(watts: float | None) -> str:
    """Power: ``312 W``, ``5.20 kW``."""
    if not _known(watts):
        return ABSENT
    if rounded(abs(watts)) < 1000:  # noqa: PLR2004 - a thousand of them
        return f"{_fixed(watts, 0)} W"
    return f"{_fixed(watts / 1000, 2)} kW"


def temperature(celsius: float | None) -> str:
    """A temperature: ``71 °C``."""
    return f"{_fixed(celsius, 0)} °C" if _known(celsius) else ABSENT


def rate(bytes_per_second: float | None) -> str:
    """Bytes a second: ``312.5 MiB/s``."""
    return f"{size(bytes_per_second)}/s" if _known(bytes_per_second) else ABSENT


def gpu_hours(seconds: float | None) -> str:
    """GPU-seconds as hours: ``0.25 GPU-hours``."""
    return f"{_fixed(seconds / _HOUR, 2)} GPU-hours" if _known(seconds) else ABSENT


def counted(amount: int, noun: str, several: str = "") -> str:
    """So many of them: ``1 job``, ``3 jobs``."""
    return f"{amount} {noun if amount == 1 else several or f'{noun}s'}"


def when(at_ns: int | None, zone: tzinfo | None = None) -> str:
    """A moment with its zone: ``2026-03-01 14:05:09 +01:00``.

    Args:
        at_ns: Nanoseconds since the epoch.
        zone: Local time if not given.
    """
    if at_ns is None:
        return ABSENT
    moment = _moment(at_ns, zone)
    return f"{moment:%Y-%m-%d %H:%M:%S} {offset(at_ns, zone)}"


def clock(at_ns: int | None, zone: tzinfo | None = None, *, day: bool = False) -> str:
    """A moment without its zone, where a heading says that: ``14:05:09``, or ``03-01 14:05:09`` with its day."""
    if at_ns is None:
        return ABSENT
    return format(_moment(at_ns, zone), "%m-%d %H:%M:%S" if day else "%H:%M:%S")


def offset(at_ns: int, zone: tzinfo | None = None) -> str:
    """By how much local time, or a zone's, differs from UTC at a moment: ``+01:00``."""
    text = format(_moment(at_ns, zone), "%z")
    return f"{text[:3]}:{text[3:5]}"


def iso(at_ns: int | None) -> str | None:
    """A moment for programs, in UTC, to the microsecond: ``2026-03-01T13:05:09.250000Z``."""
    if at_ns is None:
        return None
    return _moment(at_ns, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _moment(at_ns: int, zone: tzinfo | None) -> datetime:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest // 1000).astimezone(zone)


def _fixed(value: float, digits: int) -> str:
    shown = rounded(value, digits)
    return f"{shown or 0.0:.{digits}f}"  # no -0.0


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


BY_UNIT: Final[Mapping[str, Callable[[float | None], str]]] = MappingProxyType(
    {
        "By": size,
        "s": duration,
        "1": share,
        "J": energy,
        "W": power,
        "Cel": temperature,
        "By/s": rate,
    }
)
"""How a value is shown, by the unit of its metric (UCUM); anything else is a `number`."""


def shown(value: float | None, unit: str) -> str:
    """A value of a metric, by its unit: ``10.50 GiB``; a unit without words of its own stands behind the number."""
    if unit in BY_UNIT:
        return BY_UNIT[unit](value)
    named = f" {unit}" if _known(value) and not unit.startswith("{") else ""
    return f"{number(value)}{named}"
