# SPDX-License-Identifier: Apache-2.0
"""Which GPUs are a job's, and what is recorded of them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from launched import recorded, run
from looks import Told, gpu_attributes, sensor_attributes, snapshot
from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.catalog.gpu_activity import PROCESS_MEMORY
from otel_hwmetrics.jobs import watch as watch_module
from otel_hwmetrics.jobs.children import Child, Ending
from otel_hwmetrics.jobs.gpus import NO_GPU, Claim, GpuLists, Visible, gpus_of, visible_to
from otel_hwmetrics.jobs.spec import JobSpec
from otel_hwmetrics.jobs.watch import Watch
from otel_hwmetrics.jobs.watching import as_recorded
from otel_hwmetrics.model import Snapshot
from otel_hwmetrics.recording.nouns import DONE, WAITING, Job, Request, Totals
from otel_hwmetrics.sources.gpu.nvidia.board import _at_pace
from otel_hwmetrics.sources.gpu.nvidia.readers import READERS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")

GIB = 2**30


class Lists(GpuLists):
    """Of a driver whose numbers are ours."""

    def __init__(self, *, can_tell: bool = True) -> None:
        super().__init__()
        self.can_tell = can_tell
        self.at: float | None = None
        self._clock = lambda: time.monotonic() if self.at is None else self.at


def machine(at: float = 10.0) -> Snapshot:
    """Two GPUs at a moment: the first works, the second hardly."""
    told: list[Told] = []
    for index, (busy, watts) in enumerate([(0.9, 400.0), (0.01, 100.0)]):
        device = gpu_attributes(index)
        told += [
            (gpu.UTILIZATION, {**device, gpu.HW_GPU_TASK: "general"}, busy),
            (gpu.UTILIZATION, {**device, gpu.HW_GPU_TASK: "encoder"}, 0.5),
            (gpu.MEMORY_USAGE, device, (10.0 + index) * GIB),
            (gpu.POWER, device, watts),
            (gpu.ENERGY, device, watts * at),
            (gpu.TEMPERATURE, sensor_attributes(index), 50.0 + index),
        ]
    return snapshot(at, told)


def test_a_job_has_the_gpus_that_its_processes_have_memory_on() -> None:
    """With that much of it; all that is used where the driver does not tell how much; none where it has none."""
    lists = Lists()
    assert gpus_of(lists, machine(), Claim({1}, 1.0, alone=False)) is None  # nobody has asked the driver yet
    lists.at = 0.5
    lists.heard("GPU-1", {})
    assert gpus_of(lists, machine(), Claim({1}, 1.0)) is None  # that was before the job
    lists.at = 1.5
    lists.heard("GPU-0", {1: 3 * GIB, 2: GIB, 3: 5 * GIB})
    lists.heard("GPU-1", {2: None})
    assert gpus_of(lists, machine(), Claim({1, 2}, 1.0, alone=False)) == (
        {"GPU-0": 4.0 * GIB, "GPU-1": 11.0 * GIB},
        True,
    )
    assert gpus_of(lists, machine(), Claim({3}, 1.0, alone=False)) == ({"GPU-0": 5.0 * GIB}, True)
    assert gpus_of(lists, machine(), Claim({4}, 1.0)) == ({}, True)
    lists.heard("GPU-0", {})
    assert gpus_of(lists, machine(), Claim({3}, 1.0, alone=False)) == ({}, True)


def test_of_a_divided_gpu_the_parts_count() -> None:
    """The list of the whole has the processes of its parts once more."""
    part = {**gpu_attributes(0), gpu.HW_ID: "MIG-1", gpu.HW_PARENT: "GPU-0"}
    told = snapshot(1.0, [(gpu.MEMORY_USAGE, gpu_attributes(0), 9.0), (gpu.MEMORY_USAGE, part, 5.0)])
    lists = Lists()
    lists.heard("GPU-0", {1: 4})
    lists.heard("MIG-1", {1: 4})
    assert gpus_of(lists, told, Claim({1}, 1.0)) == ({"MIG-1": 4.0}, True)


@pytest.mark.parametrize(
    ("own", "inherited", "alone", "expected"),
    [
        (None, None, True, ["GPU-0", "GPU-1"]),
        (None, None, False, None),
        ("1", None, False, ["GPU-1"]),
        ("1", "0,1", False, ["GPU-1"]),
        ("GPU-0", None, True, ["GPU-0"]),
        ("1, 0", None, True, ["GPU-0", "GPU-1"]),
        ("", None, True, []),
        ("-1", None, True, []),
        ("7", None, True, []),
        (None, "0", True, ["GPU-0"]),
        (None, "0,1", False, None),
    ],
)
def test_where_the_driver_does_not_tell_it_is_those_that_it_may_use(
    own: str | None, inherited: str | None, expected: list[str] | None, *, alone: bool
) -> None:
    """By its CUDA_VISIBLE_DEVICES; of several jobs only where it is a job's own: else each would have the GPUs of all."""
    lists = Lists(can_tell=False)
    lists.heard("GPU-0", {1: GIB})
    said = [{} if value is None else {"CUDA_VISIBLE_DEVICES": value} for value in (own, inherited)]
    found = gpus_of(lists, machine(), Claim({1}, 1.0, visible_to(said[0], said[1], every=True), alone))
    assert (None if found is None else sorted(found[0])) == expected
    assert found is None or not found[1]


@pytest.mark.parametrize(
    ("own", "inherited", "every", "expected"),
    [
        ({"ROCR_VISIBLE_DEVICES": "1,2"}, {}, True, ["AMD-1", "AMD-2"]),
        ({"HIP_VISIBLE_DEVICES": "0"}, {}, True, ["AMD-0"]),
        ({"CUDA_VISIBLE_DEVICES": "2"}, {}, True, ["AMD-2"]),
        ({"HIP_VISIBLE_DEVICES": "1"}, {"ROCR_VISIBLE_DEVICES": "1,2"}, True, ["AMD-2"]),
        ({}, {"ROCR_VISIBLE_DEVICES": "2"}, True, ["AMD-2"]),
        # Those that are looked at were chosen by it already, and have other numbers in it.
        ({}, {"ROCR_VISIBLE_DEVICES": "2"}, False, ["AMD-0", "AMD-1", "AMD-2"]),
    ],
)
def test_amd_s_variables_count_for_amd_s_gpus(
    own: dict[str, str], inherited: dict[str, str], expected: list[str], *, every: bool
) -> None:
    """As ROCm's runtime and HIP read them; the driver never tells whose memory it is."""
    told: list[Told] = [
        (gpu.MEMORY_USAGE, {**gpu_attributes(number), gpu.HW_ID: f"AMD-{number}", gpu.HW_VENDOR: "AMD"}, 1.0)
        for number in range(3)
    ]
    found = gpus_of(
        Lists(can_tell=False), snapshot(1.0, told), Claim({1}, 1.0, visible_to(own, inherited, every=every))
    )
    assert found is not None
    assert sorted(found[0]) == expected


def test_jobs_of_a_file_do_not_share_what_the_launcher_may_use() -> None:
    """Only what a job sets by itself is its own."""
    jobs = [JobSpec("a", ("x",)), JobSpec("b", ("y",), environ={"CUDA_VISIBLE_DEVICES": "1"})]
    jobs += [JobSpec("c", ("z",), request=Request(gpus=0.0))]
    given = as_recorded(jobs, {"CUDA_VISIBLE_DEVICES": "0,1", "PATH": "/bin"}, every_gpu=True)
    assert [visible for _, visible in given] == [
        Visible({"CUDA_VISIBLE_DEVICES": "0,1"}),
        Visible({"CUDA_VISIBLE_DEVICES": "1"}, own=True),
        NO_GPU,
    ]
    found = gpus_of(Lists(can_tell=False), machine(), Claim({1}, 1.0, NO_GPU))
    assert found == ({}, False)  # it needs none, and nothing says that it has one


def test_a_gpu_that_is_heard_of_no_more_keeps_nobody_from_the_others() -> None:
    """It is left out, once others were heard of twice without it; where no GPU is heard of, nothing is known."""
    lists = Lists()
    for lists.at in (0.0, 3.0):
        lists.heard("GPU-0", {1: GIB})
        lists.heard("GPU-1", {1: GIB})
    for lists.at in (6.0, 9.0, 12.0):
        lists.heard("GPU-0", {2: 2 * GIB})
    assert lists.of({2}, 5.0) is None  # it may be late
    lists.at = 15.0
    lists.heard("GPU-0", {2: 2 * GIB})
    assert lists.of({2}, 5.0) == {"GPU-0": 2 * GIB}
    assert lists.of({2}, 16.0) is None
    slow = Lists()
    for slow.at in (0.0, 60.0):  # a look a minute
        slow.heard("GPU-0", {1: GIB})
        assert slow.of({1}, 0.0) is not None
        slow.heard("GPU-1", {1: GIB})
    slow.at = 120.0
    slow.heard("GPU-0", {1: GIB})
    assert slow.of({1}, 0.0) == {"GPU-0": GIB, "GPU-1": GIB}


@pytest.fixture
def sleeper() -> Iterator[Child]:
    """A real process."""
    process = subprocess.Popen(["/bin/sleep", "60"])
    yield Child(process.pid, time.time_ns(), 0)
    process.kill()
    process.wait()


def watched(lists: GpuLists, children: Collection[Child]) -> Watch:
    """Jobs that have begun."""
    watch = Watch(
        [(Job(number, f"job {number}", state=WAITING), Visible({})) for number, _ in enumerate(children, 1)], lists
    )
    for number, child in enumerate(children, 1):
        watch.begin(number, child)
    return watch


def test_what_a_job_s_gpus_did_is_in_its_looks(sleeper: Child) -> None:
    """Figures of the GPU that it is on alone; energy, and time at rest, add up."""
    lists = Lists()
    watch = watched(lists, [sleeper])
    lists.heard("GPU-1", {sleeper.pid: 2 * GIB, 1: 3 * GIB})
    watch.looked(machine(10.0))
    (job, sample, totals), *_ = list(watch.looked(machine(11.0)))
    assert job.id == 1
    assert (sample.gpus, sample.gpu_activity, sample.gpu_memory, sample.gpu_memory_most) == (1, 0.01, 2 * GIB, 2 * GIB)
    assert (sample.gpu_power, sample.gpu_temperature) == (100, 51)
    assert sample.processes == 1
    assert sample.memory is not None
    assert totals.energy == pytest.approx(100)
    assert (totals.gpu_seconds, totals.gpu_idle_seconds) == (2.0, 2.0)
    watch.end(1, Ending(0, time.time_ns(), 0.25, None))
    (job, _, totals), *more = list(watch.ended(time.time_ns(), 0))
    assert (job.state, job.exit_code, more) == (DONE, 0, [])
    assert totals.cpu_seconds == 0.25
    assert totals.energy == pytest.approx(100)
    watch.close()


def test_what_is_told_once_is_not_told_again(sleeper: Child) -> None:
    """A job before it begins, its beginning, its end; and nothing of one that never begins but that."""
    watch = Watch([(Job(1, "a", state=WAITING), Visible({})), (Job(2, "b", state=WAITING), Visible({}))], Lists())
    assert [(job.id, job.state) for job, *_ in watch.ended(0, None)] == [(1, WAITING), (2, WAITING)]
    watch.begin(1, sleeper)
    watch.skip(2)
    assert [(job.id, job.state) for job, *_ in watch.ended(0, None)] == [(1, "running"), (2, "skipped")]
    assert list(watch.ended(0, None)) == []
    watch.skip(2, failed=True, code=127)
    assert [(job.state, job.exit_code, totals) for job, _, totals in watch.ended(0, None)] == [
        ("failed", 127, Totals())
    ]
    watch.close()


SCENARIO = """
[[gpu]]
utilization = 0.75
memory_used = 8e9
power = 300.0
temperature = 60.0

[[gpu]]
utilization = 0.0
"""


def test_a_run_on_gpus_is_recorded_from_outside(tmp_path: Path) -> None:
    """A command that is not Python, on scripted GPUs of which nothing tells who uses them: those that it may use."""
    (tmp_path / "gpus.toml").write_text(SCENARIO)
    more = {"OTEL_PYTHON_HWMETRICS_FAKE_NVML": str(tmp_path / "gpus.toml"), "CUDA_VISIBLE_DEVICES": "0"}
    done = run("--interval", "0.5", "--gpus", "2", "--", "sleep", "4.5", folder=tmp_path, **more)
    assert done.returncode == 0
    with recorded(tmp_path) as written:
        job = written.jobs()[0]
        metrics = {series.metric for series in written.recordings[0].series()}
    assert gpu.UTILIZATION.name in metrics
    assert job.request.gpus == 2
    assert "gpus" in job.summary.figures


def test_lists_of_processes_are_read_as_often_as_jobs_need() -> None:
    """And nothing else is."""
    usual = {reader.metrics: reader.every for reader in READERS}
    paced = {reader.metrics: reader.every for reader in _at_pace(READERS, GpuLists.every)}
    assert {name: (usual[name], every) for name, every in paced.items() if every != usual[name]} == {
        (PROCESS_MEMORY,): (30.0, GpuLists.every)
    }
    assert _at_pace(READERS, None) is READERS


def test_a_look_that_hangs_keeps_nobody(sleeper: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher's thread goes on, and what it saw of beginnings and ends is told once the look is over."""
    monkeypatch.setattr(watch_module, "PATIENCE", 0.02)
    watch = watched(Lists(), [sleeper])
    with watch._lock:
        watch.look()
        watch.last_look([1])
        watch.end(1, Ending(-9, time.time_ns(), 0.5, None))
    assert [job.exit_code for job, *_ in watch.ended(0, None)][-1] == -9
    watch.close()
