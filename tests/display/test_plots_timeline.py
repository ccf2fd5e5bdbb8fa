# SPDX-License-Identifier: Apache-2.0
"""What is to be seen of recorded jobs: all that was recorded of them, in units of people's, and nothing that was not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import recorded
from otel_hwmetrics.display.plots import gather, timeline
from otel_hwmetrics.display.plots.gather import Seen, from_samples, seen
from otel_hwmetrics.display.plots.overview import dashboard
from otel_hwmetrics.display.plots.picture import Heading, Panel, Style, Timeline
from otel_hwmetrics.display.plots.timeline import of_figure, of_job, outline
from otel_hwmetrics.recording import Run, open_run
from otel_hwmetrics.recording.nouns import (
    FAILED,
    FIGURES,
    LOST,
    PARENT,
    RUNNING,
    Job,
    JobSample,
    RecordedSpan,
    Request,
    Stat,
    Summary,
)
from recorded import GIB, SECOND, START

LOOKS = 150


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A small run of one process."""
    with open_run(str(recorded.run(tmp_path, LOOKS))) as opened:
        yield opened


def panels(picture: Timeline | None) -> dict[str, Panel]:
    """By their titles."""
    assert picture is not None
    return {panel.title: panel for panel in picture.panels}


def a_job(**more: object) -> Seen:
    """A job with two looks."""
    job = Job(1, "x", started_ns=START, ended_ns=START + 10 * SECOND, **more)  # type: ignore[arg-type] # of a test's choosing
    times, figures = from_samples([JobSample(START, 1.0, 2.0 * GIB), JobSample(START + 10 * SECOND, 2.0, 3.0 * GIB)])
    return Seen("run", job, times, figures)


def test_every_look_is_drawn_as_it_was(run: Run) -> None:
    """Each figure's line has its value at each look: percent, GiB, °C, W."""
    (job,) = run.jobs()
    found = panels(of_job(seen(run, job), 1600))
    samples = run.job_samples(1)
    scales = {"CPU": 100, "Memory": 1 / GIB, "GPU activity": 100, "GPU memory": 1 / GIB}
    units = {
        "CPU": "%",
        "Memory": "GiB",
        "GPU activity": "%",
        "GPU memory": "GiB",
        "GPU temperature": "°C",
        "GPU power": "W",
    }
    assert list(found) == [figure.title for figure in timeline.PANELS.values()]
    for name, figure in timeline.PANELS.items():
        panel = found[figure.title]
        (line,) = [each for each in panel.lines if each.style is Style.SOLID]
        assert line.times.tolist() == [each.at_ns for each in samples]
        wanted = [getattr(each, name) * scales.get(figure.title, 1) for each in samples]
        assert line.values == pytest.approx(np.array(wanted))
        assert panel.unit == units.get(figure.title, "")


def test_each_gpu_has_its_own_lines(run: Run) -> None:
    """What the recording has of it; power from energy, where power itself is not there."""
    (job,) = run.jobs()
    found = panels(of_job(seen(run, job), 1600))
    for number in range(recorded.GPUS):
        lines = {
            title: next((line for line in panel.lines if line.group == f"GPU {number}"), None)
            for title, panel in found.items()
            if title.startswith("GPU")
        }
        activity, memory, power = (lines[title] for title in ("GPU activity", "GPU memory", "GPU power"))
        assert activity is not None
        assert memory is not None
        assert power is not None
        assert activity.values.tolist() == [0.0 if second % 10 == 0 else 90.0 for second in range(LOOKS + 1)]
        assert set(memory.values) == {15.0}
        assert set(power.values) == {240.0}
        assert lines["GPU temperature"] is None  # the recording has none
    assert [line.name for line in found["GPU power"].lines] == ["GPU 0", "GPU 1", "GPU power, all together"]


def test_gpus_of_others_are_not_the_job_s(run: Run) -> None:
    """Where the machine has more than the job uses, it is not known which are its own, and none is drawn."""
    (job,) = run.jobs()
    assert len(seen(run, job).devices) == 2
    for alone in (True, False):
        figures = {"gpus": np.array([1.0])}
        assert gather._devices(run, job, figures, (None, None), alone=alone) == ((), [])
    assert gather._devices(run, replace(job, host="node8"), {}, (None, None), alone=True)[0] == ()
    assert gather._devices(run, job, {}, (None, None), alone=False)[0] == ()


def test_what_was_asked_for_is_a_line(run: Run) -> None:
    """With what each GPU was to have for all of them; far above, it is there and not shown at first."""
    (job,) = run.jobs()
    found = panels(of_job(seen(run, job), 1600))
    asked = {
        title: (line.values.tolist(), line.shown)
        for title, panel in found.items()
        for line in panel.lines
        if line.style is Style.ASKED
    }
    assert asked == {"CPU": ([400.0] * 2, True), "Memory": ([8.0] * 2, False), "GPU memory": ([80.0] * 2, True)}


def test_what_is_not_known_has_no_panel() -> None:
    """And a look without a figure has no point of it."""
    found = panels(of_job(a_job(), 1600))
    assert list(found) == ["CPU", "Memory"]
    samples = [JobSample(START + n * SECOND, None if n == 3 else 1.0) for n in range(9)]
    job = Job(1, "x", started_ns=START)
    found = panels(of_job(Seen("run", job, *from_samples(samples)), 1600))
    assert list(found) == ["CPU"]
    assert len(found["CPU"].lines[0].times) == 8
    assert of_job(Seen("run", job, *from_samples([])), 1600) is None


@pytest.mark.parametrize(
    ("memory", "unit", "value"),
    [(300.0, "KiB", 300 / 1024), (5 * 2**20, "MiB", 5.0), (3 * GIB, "GiB", 3.0), (2**41, "TiB", 2.0)],
)
def test_memory_has_the_unit_that_fits(memory: float, unit: str, value: float) -> None:
    """Of its peak."""
    samples = [JobSample(START, None, memory), JobSample(START + SECOND, None, memory / 2)]
    panel = panels(of_job(Seen("run", Job(1, "x"), *from_samples(samples)), 1600))["Memory"]
    assert (panel.unit, panel.lines[0].values[0]) == (unit, pytest.approx(value))


@pytest.mark.parametrize(
    ("more", "facts"),
    [
        ({"state": RUNNING}, ["still running"]),
        ({"state": LOST}, ["its end was not seen"]),
        ({"state": FAILED, "exit_code": -9}, ["ended by signal 9"]),
        ({"state": FAILED, "exit_code": 3, "host": "node7"}, ["exit code 3", "job 1 on node7"]),
        ({"rank": 4}, ["rank 4"]),
        ({"request": Request(1, 2 * GIB, 60.0, 1)}, ["asked for 1 CPU, 2.00 GiB, 1 GPU, 1 min"]),
    ],
)
def test_the_heading_says_what_is_known(more: dict[str, object], facts: list[str]) -> None:
    """How it ended, where it ran, what it asked for; the run and the time."""
    picture = of_job(a_job(**more), 1600)
    assert picture is not None
    assert picture.heading.title == "x"
    assert picture.heading.facts[0] == "run run"
    assert [each for each in picture.heading.facts if each in facts] == sorted(facts, key=picture.heading.facts.index)
    assert any("(10.0 s)" in each for each in picture.heading.facts)


def test_a_part_of_a_run_is_drawn(run: Run) -> None:
    """The axis is that part, and so are looks and spans."""
    (job,) = run.jobs()
    ends = START + 70 * SECOND, START + 100 * SECOND
    told = seen(run, job, *ends)
    picture = of_job(told, 1600, *ends)
    assert picture is not None
    assert (picture.start_ns, picture.end_ns) == ends
    assert (told.times[0], told.times[-1], len(told.times)) == (*ends, 31)
    assert {each.name for each in told.spans} == {"training", "epoch"}
    assert sum(each.name == "epoch" for each in told.spans) == 1


def test_looks_are_read_in_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, whatever the parts are."""
    (job,) = run.jobs()
    whole = seen(run, job)
    for at_once in (7, 50, 150, 151):
        monkeypatch.setattr(gather, "_AT_ONCE", at_once)
        parts = seen(run, job)
        assert parts.times.tolist() == whole.times.tolist()
        assert all((parts.figures[name] == whole.figures[name]).all() for name in FIGURES)


def test_long_runs_are_said_to_be_thinned(run: Run) -> None:
    """And keep their peaks."""
    (job,) = run.jobs()
    picture = of_job(seen(run, job), 10)
    assert picture is not None
    assert picture.heading.notes[-1].startswith("Of 151 looks")
    (cpu,) = [each for each in panels(picture)["CPU"].lines if each.style is Style.SOLID]
    assert len(cpu.times) <= 40
    assert cpu.values.max() == pytest.approx(100 * max(each.cpu or 0 for each in run.job_samples(1)))


def test_old_looks_at_gpus_are_drawn_by_the_minute(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once single looks are gone, the lowest and highest of each minute are there."""
    recording = run.recordings[0]
    whole = type(recording).values_of

    def late(self: object, ids: list[int], _first: int | None = None, end: int | None = None) -> object:
        return whole(recording, ids, START + 120 * SECOND, end)

    monkeypatch.setattr(type(recording), "values_of", late)
    told = seen(run, run.jobs()[0])
    assert told.notes[-1].startswith("The oldest of what single GPUs did is kept by the minute")
    times, values = told.devices[0].figures["gpu_activity"]
    old = times < START + 120 * SECOND
    assert values[old].tolist() == [0.0, 0.9, 0.0, 0.9]
    assert (~old).sum() == 31
    assert (np.diff(times) > 0).all()
    power_at, power = told.devices[0].figures["gpu_power"]
    assert power_at[0] > START
    assert power[5:] == pytest.approx(np.full(len(power) - 5, 240.0), rel=0.2)


def test_a_counter_that_begins_anew_is_no_power() -> None:
    """Energy that becomes less is a driver that was loaded again; two looks at one moment have no speed."""
    times = START + SECOND * np.array([0, 2, 3, 3, 5])
    at, watts = gather._growth(times, np.array([100.0, 300.0, 10.0, 20.0, 120.0]))
    assert at.tolist() == [times[1], times[4]]
    assert watts.tolist() == [100.0, 50.0]


def test_spans_are_those_of_the_job_s_own_processes(tmp_path: Path) -> None:
    """Of several ranks the first stands for all, and it is said; the alerts are those of all."""
    jobs = [Job(1, "a", started_ns=START, host="node7"), Job(2, "b", started_ns=START, host="node7")]
    recorded.run(tmp_path, 60, who=recorded.about(role=PARENT, pid=1), jobs=jobs)
    for rank in range(3):
        job = Job(1, "b", started_ns=START, host="node7", rank=rank)
        recorded.run(tmp_path, 60, who=recorded.about(pid=10 + rank, rank=rank), jobs=[job])
    with open_run(str(tmp_path)) as run:
        first, second = (seen(run, job, jobs=run.jobs()) for job in run.jobs())
    assert (len(first.spans), len(second.spans)) == (0, 2)
    assert second.notes == ("Training spans are those of rank 0, one of 3 that have any.",)
    assert [len(each) for each in second.alerts] == [2, 2, 2]


@pytest.mark.parametrize(
    ("began", "name", "command", "owner"),
    [
        (70, "run", "/venv/bin/python other.py", 2),  # only the second runs then
        (30, "run", "/venv/bin/python train.py --lr 2", 3),
        (30, "run", "/venv/bin/python worker.py", None),  # either's
        (30, "first", "/venv/bin/python worker.py", 1),
        (500, "run", "/venv/bin/python train.py --lr 1", None),
    ],
)
def test_a_process_belongs_to_the_job_that_it_can_only_be_of(
    tmp_path: Path, began: int, name: str, command: str, owner: int | None
) -> None:
    """By when it began, what it is called and its command; where it may be of several, it is of none."""
    jobs = [
        Job(
            number,
            title,
            f"python train.py --lr {lr}",
            "done",
            START + first * SECOND,
            START + last * SECOND,
            host="node7",
        )
        for number, title, lr, first, last in ((1, "first", 1, 0, 50), (2, "next", 1, 60, 110), (3, "beside", 2, 0, 50))
    ]
    recorded.run(tmp_path, 120, who=recorded.about(role=PARENT, pid=1), jobs=jobs)
    at = START + began * SECOND
    own = Job(1, name, command, started_ns=at, host="node7")
    recorded.run(tmp_path, 60, who=recorded.about(pid=10, started_ns=at), jobs=[own])
    with open_run(str(tmp_path)) as run:
        known = run.jobs()
        assert [job.id for job in known if seen(run, job, jobs=known).spans] == ([owner] if owner else [])


def test_ranks_without_a_launcher_have_their_own(tmp_path: Path) -> None:
    """Each process is a job."""
    for rank in range(2):
        recorded.run(
            tmp_path,
            60,
            who=recorded.about(pid=10 + rank, rank=rank),
            jobs=[Job(1, "t", started_ns=START, host="node7", rank=rank)],
        )
    with open_run(str(tmp_path)) as run:
        for job in run.jobs():
            told = seen(run, job, jobs=run.jobs())
            assert (len(told.spans), len(told.alerts), told.notes) == (2, 1, ())


def test_all_jobs_are_beside_each_other() -> None:
    """By the clock, or each from its own beginning."""
    later = Job(2, "y", started_ns=START + 86_400 * SECOND)
    other = replace(a_job(), job=later, times=a_job().times + 86_400 * SECOND)
    outlines = [
        each for label, told in (("1 x", a_job()), ("2 y", other)) if (each := outline("memory", label, told, 100))
    ]
    by_clock, elapsed = (of_figure("memory", outlines, Heading("Memory"), elapsed=each) for each in (False, True))
    assert by_clock is not None
    assert elapsed is not None
    assert (by_clock.end_ns - by_clock.start_ns, elapsed.end_ns - elapsed.start_ns) == (86_410 * SECOND, 10 * SECOND)
    assert [(line.name, line.values.tolist()) for line in elapsed.panels[0].lines] == [("1 x", [2, 3]), ("2 y", [2, 3])]
    assert of_figure("memory", [], Heading("Memory"), elapsed=False) is None
    assert outline("gpu_power", "1 x", a_job(), 100) is None


def test_the_summary_has_a_bar_for_what_is_known() -> None:
    """Of each job peak and mean, runtime, energy, and what was asked for; a chart of nothing is left out."""
    busy = Summary(
        figures={
            "cpu": Stat(4.0, 2.5, 3.9),
            "memory": Stat(8.0 * GIB, 4.0 * GIB, 7.0 * GIB),
            "gpu_activity": Stat(1.0, 0.5, 0.9),
        },
        energy=7.2e6,
    )
    jobs = [
        (
            "1 a",
            Job(
                1,
                "a",
                started_ns=START,
                ended_ns=START + 7200 * SECOND,
                request=Request(2, 16 * GIB, 3600.0),
                summary=busy,
            ),
        ),
        ("2 b", Job(2, "b")),
    ]
    told = {chart.title: chart for chart in dashboard(jobs, Heading("Summary")).charts}
    assert list(told) == ["CPU", "Memory", "GPU activity", "Runtime", "Energy of the GPUs"]
    assert (told["CPU"].peaks, told["CPU"].means, told["CPU"].asked) == ((400.0, None), (250.0, None), (200.0, None))
    assert (told["Memory"].peaks, told["Memory"].unit, told["Memory"].asked) == ((8.0, None), "GiB", (16.0, None))
    assert (told["GPU activity"].asked, told["GPU activity"].most) == ((), 100.0)
    assert (told["Runtime"].peaks, told["Runtime"].unit, told["Runtime"].asked) == ((2.0, None), "h", (1.0, None))
    assert told["Energy of the GPUs"].peaks[0] == pytest.approx(2.0)
    assert told["Energy of the GPUs"].unit == "kWh"
    assert dashboard([("2 b", Job(2, "b"))], Heading("Summary")).charts == ()


def test_a_span_without_a_job_s_looks_does_not_stretch_the_axis() -> None:
    """The axis is the job's."""
    span = RecordedSpan("a" * 32, "b" * 16, "", "fit", START - 500 * SECOND, None)
    picture = of_job(replace(a_job(), spans=(span,)), 100)
    assert picture is not None
    assert (picture.start_ns, picture.end_ns) == (START, START + 10 * SECOND)
    assert picture.lanes[0].strips[0].stretches[0].start_ns == START
