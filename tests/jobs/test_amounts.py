# SPDX-License-Identifier: Apache-2.0
"""What people ask for, as they write it."""

from __future__ import annotations

from typing import Any

import pytest

from otel_hwmetrics.jobs.amounts import AMOUNTS

GIB = 2**30
NOTHING: tuple[Any, ...] = (None, True, [], {})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        *[("memory", text, 8 * GIB) for text in ("8g", "8G", "8GiB", "8 gib", "8192m", str(8 * GIB), 8 * GIB)],
        ("memory", "8GB", 8 * 10**9),
        ("memory", "1.5k", 1536),
        *[
            ("runtime", text, 7200.0)
            for text in ("PT2H", "pt2h", "2h", "120m", "02:00:00", "2:00:00", "PT120M", "7200", 7200)
        ],
        ("runtime", "P1DT12H", 129600.0),
        ("runtime", "1-12:00:00", 129600.0),
        ("runtime", "P2D", 172800.0),
        ("runtime", "PT0.5S", 0.5),
        ("runtime", "PT1H30M5S", 5405.0),
        ("cpus", "8", 8.0),
        ("cpus", 0.5, 0.5),
        ("gpus", "2", 2.0),
        ("gpus", "0", 0.0),
        ("gpus", "0.0", 0.0),
        ("gpu_memory", "40g", 40 * GIB),
    ],
)
def test_an_amount_is_taken(name: str, text: Any, expected: float) -> None:
    """In the seed's notation, SLURM's, Kubernetes' and ours; a number is seconds or bytes."""
    assert AMOUNTS[name].parse(text) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("memory", text) for text in NOTHING],
        *[("runtime", text) for text in NOTHING],
        *[("memory", text) for text in ("", "8q", "-1", "0", "g", "8 g g", "nan", "1e400")],
        *[("runtime", text) for text in ("", "P", "PT", "2 moons", "01:30", "00:00:00", "1:60:00", "-5", "PT-2H")],
        *[("cpus", text) for text in ("", "many", "0", "-1", "inf", "nan", "1e9")],
        *[("gpus", text) for text in ("", "all", "-1", "nan")],
    ],
)
def test_what_makes_no_sense_is_refused(name: str, text: Any) -> None:
    """Hours or minutes, where it cannot be told which, included."""
    with pytest.raises((ValueError, TypeError, KeyError)):
        AMOUNTS[name].parse(text)
