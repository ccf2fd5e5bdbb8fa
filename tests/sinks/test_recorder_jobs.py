# SPDX-License-Identifier: Apache-2.0
"""The job that is this process and its tree: its figures, look by look, and what they come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from launched import BY_A_SMALL_PROCESS
from otel_hwmetrics.catalog import gpu, gpu_activity, process, tree
from otel_hwmetrics.model import Metric, Reading, Series, Snapshot, Window
from otel_hwmetrics.ranks import LOCAL_RANK, RANK
from otel_hwmetrics.recording.nouns import Job, JobSample, Request, Totals
from otel_hwmetrics.sinks import recorder_own_job as module
from otel_hwmetrics.sinks.recorder_own_job import OwnJob, command_line, script_name

S = 1_000_000_000
NOW = 1_700_000_000 * S


@pytest.fixture(autouse=True)
def _first_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's first job is that of a process that was not recorded before, and has no rank."""
    monkeypatch.setattr(module, "_recorded_by", None)
    monkeypatch.setattr(module, "identity", dict)
    for name in module._VARIABLES:
        monkeypatch.delenv(name, raising=False)


class World:
    """A machine with two GPUs, of which a job has some."""

    def __init__(self, memory: dict[str, float] | None = None) -> None:
        self.job = OwnJob("train.py", Request(cpus=4))
        self.at = 100.0
        self.began = 80.0
        self.scope = "tree"
        self.shown: Callable[[Reading], object] = lambda _: True
        """Which readings there are."""
        self.memory = memory
        self.cpu = 30.0
        self.energy = {"GPU-a": 1000.0, "GPU-b": 5000.0}
        self.activity = {"GPU-a": 0.5, "GPU-b": 0.01}

    def readings(self) -> list[Reading]:
        """Where all stands."""

        def told(metric: Metric, value: float, **attributes: str) -> Reading:
            return Reading(
                Series(metric, {key.replace("__", "."): each for key, each in attributes.items()}), value, self.at
            )

        found = [
            told(tree.CPU_TIME, self.cpu * 0.75, cpu__mode="user"),
            told(tree.CPU_TIME, self.cpu * 0.25, cpu__mode="system"),
            told(tree.MEMORY_USAGE, 3e9),
            told(tree.PROCESS_COUNT, 2, process__state="running"),
            told(tree.PROCESS_COUNT, 3, process__state="sleeping"),
            told(process.CPU_TIME, self.cpu * 0.1, cpu__mode="user"),
            told(process.MEMORY_USAGE, 1e9),
            told(process.UPTIME, self.at - self.began),
        ]
        for name, joules in self.energy.items():
            found += [
                told(gpu.ENERGY, joules, hw__id=name, hw__type="gpu"),
                told(gpu.POWER, 300.0, hw__id=name, hw__type="gpu"),
                told(gpu.MEMORY_USAGE, 10e9, hw__id=name),
                told(gpu.UTILIZATION, self.activity[name], hw__id=name, hw__gpu__task="general"),
                told(gpu.UTILIZATION, 1.0, hw__id=name, hw__gpu__task="encoder"),
                told(
                    gpu.TEMPERATURE,
                    60.0 if name == "GPU-a" else 70.0,
                    hw__id=f"{name}/t",
                    hw__parent=name,
                    hw__sensor_location="gpu",
                ),
                told(gpu.TEMPERATURE, 90.0, hw__id=f"{name}/m", hw__parent=name, hw__sensor_location="memory"),
            ]
        for name, used in (self.memory or {}).items():
            scope = {gpu_activity.PROCESS_SCOPE: self.scope}
            found.append(told(gpu_activity.PROCESS_MEMORY, used, hw__id=name, **scope))
        return [each for each in found if self.shown(each)]

    def look(self, seconds: float = 1.0, cpu: float = 0.0, joules: float = 0.0) -> tuple[Job, JobSample, Totals]:
        """Some time passes."""
        begin, self.at = self.at, self.at + seconds
        self.cpu += cpu
        self.energy = {name: before + joules for name, before in self.energy.items()}
        window = Window(begin, self.at)
        (told,) = self.job.looked(Snapshot(self.readings(), window, NOW + round(self.at * S)))
        return told


def test_figures_of_a_process_and_its_tree() -> None:
    """CPUs over the time since the look before (at first: since it began), memory, processes; and when it began."""
    world = World()
    job, first, totals = world.look(cpu=1.0)
    assert first.cpu == pytest.approx(31.0 / 21.0)
    assert (first.memory, first.processes) == (3e9, 5.0)
    assert job.started_ns == NOW + 80 * S
    assert (job.name, job.state, job.request.cpus) == ("train.py", "running", 4)
    assert totals.cpu_seconds == 31.0
    _, second, totals = world.look(2.0, cpu=3.0)
    assert second.cpu == pytest.approx(1.5)
    assert second.at_ns == NOW + 103 * S
    assert totals.cpu_seconds == 34.0
    if sys.platform == "linux":
        assert totals.max_rss is not None
        assert totals.max_rss > 2**20


def test_gpus_are_those_that_the_job_has_memory_on() -> None:
    """Their activity, memory, power and temperature; the energy that they took and the time in which they idled."""
    world = World({"GPU-a": 4e9, "GPU-b": 0.0})
    world.look(joules=7.0)
    _, sample, totals = world.look(2.0, joules=600.0)
    assert (sample.gpus, sample.gpu_activity, sample.gpu_memory, sample.gpu_memory_most) == (1, 0.5, 4e9, 4e9)
    assert (sample.gpu_power, sample.gpu_temperature) == (300.0, 60.0)
    assert (totals.energy, totals.gpu_seconds, totals.gpu_idle_seconds) == (600.0, 3.0, 0.0)
    world.memory = {"GPU-a": 4e9, "GPU-b": 6e9}
    _, sample, totals = world.look(1.0, joules=10.0)
    assert (sample.gpus, sample.gpu_memory, sample.gpu_memory_most) == (2, 10e9, 6e9)
    assert sample.gpu_activity == pytest.approx(0.255)
    assert (sample.gpu_power, sample.gpu_temperature) == (600.0, 70.0)
    assert (totals.energy, totals.gpu_seconds, totals.gpu_idle_seconds) == (620.0, 5.0, 1.0)


def test_a_job_without_gpus_has_none_and_no_figures_of_them() -> None:
    """Where the driver tells whose memory it is; absent is absent."""
    _, sample, totals = World({"GPU-a": 0.0, "GPU-b": 0.0}).look()
    assert (sample.gpus, sample.gpu_activity, sample.gpu_memory, sample.gpu_power) == (0.0, None, None, None)
    assert (totals.energy, totals.gpu_seconds, totals.gpu_idle_seconds) == (None, None, None)


def test_where_the_driver_does_not_tell_they_are_those_that_it_may_use() -> None:
    """With all that is used on them."""
    _, sample, _ = World(None).look()
    assert (sample.gpus, sample.gpu_memory, sample.gpu_memory_most) == (2, 20e9, 10e9)


def _without_the_tree(reading: Reading) -> bool:
    return not reading.series.metric.name.startswith(tree.CPU_TIME.name.removesuffix("cpu.time"))


def test_a_look_that_the_tree_is_late_for_changes_no_figure_around_it() -> None:
    """What its children spent in their lives is spent in no single second; nor is the job as small as this process."""
    world = World()
    world.look(cpu=10_000.0)
    for number in range(6):
        world.shown = _without_the_tree if number % 2 else lambda _: True
        _, sample, totals = world.look(1.0, cpu=2.0)
        late = number % 2
        assert sample.cpu == (None if late else pytest.approx(2.0))
        assert sample.memory == (None if late else 3e9)
        assert totals.cpu_seconds == 10_030.0 + 2.0 * (number + 1 - late)


def test_a_tree_that_comes_after_the_first_look_makes_no_peak() -> None:
    """Till then there are this process's figures; all that children have spent by then is in the sum alone."""
    world = World()
    world.shown = _without_the_tree
    _, sample, _ = world.look(cpu=10_000.0)
    assert sample.cpu == pytest.approx(1003.0 / 21.0)
    assert sample.memory == 1e9
    world.shown = lambda _: True
    _, sample, totals = world.look(cpu=2.0)
    assert (sample.cpu, sample.memory, totals.cpu_seconds) == (None, 3e9, 10_032.0)
    _, sample, totals = world.look(cpu=2.0)
    assert sample.cpu == pytest.approx(2.0)
    assert totals.cpu_seconds == 10_034.0


def _time_of(world: World) -> tuple[list[float | None], Job, Totals]:
    looks = [world.look(cpu=cpu) for cpu in (1.0, 3.0, 2.0)]
    return [sample.cpu for _, sample, _ in looks], looks[-1][0], looks[-1][2]


@pytest.mark.parametrize("late_tree", [False, True])
@pytest.mark.parametrize("why", ["the second of its process", "of an old process"])
def test_a_later_recording_counts_from_its_own_beginning(
    monkeypatch: pytest.MonkeyPatch, why: str, *, late_tree: bool
) -> None:
    """In a sweep or a notebook what came before is another one's: time, CPU, and the most memory."""
    monkeypatch.setattr(module, "_max_rss", lambda: 7 * 2**30)
    first = World()
    world = first if why == "of an old process" else World()
    if why == "of an old process":
        world.began = world.at - module.YOUNG - 1.0
    monkeypatch.setattr(module, "_own_seconds", lambda: world.job._own_before + 0.5)
    if late_tree:
        world.shown = _without_the_tree
        job, sample, totals = world.look()
        assert (sample.cpu, totals.cpu_seconds) == (None, 0.0)
        world.shown = lambda _: True
    looks, job, totals = _time_of(world)
    assert looks == [None, pytest.approx(3.0), pytest.approx(2.0)]
    assert job.started_ns == NOW + 101 * S
    assert (totals.cpu_seconds, totals.max_rss) == (5.0, None)
    ((_, _, totals),) = world.job.ended(NOW + 200 * S, None)
    assert (totals.cpu_seconds, totals.max_rss) == (5.0, None)
    monkeypatch.setattr(module, "_max_rss", lambda: 8 * 2**30)
    assert world.look()[2].max_rss == 8 * 2**30


def test_a_forked_child_is_no_later_recording_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a life of its own."""
    World()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    looks, job, totals = _time_of(World())
    assert looks[0] is not None
    assert (job.started_ns, totals.cpu_seconds) == (NOW + 80 * S, 36.0)


@pytest.mark.parametrize(
    ("place", "visible", "told"),
    [
        ({}, None, 2),
        ({LOCAL_RANK: 0, RANK: 8}, None, 2),
        ({LOCAL_RANK: 1, RANK: 9}, None, None),
        ({RANK: 1}, None, None),
        ({LOCAL_RANK: 1}, "1", 1),
        ({LOCAL_RANK: 1}, "0", None),
        ({LOCAL_RANK: 1}, "0,1", None),
    ],
)
@pytest.mark.parametrize("memory", [None, {"GPU-a": 4e9, "GPU-b": 6e9}])
def test_gpus_of_a_node_are_counted_by_one_of_its_ranks(
    monkeypatch: pytest.MonkeyPatch,
    place: dict[str, int],
    visible: str | None,
    told: int | None,
    memory: dict[str, float] | None,
) -> None:
    """Where the driver tells whose memory it is to nobody in a container, the rest tell nothing: no energy is told twice."""
    monkeypatch.setattr(module, "identity", lambda: place)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    world = World(memory)
    world.scope = "device"
    if visible in ("0", "1"):  # one is left
        name = "GPU-a" if visible == "0" else "GPU-b"
        world.shown = lambda each: each.attributes.get(gpu.HW_ID, name) == name
    world.look(joules=7.0)
    _, sample, totals = world.look(joules=5.0)
    assert sample.gpus == told
    if told is None:
        assert (totals.energy, totals.gpu_seconds, totals.gpu_idle_seconds) == (None, None, None)
        assert (sample.gpu_memory, sample.gpu_power, sample.gpu_activity) == (None, None, None)
    else:
        assert (totals.energy, totals.gpu_seconds) == (5.0 * told, 2.0 * told)
        assert sample.gpu_memory == 10e9 * told


def test_a_look_without_the_list_of_processes_takes_no_gpu_of_others() -> None:
    """Those of the job stay what they were, unless one is no longer there at all."""
    world = World({"GPU-a": 4e9, "GPU-b": 0.0})
    world.look()
    world.memory = None
    _, sample, totals = world.look(joules=600.0)
    assert (sample.gpus, sample.gpu_memory) == (1, 4e9)
    assert (totals.energy, totals.gpu_seconds) == (600.0, 2.0)
    world.shown = lambda each: each.attributes.get(gpu.HW_ID) != "GPU-a"
    _, sample, totals = world.look(joules=600.0)
    assert (sample.gpus, totals.gpu_seconds) == (0, 2.0)


def test_nothing_that_is_not_read_is_told() -> None:
    """Neither a zero nor what was read before."""
    job = OwnJob("train.py", Request())
    ((told, sample, totals),) = job.looked(Snapshot((), Window(1.0, 2.0), NOW))
    assert sample == JobSample(NOW)
    assert totals == Totals(max_rss=totals.max_rss)
    assert told.started_ns == NOW


@pytest.mark.parametrize(("code", "state"), [(None, "done"), (0, "done"), (1, "failed"), (-15, "failed")])
def test_how_it_ended(code: int | None, state: str) -> None:
    """A process that nobody saw fail is done; its CPU time is no less than the kernel's last word."""
    world = World()
    world.look()
    ((job, sample, totals),) = world.job.ended(NOW + 200 * S, code)
    assert (job.state, job.exit_code, job.ended_ns) == (state, code, NOW + 200 * S)
    assert sample == JobSample(NOW + 200 * S)
    assert totals.cpu_seconds is not None
    assert totals.cpu_seconds >= max(30.0, sum(os.times()[:2]))
    running, *_ = world.look()
    assert (running.state, running.ended_ns) == ("running", None)  # it lives on


def test_its_rank_and_its_host_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that files of several ranks can be told from each other."""
    monkeypatch.setattr(module, "identity", lambda: {RANK: 3})
    ((job, *_),) = OwnJob("x", Request()).looked(Snapshot((), Window(0.0, 1.0), NOW))
    assert (job.rank, job.host) == (3, os.uname().nodename)


def test_a_command_is_told_as_a_shell_takes_it() -> None:
    """Without secrets; of one that is a whole program in itself, the beginning."""
    assert command_line(["python", "train.py", "--name", "a b"]) == "python train.py --name 'a b'"
    assert "hunter2" not in command_line(["python", "--password", "hunter2", "--api-key=hunter2"])
    assert len(command_line(["python", "-c", "x = 1\n" * 10_000])) == 2000


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/home/me/train.py", "--lr"], "train.py"),
        (["/site-packages/torchtune/__main__.py"], "torchtune"),
        (["-c"], os.path.basename(sys.executable)),
        ([""], os.path.basename(sys.executable)),
        ([], os.path.basename(sys.executable)),
    ],
)
def test_a_run_is_called_as_its_script(argv: list[str], name: str) -> None:
    """Or its module; what has neither, as the interpreter."""
    assert script_name(argv) == name


def test_it_is_what_the_kernel_counts() -> None:
    """Of a real process with children, by getrusage(2): CPU time and the most memory of one."""
    code = """
import json, resource, subprocess, sys, time
from otel_hwmetrics.recording.nouns import Request
from otel_hwmetrics.sinks.recorder_own_job import OwnJob
hog = "x = bytearray(96 * 2**20); sum(i * i for i in range(2_000_000))"
subprocess.run([sys.executable, "-c", hog], check=True)
(_, _, totals), = OwnJob("x", Request()).ended(time.time_ns(), 0)
own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps([totals.cpu_seconds, own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
                  totals.max_rss, children.ru_maxrss * (1 if sys.platform == "darwin" else 1024)]))
"""
    done = subprocess.run(
        [*BY_A_SMALL_PROCESS, sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    cpu, kernels_cpu, rss, kernels_rss = json.loads(done.stdout)
    assert cpu == pytest.approx(kernels_cpu, abs=0.05)
    assert rss == kernels_rss
    assert rss > 96 * 2**20
