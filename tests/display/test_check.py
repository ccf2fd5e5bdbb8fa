# SPDX-License-Identifier: Apache-2.0
"""What was used against what was asked for: exact, and no violation that is none."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.display.report import as_data, check_text
from otel_hwmetrics.display.report.advice import advice
from otel_hwmetrics.display.report.formats import FORMATS
from otel_hwmetrics.display.report.material import Material
from otel_hwmetrics.display.report.usage import (
    CPU,
    GPU_MEMORY,
    GPUS,
    MEMORY,
    RESOURCES,
    RUNTIME,
    Comparison,
    comparisons,
    cpu_error,
    violations,
    without_request,
)
from otel_hwmetrics.recording.nouns import DONE, FAILED, LOST, RUNNING, SKIPPED, WAITING, Job, Request, Stat, Summary

GIB = 2**30
MINUTE, HOUR = 60.0, 3600.0
START = 1_760_000_040_000_000_000


def job(
    number: int = 1,
    name: str = "train",
    *,
    asked: Request | None = None,
    runtime: float | None = 60.0,
    state: str = DONE,
    exit_code: int | None = 0,
    max_rss: int | None = None,
    **peaks: float,
) -> Job:
    """A job that used so much at the most; of each figure half of that in the mean, 0.9 of it as the 95th percentile."""
    figures = {figure: Stat(peak, peak / 2, peak * 0.9) for figure, peak in peaks.items()}
    began = None if runtime is None else START
    end = None if runtime is None else START + round(runtime * 1e9)
    return Job(
        number,
        name,
        state=state,
        started_ns=began,
        ended_ns=end if state in (DONE, FAILED) else None,
        heard_ns=end,
        exit_code=exit_code if state in (DONE, FAILED) else None,
        request=asked or Request(),
        summary=Summary(60, 60.0, figures, max_rss=max_rss),
    )


def material(*jobs: Job, run: str = "1f3a9c2e") -> Material:
    """A run of them."""
    return Material(run, "night", jobs=jobs, started_ns=START, ended_ns=START + 10**12, heard_ns=START + 10**12)


def checked(*jobs: Job, everything: bool = False) -> tuple[list[str], dict[str, Any]]:
    """What people are told, and programs."""
    run = material(*jobs)
    found = [(run, comparisons(run.jobs))]
    advised = advice([(run.jobs, 1.0)])
    return (
        check_text.check(found, advised, everything=everything),
        as_data.check(found, advised, everything=everything),
    )


def rows(lines: Sequence[str]) -> list[list[str]]:
    """The cells of the table among the lines: what stands below each head."""
    (rule,) = [place for place, line in enumerate(lines) if line.strip() and set(line) <= {"-", " "}]
    starts = [0, *(place + 2 for place in range(len(lines[rule])) if lines[rule][place : place + 2] == "  ")]
    ends = [*(start - 2 for start in starts[1:]), None]
    table = lines[rule - 1 : lines.index("", rule) if "" in lines[rule:] else None]
    return [
        [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        for line in table
        if line != lines[rule]
    ]


TRAIN_MODEL = job(
    15,
    "train_model",
    asked=Request(cpus=8, memory=8 * GIB, runtime=2 * HOUR),
    runtime=2 * HOUR + 45 * MINUTE,
    memory=10.5 * GIB,
    cpu=7.203,
)
LARGE = job(16, "large_preprocess", asked=Request(cpus=8), cpu=9.505)
PREPROCESS = job(
    16,
    "preprocess",
    asked=Request(cpus=4, memory=4 * GIB, runtime=10 * MINUTE),
    runtime=7 * MINUTE + 30,
    memory=2.1 * GIB,
    cpu=3.802,
)

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "reports.md").read_text(encoding="utf-8")

HEADS = ["Job ID", "Job Name", "Resource", "Specified", "Peak Used", "Over-Utilization", "P95"]

TORC: list[tuple[Job, str, str, str, str]] = [
    (TRAIN_MODEL, MEMORY, "8.00 GiB", "10.50 GiB", "+31.3%"),
    (TRAIN_MODEL, RUNTIME, "2 h", "2 h 45 min", "+37.5%"),
    (LARGE, CPU, "800% (8 CPUs)", "950.5%", "+18.8%"),
    (TRAIN_MODEL, CPU, "800% (8 CPUs)", "720.3%", "-10.0%"),  # torc's own page has -9.9%: 7.203 / 8 - 1 is -9.96%
    (PREPROCESS, MEMORY, "4.00 GiB", "2.10 GiB", "-47.5%"),
    (PREPROCESS, CPU, "400% (4 CPUs)", "380.2%", "-5.0%"),
    (PREPROCESS, RUNTIME, "10 min", "7 min 30 s", "-25.0%"),
]
"""The rows of the example in torc's documentation of its check (docs, "Resource Monitoring")."""


@pytest.mark.parametrize(
    ("of", "resource", "specified", "peak", "over"), TORC, ids=lambda each: getattr(each, "name", each)
)
def test_the_numbers_are_torcs(of: Job, resource: str, specified: str, peak: str, over: str) -> None:
    """What its users know of their jobs comes out the same here."""
    (found,) = [each for each in comparisons([of]) if each.resource == resource]
    assert (found.texts[0], found.texts[1], found.texts[3]) == (specified, peak, over)
    assert found.violated == over.startswith("+")


def test_violations_alone_are_shown() -> None:
    """In torc's columns; --all is pointed to, and what to ask for next time is below."""
    lines, data = checked(TRAIN_MODEL, LARGE)
    assert lines[0] == "Found 3 resource over-utilization violations:"
    assert rows(lines)[0] == HEADS
    assert [row[:6] for row in rows(lines)[1:]] == [
        ["15", "train_model", "Memory", "8.00 GiB", "10.50 GiB", "+31.3%"],
        ["15", "train_model", "Runtime", "2 h", "2 h 45 min", "+37.5%"],
        ["16", "large_preprocess", "CPU", "800% (8 CPUs)", "950.5%", "+18.8%"],
    ]
    assert any("--all" in line for line in lines)
    assert "  train_model: 8 CPUs, 12.00 GiB of memory, 3 h 30 min" in lines
    assert [data[key] for key in ("run_id", "total_results", "over_utilization_count")] == ["1f3a9c2e", 2, 3]
    assert "results" not in data


def test_the_page_shows_what_is_printed() -> None:
    """To the letter: the check, and what to ask for in each format."""
    lines, _ = checked(TRAIN_MODEL, LARGE)
    advised = advice([([TRAIN_MODEL], 1.0)])
    assert [line for line in lines if line not in PAGE and not line.startswith("--all")] == []
    for printed in FORMATS.values():
        assert "\n".join(printed(advised)) in PAGE


def test_all_are_shown_where_asked_for() -> None:
    """In the order of jobs and resources, also what was not used up."""
    lines, data = checked(TRAIN_MODEL, PREPROCESS, everything=True)
    assert [(row[0], row[2], row[5]) for row in rows(lines)[1:]] == [
        *(("15", "Memory", "+31.3%"), ("15", "CPU", "-10.0%"), ("15", "Runtime", "+37.5%")),
        *(("16", "Memory", "-47.5%"), ("16", "CPU", "-5.0%"), ("16", "Runtime", "-25.0%")),
    ]
    assert len(data["results"]) == 6
    assert data["over_utilization_count"] == len(data["violations"]) == 2
    assert not any("--all" in line for line in lines)


def test_programs_get_the_texts_and_the_numbers() -> None:
    """The keys that torc has, with its texts, and the same in SI units."""
    _, data = checked(TRAIN_MODEL)
    assert data["violations"][0] == {
        "run_id": "1f3a9c2e",
        "run_started": "2025-10-09T08:54:00.000000Z",
        "job_id": 15,
        "job_name": "train_model",
        "resource_type": "Memory",
        "specified": "8.00 GiB",
        "peak_used": "10.50 GiB",
        "p95_used": "9.45 GiB",
        "over_utilization": "+31.3%",
        "violation": True,
        "unit": "By",
        "specified_value": 8 * GIB,
        "peak_used_value": 10.5 * GIB,
        "p95_used_value": pytest.approx(9.45 * GIB),
        "over_utilization_ratio": 0.3125,
        "tolerance_ratio": 0.0,
        "specified_by": None,
        "killed_for_memory": False,
    }


def test_gpus_are_compared_too() -> None:
    """How many were in use, and the memory of the one that used most."""
    asked = Request(gpus=2, gpu_memory=40 * GIB, by={"gpus": "slurm"})
    lines, _ = checked(job(asked=asked, gpus=4.0, gpu_memory_most=30 * GIB, gpu_memory=70 * GIB), everything=True)
    assert [row[2:7] for row in rows(lines)[1:]] == [
        ["GPU memory", "40.00 GiB", "30.00 GiB", "-25.0%", "27.00 GiB"],
        ["GPUs", "2", "4", "+100.0%", "-"],
    ]
    assert rows(lines)[0][7] == "Asked By"
    assert [row[7] for row in rows(lines)[1:]] == ["", "slurm"]


def test_every_resource_is_compared() -> None:
    """That a request can name."""
    asked = Request(cpus=1, memory=GIB, runtime=1.0, gpus=1, gpu_memory=GIB)
    found = comparisons([job(asked=asked)])
    assert {each.resource for each in found} == set(RESOURCES) == {MEMORY, CPU, RUNTIME, GPU_MEMORY, GPUS}


@pytest.mark.parametrize(
    ("peak", "interval", "tolerance", "violated"),
    [
        *((8.16, 1.0, None, False), (8.17, 1.0, None, True), (8.16, 10.0, None, False), (8.17, 10.0, None, True)),
        *((9.59, 0.1, None, False), (9.61, 0.1, None, True), (8.39, 1.0, 0.05, False), (8.41, 1.0, 0.05, True)),
        *((8.16, 1.0, 0.0, False), (8.0, 1.0, None, False), (8.1, 0.0, None, False)),
    ],
)
def test_a_tick_of_the_kernels_clock_is_no_violation(
    peak: float, interval: float, tolerance: float | None, *, violated: bool
) -> None:
    """CPU may be off by a tick at each end of the time between two looks: 2% at a second, more below, whatever is asked for."""
    (found,) = comparisons([job(asked=Request(cpus=8), cpu=peak)], interval, tolerance)
    assert found.violated is violated
    assert found.tolerance == max(tolerance or 0.0, cpu_error(interval))


def test_of_a_job_that_was_over_sooner_a_tick_is_more() -> None:
    """Two ticks of a third of a second are 6%: that is no violation, and no reason to ask for another CPU."""
    short, longer = (job(asked=Request(cpus=1), cpu=1.05, runtime=runtime) for runtime in (0.33, 1.0))
    assert not comparisons([short])[0].violated
    assert comparisons([longer])[0].violated
    assert advice([([short], 1.0)])[0].cpus == 1


@pytest.mark.parametrize(
    ("peak", "tolerance", "violated"),
    [
        *((8.0, None, False), (8.003, None, False), (8.0041, None, True), (8.1, None, True), (8.1, 0.02, False)),
        (8.2, 0.02, True),
    ],
)
def test_memory_is_exact(peak: float, tolerance: float | None, *, violated: bool) -> None:
    """What shows as +0.1% is a violation, unless some is tolerated."""
    (found,) = comparisons([job(asked=Request(memory=8 * GIB), memory=peak * GIB)], 1.0, tolerance)
    assert found.violated is violated
    assert found.texts[3].startswith("+") or not violated


def test_a_peak_between_two_looks_counts() -> None:
    """The kernel's own peak of a process, where that is more than any look has seen."""
    (found,) = comparisons([job(asked=Request(memory=2 * GIB), memory=1 * GIB, max_rss=3 * GIB)])
    assert (found.peak, found.violated) == (3 * GIB, True)
    (found,) = comparisons([job(asked=Request(memory=2 * GIB), memory=4 * GIB, max_rss=3 * GIB)])
    assert found.peak == 4 * GIB


@pytest.mark.parametrize(
    ("code", "peak", "starved"),
    [
        *((-signal.SIGKILL, 7.9, True), (137, 7.9, True), (-signal.SIGKILL, 7.2, True), (-signal.SIGKILL, 7.1, False)),
        *((-signal.SIGTERM, 7.9, False), (1, 7.9, False), (0, 7.9, False)),
    ],
)
def test_a_job_that_was_killed_for_memory_is_a_violation(code: int, peak: float, *, starved: bool) -> None:
    """A job that is held to its memory never shows more than it; that it was killed near it is said."""
    lines, data = checked(
        job(asked=Request(memory=8 * GIB), memory=peak * GIB, state=FAILED if code else DONE, exit_code=code)
    )
    assert data["over_utilization_count"] == starved
    assert ("for want of memory" in "\n".join(lines)) is starved
    if starved:
        assert rows(lines)[1][5].endswith("(killed)")
        assert data["recommendations"][0]["memory_bytes"] > 8 * GIB
        assert data["violations"][0]["killed_for_memory"] is True


def test_what_nobody_asked_for_is_no_violation() -> None:
    """Where nothing is known of any request, that is said; of some, whose."""
    lines, data = checked(job(memory=100.0 * GIB))
    assert lines[0].startswith("Nothing to check: no job says what it asked for.")
    assert data["over_utilization_count"] == 0
    assert data["total_results"] == 1
    lines, _ = checked(job(memory=100.0 * GIB, name="bare"), PREPROCESS)
    assert lines[0] == "No job used more than it asked for (3 comparisons)."
    assert "Nothing is known of what was asked for by bare." in lines
    assert [each.name for each in without_request([job(name="bare"), PREPROCESS])] == ["bare"]


@pytest.mark.parametrize("state", [WAITING, SKIPPED])
def test_what_never_began_used_nothing(state: str) -> None:
    """And is not compared."""
    lines, data = checked(job(asked=Request(memory=1), runtime=None, state=state))
    assert lines == ["Nothing to check: no job has begun."]
    assert (data["total_results"], data["violations"], data["recommendations"]) == (0, [], [])
    assert checked()[0] == ["Nothing to check: no job has begun."]


@pytest.mark.parametrize(("state", "word"), [(RUNNING, "still runs"), (LOST, "was lost")])
def test_what_is_not_over_is_compared_as_far_as_it_is_known(state: str, word: str) -> None:
    """And it is said that there may be more to come."""
    lines, data = checked(job(asked=Request(runtime=30.0), runtime=60.0, state=state))
    assert data["over_utilization_count"] == 1
    assert any(word in line for line in lines)


def test_what_is_not_known_is_not_compared() -> None:
    """No figure is no violation, and shows as nothing."""
    lines, data = checked(job(asked=Request(gpus=1, memory=GIB)), everything=True)
    assert [row[2:6] for row in rows(lines)[1:]] == [["Memory", "1.00 GiB", "-", "-"], ["GPUs", "1", "-", "-"]]
    assert data["results"][0]["peak_used"] is data["results"][0]["over_utilization_ratio"] is None


def test_none_that_was_asked_for_and_some_used_is_over() -> None:
    """By no percentage that anybody could tell."""
    (found,) = comparisons([job(asked=Request(gpus=0), gpus=1.0)])
    assert (found.violated, found.over, found.texts[3]) == (True, None, "over")
    (found,) = comparisons([job(asked=Request(gpus=0), gpus=0.0)])
    assert (found.violated, found.texts[3]) == (False, "-")


def test_one_cpu_is_no_plural_and_parts_of_one_are_shown() -> None:
    """As people write them."""
    shown = [comparisons([job(asked=Request(cpus=cpus), cpu=0.5)])[0].texts[0] for cpus in (1, 0.5, 1.25)]
    assert shown == ["100% (1 CPU)", "50% (0.5 CPUs)", "125% (1.25 CPUs)"]


def test_several_runs_are_told_apart() -> None:
    """By a column, in what is said of jobs, and by a key."""
    one, other = material(TRAIN_MODEL), material(PREPROCESS, job(3, state=LOST), run="77777777")
    found = [(each, comparisons(each.jobs)) for each in (one, other)]
    lines = check_text.check(found, [], everything=True)
    assert {row[0] for row in rows(lines)[1:]} == {"1f3a9c2e", "77777777"}
    assert any(line.startswith("Job 3 of run 77777777 (train) was lost") for line in lines)
    data = as_data.check(found, [], everything=True)
    assert data["run_id"] is None
    assert {each["run_id"] for each in data["results"]} == {"1f3a9c2e", "77777777"}


@given(st.floats(1e-6, 1e15), st.floats(0, 1e15), st.floats(0, 1))
def test_a_violation_shows_as_one(specified: float, peak: float, tolerance: float) -> None:
    """It is above, by more than is tolerated, and its text says by how much; and nothing else is a violation."""
    found = Comparison(job(), MEMORY, specified, peak, tolerance=tolerance)
    over = peak / specified - 1
    if found.violated:
        assert over > tolerance
        assert found.texts[3].startswith("+")
    elif over > tolerance + 1e-9:
        assert found.texts[3] in ("0.0%", "+0.1%")
    assert violations([found]) == ([found] if found.violated else [])
    assert math.isfinite(float(found.texts[3].rstrip("%")))
