# SPDX-License-Identifier: Apache-2.0
"""Files of jobs: the seed's own, and what is told of those that cannot be taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_hwmetrics.jobs.file import FileError, read
from otel_hwmetrics.jobs.spec import JobSpec, Plan
from otel_hwmetrics.recording.nouns import Request

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "jobs.yaml"
SEED = """
name: "My Workflow"
user: "username"
resource_monitor:
  enabled: true
  granularity: "time_series"  # or "summary"
  sample_interval_seconds: 2
  generate_plots: false
jobs:
  - name: "my_job"
    command: "python train.py"
    resource_requirements: guess
  - name: after
    command: ls
    blocked_by: [my_job]
    resource_requirements: {cpus: 1.5, gpus: 2, gpu_memory: 40g}
    env: {CUDA_VISIBLE_DEVICES: "0,1"}
    tags: {kind: x}
resource_requirements:
  - name: guess
    num_cpus: 8
    memory: 8g
    runtime: PT2H
    num_gpus: 0
"""


def plan(folder: Path, text: str) -> Plan:
    """What a text says."""
    path = folder / "jobs.yaml"
    path.write_text(text, encoding="utf-8")
    return read(str(path))


def test_the_seed_s_file_is_taken(tmp_path: Path) -> None:
    """With each of its keys, and those of jobs that its format has besides."""
    by = dict.fromkeys(("cpus", "memory", "runtime", "gpus"), "file")
    of_gpus = dict.fromkeys(("cpus", "gpus", "gpu_memory"), "file")
    assert plan(tmp_path, SEED) == Plan(
        jobs=(
            JobSpec("my_job", ("python train.py",), True, Request(8, 8 * 2**30, 7200, 0.0, by=by)),
            JobSpec(
                "after",
                ("ls",),
                as_text=True,
                request=Request(cpus=1.5, gpus=2, gpu_memory=40 * 2**30, by=of_gpus),
                tags={"kind": "x"},
                environ={"CUDA_VISIBLE_DEVICES": "0,1"},
                blocked_by=("my_job",),
            ),
        ),
        name="My Workflow",
        granularity="time_series",
        interval=2.0,
    )


def test_the_least_file_is_taken(tmp_path: Path) -> None:
    """A list of jobs, each with a name and a command."""
    least = plan(tmp_path, "jobs: [{name: a, command: ls}]")
    assert least == Plan((JobSpec("a", ("ls",), as_text=True),))
    assert plan(tmp_path, "jobs: [{name: a, command: ls}]\nresource_monitor: {enabled: no}").enabled is False


def test_nothing_is_nobody_and_none_of_a_resource_is_none(tmp_path: Path) -> None:
    """A job that waits for nothing; and one that needs no GPU, however that is written."""
    for text in ("gpus: 0", "num_gpus: 0", "num_gpus: 0.0", "gpus: '0'"):
        job = "jobs: [{name: a, command: ls, blocked_by: , env: {A: '', B: 'null'}, resource_requirements: {%s}}]"
        made = plan(tmp_path, job % text).jobs[0]
        assert (made.blocked_by, made.request.gpus, made.request.by) == ((), 0.0, {"gpus": "file"})
        assert made.environ == {"A": "", "B": "null"}


def test_the_example_is_taken() -> None:
    """The file that the documentation shows."""
    shown = read(str(EXAMPLE))
    assert len(shown.jobs) >= 3
    assert any(job.blocked_by for job in shown.jobs)


CYCLE = """jobs:
  - {name: z, command: ls, blocked_by: x}
  - {name: x, command: ls, blocked_by: [y]}
  - {name: y, command: ls, blocked_by: [x]}
"""
JOB = "jobs:\n  - {name: a, command: ls%s}\n"


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("", 0, ["is empty", "resource_monitor"]),
        ("[a]", 1, ["takes keys and values: name, user"]),
        ("jobs: [", 1, ["this is no YAML"]),
        ("jobs:\n\t- x", 2, ["this is no YAML"]),
        ("name: x", 1, ["there is no key 'jobs'"]),
        ("jobs: []", 1, ["jobs: takes a list of 1 to"]),
        ("jobs: {a: b}", 1, ["jobs: takes a list"]),
        ("job:\n  - x", 1, ["job: there is no such key; did you mean 'jobs'?"]),
        ("name: a\nname: b", 2, ["name: is there twice"]),
        ("jobs:\n  - name: a", 2, ["jobs[0]: there is no key 'command'"]),
        ("jobs:\n  - command: a", 2, ["jobs[0]: there is no key 'name'"]),
        ("jobs:\n  - a", 2, ["jobs[0]: takes keys and values"]),
        ("jobs:\n  - {name: '', command: a}", 2, ["jobs[0].name: cannot be ''", "a text of one line"]),
        ("jobs:\n  - {name: a, command: ' '}", 2, ["jobs[0].command: cannot be ' '", "as a shell takes it"]),
        ("jobs:\n  - {name: a, command: [ls]}", 2, ["jobs[0].command: takes a command"]),
        (JOB % ", block_by: b", 2, ["jobs[0].block_by: there is no such key; did you mean 'blocked_by'?"]),
        (JOB % ", blocked_by: b", 2, ["blocked_by: there is no job 'b'"]),
        (JOB % ", blocked_by: a", 2, ["wait for each other: a -> a"]),
        (
            CYCLE,
            3,
            ["wait for each other: x -> y -> x"],
        ),
        (JOB % "" + "  - {name: a, command: ls}", 3, ["jobs[1]: there is another job 'a'"]),
        (
            JOB % ", resource_requirements: big",
            2,
            ["there is no entry 'big' in resource_requirements; there are: none"],
        ),
        (JOB % ", resource_requirements: {memory: 8q}", 2, ["resource_requirements.memory: cannot be '8q'", "8g"]),
        (JOB % ", resource_requirements: {runtime: soon}", 2, ["cannot be 'soon'", "PT2H"]),
        (JOB % ", resource_requirements: {cpus: 1, num_cpus: 2}", 2, ["num_cpus: says the same as 'cpus'"]),
        (JOB % ", resource_requirements: {num_nodes: 2}", 2, ["num_nodes: there is no such key"]),
        (JOB % ", env: {1A: x}", 2, ["jobs[0].env.1A: names of variables"]),
        (JOB % ", env: {A: null}", 2, ["jobs[0].env.A: takes a text", 'write ""']),
        (JOB % ", tags: {a: }", 2, ["jobs[0].tags.a: takes a text"]),
        ("tags: &x {a: b}\njobs:\n  - {name: a, command: ls, <<: *x}", 3, ["jobs[0]: keys cannot be merged by '<<'"]),
        (JOB % ", env: {<<: {A: b}}", 2, ["jobs[0].env: keys cannot be merged"]),
        (JOB % ", resource_requirements: {gpus: -1}", 2, ["resource_requirements.gpus: cannot be '-1'", "0 for none"]),
        (JOB % ", env: [A]", 2, ["jobs[0].env: takes keys and values"]),
        (JOB % ", tags: {a: [b]}", 2, ["jobs[0].tags.a: takes a text"]),
        ("resource_monitor: {granularity: all}\n" + JOB % "", 1, ["granularity: cannot be 'all'", "summary"]),
        ("resource_monitor: {enabled: perhaps}\n" + JOB % "", 1, ["enabled: cannot be 'perhaps'", "true or false"]),
        (
            "resource_monitor: {sample_interval_seconds: 0}\n" + JOB % "",
            1,
            ["sample_interval_seconds: cannot be '0'", "0.2"],
        ),
        ("resource_monitor: {interval: 1}\n" + JOB % "", 1, ["resource_monitor.interval: there is no such key"]),
        ("resource_requirements: [{cpus: 1}]\n" + JOB % "", 1, ["resource_requirements[0]: there is no key 'name'"]),
        ("resource_requirements: [{name: a}, {name: a}]\n" + JOB % "", 1, ["there is another entry 'a'"]),
        ("jobs: !!python/object/apply:os.system ['touch ran']", 1, ["jobs"]),
    ],
)
def test_what_cannot_be_taken_is_told_by_line_and_key(tmp_path: Path, text: str, line: int, parts: list[str]) -> None:
    """With the value, and what is allowed."""
    with pytest.raises(FileError) as caught:
        plan(tmp_path, text)
    told = str(caught.value)
    assert told.startswith(str(tmp_path / "jobs.yaml"))
    assert [part for part in parts if part not in told] == []
    if line:
        found = re.search(r", line (\d+):", told)
        assert found is not None, told
        assert int(found[1]) == line
    assert not (tmp_path / "ran").exists()


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """As is one that is no text."""
    with pytest.raises(FileError, match="cannot be read: No such file"):
        read(str(tmp_path / "none.yaml"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(FileError, match="no text in UTF-8"):
        read(str(tmp_path / "bytes.yaml"))
