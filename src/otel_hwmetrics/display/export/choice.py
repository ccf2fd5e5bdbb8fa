# SPDX-License-Identifier: Apache-2.0
"""What of a run is exported: which metrics, from when until when, how finely."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Final

from otel_hwmetrics.display.export.columns import is_detail, known_names

ALL: Final = ("all",)
LIVE: Final = ("default",)
"""What is exported live without the option ``metrics``."""

_SECOND: Final = 1_000_000_000
_SPAN: Final = re.compile(r"(start|end)?([+-])(.+)")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(d|h|min|m|s)? ?")
_SECONDS: Final = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}
_LATEST: Final = 2**63 - 1  # nanoseconds that a recording can have


@dataclass(frozen=True)
class Choice:
    """What is wanted.

    Attributes:
        patterns: Of the names of metrics, as the option ``metrics`` has them.
        start_ns: From when on; None for the beginning.
        end_ns: Until when, inclusive; None for the end.
        every: Seconds that become one row or point; None for each look.
    """

    patterns: tuple[str, ...] = ALL
    start_ns: int | None = None
    end_ns: int | None = None
    every: float | None = None

    def takes(self, metric: str) -> bool:
        """Whether a metric is wanted; the last pattern that speaks of it decides."""
        taken = False
        for pattern in self.patterns:
            wanted = pattern.removeprefix("-")
            if _matches(metric, wanted):
                taken = not pattern.startswith("-")
        return taken


def _matches(metric: str, pattern: str) -> bool:
    if pattern == "default":
        return not is_detail(metric)
    return pattern == "all" or fnmatchcase(metric, pattern)


def patterns_of(text: str | None, usual: tuple[str, ...] = ALL) -> tuple[str, ...]:
    """The patterns in the value of ``--metrics``: words with commas or spaces between.

    Args:
        text: None where the argument is not given.
        usual: What then applies; also what patterns that begin with a ``-`` are taken away from.
    """
    words = tuple((text or "").replace(",", " ").split())
    if not words:
        return usual
    return (*usual, *words) if words[0].startswith("-") else words


def unmatched(patterns: Iterable[str], recorded: Collection[str]) -> str:
    """What is wrong with patterns: the first that no recorded metric has, in a sentence; empty where all have one."""
    for pattern in patterns:
        wanted = pattern.removeprefix("-")
        if (
            any(_matches(metric, wanted) for metric in recorded)
            or pattern.startswith("-")
            or wanted in ("all", "default")
        ):
            continue
        if any(_matches(metric, wanted) for metric in known_names()):
            return f"--metrics {pattern!r}: nothing of it was recorded in this run."
        near = difflib.get_close_matches(wanted, sorted(recorded), 1, 0.6)
        return f"--metrics {pattern!r}: no metric of this run is called so" + (f"; {near[0]} is one." if near else ".")
    return ""


def moment(text: str, started_ns: int, ended_ns: int) -> int:
    """A moment as a user tells it, in nanoseconds since the epoch.

    Args:
        text: ``2026-03-01T14:05:09+01:00`` (without a zone it is UTC, as exports tell it), ``+10m`` after the run's beginning,
            ``end-1h`` before its end, or seconds since the epoch.
        started_ns: When the run began.
        ended_ns: When it ended.

    Raises:
        ValueError: It is none of these.
    """
    text = text.strip()
    found = _told(text, started_ns, ended_ns)
    if found is None or abs(found) > _LATEST:
        raise ValueError(
            f"{text!r} is no moment: 2026-03-01T14:05:09+01:00 (UTC without a zone), +10m after the run's beginning, "
            "end-1h before its end, or seconds since the epoch"
        )
    return found


def _told(text: str, started_ns: int, ended_ns: int) -> int | None:
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text):
        whole, _, rest = text.partition(".")
        return int(whole) * _SECOND + int(rest[:9].ljust(9, "0"))
    if (found := _SPAN.fullmatch(text)) is not None and (seconds := _seconds(found[3])) is not None:
        base = started_ns if (found[1] or ("start" if found[2] == "+" else "end")) == "start" else ended_ns
        return base + round(seconds * 1e9) * (1 if found[2] == "+" else -1)
    told = re.sub(r"[Zz]$", "+00:00", text)
    told = re.sub(r"\.(\d{1,6})\d*", lambda found: f".{found[1]:0<6}", told)  # Python 3.10 takes three digits or six
    try:
        when = datetime.fromisoformat(told)
    except ValueError:
        return None
    when = when if when.tzinfo is not None else when.replace(tzinfo=timezone.utc)
    past = when - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return ((past.days * 86400 + past.seconds) * 1_000_000 + past.microseconds) * 1000


def _seconds(text: str) -> float | None:
    """How long ``1h30m`` is; None for what is no length. The unit may be left out of the last part, which then is seconds.

    Part after part: one pattern for all of them takes years for what is almost one.
    """
    seconds, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or (part[2] is None and part.end() < len(text)):
            return None
        seconds, at = seconds + float(part[1]) * _SECONDS[part[2] or "s"], part.end()
    return seconds if seconds < _LATEST / _SECOND else None


def within(at_ns: int, windows: Sequence[tuple[int, int]]) -> bool:
    """Whether a moment is in one of some stretches of time, their beginning included."""
    return any(start <= at_ns < end for start, end in windows)
