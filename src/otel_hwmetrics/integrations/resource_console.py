# SPDX-License-Identifier: Apache-2.0
"""The block that `ResourceMonitorCallback` prints, with the alerts under it, and printing that harms nobody."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from otel_hwmetrics import forks
from otel_hwmetrics.integrations.resource_figures import gpus_of
from otel_hwmetrics.output import Regardless
from otel_hwmetrics.sinks.base import Alert

_printing: Final = forks.Section()
"""A child that is forked in the middle would inherit the lock of the output, or a line that it would print again."""
_NONE: Final[Mapping[str, int]] = MappingProxyType({})
_OF_GPUS: Final = {
    "gpu_underused": "{device} underutilized: {value:.1f}% (threshold: {threshold:g}%)",
    "gpu_memory_pressure": "High {device} memory usage: {value:.1f}% (threshold: {threshold:g}%)",
    "gpu_hot": "{device} temperature high: {value:g}°C",
    "gpu_very_hot": "{device} temperature high: {value:g}°C",
}
_OF_HOST: Final = {
    "host_memory_pressure": "High memory usage: {value:.1f}% (threshold: {threshold:g}%)",
    "io_bottleneck": "I/O bottleneck: {value:.1f}% wait time (threshold: {threshold:g}%)",
}


def block(
    batch: int, figures: Mapping[str, float], alerts: Iterable[Alert] = (), numbers: Mapping[str, int] = _NONE
) -> str:
    """The block for one batch; lines and parts of lines of which nothing could be read are left out.

    Args:
        batch: Its number.
        figures: By the names of `otel_hwmetrics.integrations.resource_figures.TABLE`.
        alerts: Those that fire.
        numbers: Of the GPUs, by what alerts on them are about.
    """
    gpus = gpus_of(figures)
    lines = [f"[Resources] Batch {batch}:", *(f"  {line}" for line in _lines(figures, gpus) if line)]
    told = [f"  - {said(alert, several=len(gpus) > 1, numbers=numbers)}" for alert in alerts]
    return "\n".join([*lines, *(["", "[Resources] ⚠️ ALERTS:", *told] if told else [])])


def said(alert: Alert, *, several: bool, numbers: Mapping[str, int] = _NONE) -> str:
    """An alert in the words of training callbacks where they have any, else its own message.

    Args:
        alert: One that fires.
        several: Whether there are several GPUs, so that it has to be said which.
        numbers: Of the GPUs, by what alerts on them are about; else it is called what the alert calls it.
    """
    words = _OF_GPUS.get(alert.name) or _OF_HOST.get(alert.name)
    if words is None or alert.value is None:
        return alert.message
    factor = 100.0 if alert.unit == "1" else 1.0
    number = numbers.get(alert.transition.subject.key)
    device = (f"GPU {number}" if number is not None else alert.device or "GPU") if several else "GPU"
    return words.format(device=device, value=alert.value * factor, threshold=alert.threshold * factor)


def _lines(figures: Mapping[str, float], gpus: list[int]) -> Iterable[str]:
    def shown(form: str, *names: str) -> str:
        values = [figures.get(name) for name in names]
        return "" if None in values else form.format(*values)

    for number in gpus:
        its = f"gpu_{number}_"
        memory = shown("{:.0f}/{:.0f} MB", f"{its}memory_used_mb", f"{its}memory_total_mb")
        yield _line(
            f"GPU {number}: ",
            ", ".join,
            shown("{:.1f}% util", f"{its}util"),
            _beside(memory, shown("({:.0f}%)", f"{its}memory_pct")),
            shown("{:.0f}°C", f"{its}temp_c"),
        )
    whole, own = shown("{:.1f}%", "cpu_percent"), shown("process: {:.1f}%", "cpu_process_percent")
    yield _line("CPU: ", " ".join, whole, f"({own})" if whole and own else own)
    memory = shown("{:.0f}/{:.0f} MB available", "memory_available_mb", "memory_system_mb")
    share = shown("{:.0f}%", "memory_percent")
    yield _line("Memory: ", " ".join, memory, f"({share})" if memory and share else share)
    yield _line(
        "I/O: ",
        ", ".join,
        shown("Read {:.1f} MB/s", "io_read_rate_mbps"),
        shown("Write {:.1f} MB/s", "io_write_rate_mbps"),
        shown("Wait {:.1f}%", "io_wait_pct"),
    )


def _beside(main: str, more: str) -> str:
    return f"{main} {more}" if main and more else main or more


def _line(head: str, joined: Any, *parts: str) -> str:
    """Empty where there is nothing to say."""
    there = [part for part in parts if part]
    return head + joined(there) if there else ""


def say(text: str) -> None:
    """Print lines on the standard output, wherever that goes now.

    Nothing comes of it where that is closed, or full: nobody waits for who reads it. Characters that it cannot take are
    shown by ``?``.
    """
    with Regardless(), _printing:  # a notebook's stream may raise whatever it likes
        stream = sys.stdout
        if stream is None or _is_full(stream):
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        stream.flush()


def _is_full(stream: Any) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return False
    with Regardless():  # it has no descriptor
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return not poll.poll(0)
    return False
