# SPDX-License-Identifier: Apache-2.0
"""What to ask for next time: never too little, in words that who is asked understands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.display.report.advice import Advice, advice, memory_for, runtime_for
from otel_hwmetrics.display.report.formats import FORMATS, in_words, iso_duration, slurm_time
from otel_hwmetrics.display.report.usage import error_of
from otel_hwmetrics.jobs.amounts import AMOUNTS
from otel_hwmetrics.recording.nouns import DONE, FAILED, LOST, SKIPPED, Job, Request, Stat, Summary

GIB = 2**30
HALF = GIB // 2
START = 1_760_000_040_000_000_000
NAMES = st.text(min_size=1, max_size=30)
JOBS = st.builds(
    lambda cpu, memory, runtime, gpus: job(runtime=runtime, cpu=cpu, memory=memory, gpus=gpus),
    st.floats(0.01, 500),
    st.floats(1, 1e14),
    st.floats(0.1, 5e6),
    st.floats(0, 16),
)


def job(name: str = "train", *, runtime: float = 60.0, state: str = DONE, code: int | None = 0, **peaks: float) -> Job:
    """A job that used so much at the most."""
    figures = {figure: Stat(peak, peak / 2, peak) for figure, peak in peaks.items()}
    end = START + round(runtime * 1e9)
    ended = end if state in (DONE, FAILED) else None
    return Job(
        1,
        name,
        state=state,
        started_ns=START,
        ended_ns=ended,
        heard_ns=end,
        exit_code=code,
        summary=Summary(9, 9.0, figures),
    )


def of(*jobs: Job, interval: float = 1.0) -> Advice:
    """What to ask for, for jobs of one name."""
    (found,) = advice(([each], interval) for each in jobs)
    return found


@pytest.mark.parametrize(
    ("peak", "asked"),
    [
        *(
            (10.5, 12),
            (2.1, 2.5),
            (0.001, 0.5),
            (0.43, 0.5),
            (0.46, 1),
            (3.1, 3.5),
            (3.2, 4),
            (3.47, 4),
            (3.48, 4),
            (4.0, 5),
            (7.0, 8),
        ),
        *((50.5, 58), (61.0, 70), (100.0, 115)),
    ],
)
def test_memory_has_its_buffer(peak: float, asked: float) -> None:
    """15%, to a whole GiB, below four to half a one; at least 10% are left: 12 GiB for 10.5, as torc's page has it."""
    assert memory_for(peak * GIB) / GIB == asked


@pytest.mark.parametrize(
    ("longest", "asked"),
    [
        *(
            (1, "PT1M"),
            (48, "PT1M"),
            (48.1, "PT2M"),
            (450, "PT10M"),
            (2880, "PT1H"),
            (2881, "PT1H5M"),
            (9900, "PT3H30M"),
        ),
        *((69_120, "P1D"), (69_121, "P1DT1H"), (200_000, "P2DT22H")),
    ],
)
def test_runtime_has_its_buffer(longest: float, asked: str) -> None:
    """25%, up to a minute, to five from an hour on, to an hour from a day on."""
    assert iso_duration(runtime_for(longest)) == asked


@given(st.floats(1, 1e15))
def test_memory_is_never_too_little(peak: float) -> None:
    """10% above the peak at least, and no more than a step above the 15%."""
    asked = memory_for(peak)
    assert asked >= peak * 1.0999999
    assert asked <= peak * 1.15 + (HALF if asked <= 4 * GIB else GIB)
    assert asked % (HALF if asked < 4 * GIB else GIB) == 0


@given(st.floats(0.001, 1e7))
def test_runtime_is_never_too_little(longest: float) -> None:
    """25% above the longest at least, in whole minutes."""
    asked = runtime_for(longest)
    assert longest * 1.25 - 1e-3 <= asked <= longest * 1.25 + (3600 if longest > 69_119 else 300)
    assert asked % 60 == 0


@given(st.lists(JOBS, min_size=1, max_size=4), st.sampled_from([0.1, 1.0, 10.0]))
def test_nothing_is_less_than_what_was_used(jobs: list[Job], interval: float) -> None:
    """By any of several jobs of one name; CPUs but for what measuring may be off."""
    found = of(*jobs, interval=interval)
    assert found.runs == len(jobs)
    for each in jobs:
        peaks = {name: stat.peak for name, stat in each.summary.figures.items()}
        assert found.cpus is not None
        assert found.memory is not None
        assert found.runtime is not None
        assert found.gpus is not None
        assert found.cpus * (1 + error_of(each, interval)) >= peaks["cpu"] * (1 - 1e-9)
        assert found.cpus < max(stat.summary.figures["cpu"].peak for stat in jobs) + 1
        assert found.memory >= peaks["memory"]
        assert found.runtime >= (each.runtime or 0.0)
        assert found.gpus >= peaks["gpus"]


@pytest.mark.parametrize(("peak", "cpus"), [(7.203, 8), (9.505, 10), (8.0, 8), (8.1, 8), (8.2, 9), (0.02, 1), (0.0, 1)])
def test_cpus_go_up_to_the_next_one(peak: float, cpus: int) -> None:
    """A tick of the kernel's clock is not another CPU."""
    assert of(job(cpu=peak)).cpus == cpus


def test_the_worst_of_several_runs_counts() -> None:
    """Of each resource by itself; jobs of other names are apart, in their order."""
    found = advice(
        [
            ([job(cpu=2.0, memory=9.0 * GIB)], 1.0),
            ([job("other"), job(cpu=3.5, memory=1.0 * GIB, runtime=10.0)], 1.0),
        ]
    )
    assert [(each.name, each.runs) for each in found] == [("train", 2), ("other", 1)]
    assert (found[0].cpus, found[0].memory, found[0].runtime) == (4, 10 * GIB, 120)


def test_memory_that_killed_is_not_asked_for_again() -> None:
    """Whatever the looks have seen of the peak."""
    starved = replace(job(memory=7.5 * GIB, state=FAILED, code=-9), request=Request(memory=8 * GIB))
    assert of(starved).memory == 9 * GIB
    assert "want of memory" in of(starved).unsure


@pytest.mark.parametrize(("state", "code", "word"), [(FAILED, 1, "failed"), (LOST, None, "not seen"), (DONE, 0, "")])
def test_what_was_cut_short_may_need_more(state: str, code: int | None, word: str) -> None:
    """And it is said."""
    told = of(job(state=state, code=code, memory=1.0)).unsure
    assert word in told
    assert bool(told) == bool(word)


def test_what_did_not_run_needs_nobody_knows_what() -> None:
    """So nothing is said of it."""
    assert advice([([Job(1, "a", state=SKIPPED)], 1.0)]) == []
    assert advice([]) == []


FULL = Advice(
    "train_model", 2, 10, 12 * GIB, 12600, 2, 18 * GIB, 9.505, 10.5 * GIB, 9900.0, 15.2 * GIB,
    node_memory=12 * GIB, peak_node_memory=10.5 * GIB,
)  # fmt: skip
SMALL = Advice("eval", cpus=1, memory=HALF, runtime=90_000, node_memory=HALF)


def ranks(*whose: tuple[str, float]) -> list[Job]:
    """Jobs of one name at a time, each on a host with so much memory in GiB."""
    made = [job(cpu=3.5, gpus=2.0, memory=memory * GIB) for _, memory in whose]
    return [replace(each, host=host) for each, (host, _) in zip(made, whose, strict=True)]


def test_ranks_of_a_node_need_their_memory_together() -> None:
    """A node's memory is asked for, and the GPUs of each: what one rank needs would end the next run."""
    (found,) = advice([(ranks(*[("n1", 3.0)] * 4), 1.0)])
    assert (found.tasks, found.nodes, found.tasks_per_node, found.memory, found.node_memory) == (
        *(4, 1, 4, int(3.5 * GIB)),
        14 * GIB,
    )
    lines = FORMATS["sbatch"]([found])
    assert lines == [
        "# train",
        "# CPU peak 350.0%, the most of 4; memory peak 12.00 GiB of 4 together + 15%; runtime 1 min + 25%, the most of 4",
        (
            "# 4 tasks on a node, started one by one; for one torchrun a node say instead "
            "--ntasks=1 --ntasks-per-node=1 --cpus-per-task=16 --gpus-per-task=8"
        ),
        *("#SBATCH --nodes=1", "#SBATCH --ntasks=4", "#SBATCH --ntasks-per-node=4", "#SBATCH --cpus-per-task=4"),
        *("#SBATCH --mem=14G", "#SBATCH --time=00:02:00", "#SBATCH --gpus-per-task=2"),
    ]
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "reports.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in page
    limits = yaml.safe_load("\n".join(FORMATS["kubernetes"]([found])))["resources"]["limits"]
    assert limits == {"memory": "14Gi", "nvidia.com/gpu": 8}
    (asked,) = yaml.safe_load("\n".join(FORMATS["yaml"]([found])))["resource_requirements"]
    assert (asked["num_cpus"], asked["num_gpus"], asked["memory"]) == (16, 8, "14g")
    assert in_words(found) == (
        "for each of 4 tasks on a node 4 CPUs, 3.50 GiB of memory, 2 min, 2 GPUs; 14.00 GiB of memory for those on a node together"
    )


def test_a_launcher_on_each_node_needs_its_gpus_on_each() -> None:
    """`--gpus` is of the whole job: half of what two nodes need."""
    (found,) = advice([(ranks(("n1", 3.0), ("n2", 8.0)), 1.0)])
    lines = FORMATS["sbatch"]([found])
    assert lines[2:] == [
        *("#SBATCH --nodes=2", "#SBATCH --ntasks=2", "#SBATCH --ntasks-per-node=1", "#SBATCH --cpus-per-task=4"),
        *("#SBATCH --mem=9G", "#SBATCH --time=00:02:00", "#SBATCH --gpus-per-task=2"),
    ]
    assert "# 2 such containers" in FORMATS["kubernetes"]([found])


def test_what_ran_one_after_the_other_is_not_added_up() -> None:
    """The same job in several runs, or again in one; of a run that had more at a time, those count."""
    first, second = ranks(("n1", 3.0), ("n1", 5.0))
    later = replace(second, started_ns=first.ended_ns, ended_ns=(first.ended_ns or 0) + 10**9)
    for runs in ([([first, later], 1.0)], [([first], 1.0), ([second], 1.0)]):
        (found,) = advice(runs)
        assert (found.runs, found.several, found.node_memory, found.memory) == (2, False, 6 * GIB, 6 * GIB)
        assert "#SBATCH --gpus=2" in FORMATS["sbatch"]([found])
    (found,) = advice([([first], 1.0), ([first, second], 1.0)])
    assert (found.tasks_per_node, found.node_memory) == (2, 9 * GIB)


def test_a_rank_whose_memory_is_not_known_had_as_much_as_another() -> None:
    """Else the sum would be too little."""
    known, unknown = ranks(("n1", 5.0), ("n1", 1.0))
    blind = replace(unknown, summary=replace(unknown.summary, figures={"cpu": Stat(1.0, 1.0, 1.0)}))
    assert advice([([known, blind], 1.0)])[0].node_memory == memory_for(10 * GIB)


def test_as_yaml() -> None:
    """The resource_requirements of a file of jobs, with why."""
    lines = FORMATS["yaml"]([FULL, SMALL])
    assert lines == [
        "resource_requirements:",
        "  - name: train_model",
        "    num_cpus: 10  # peak 950.5%, the most of 2",
        "    num_gpus: 2",
        "    memory: 12g  # peak 10.50 GiB + 15%, the most of 2",
        "    gpu_memory: 18g  # peak 15.20 GiB + 15%, the most of 2",
        "    runtime: PT3H30M  # 2 h 45 min + 25%, the most of 2",
        "  - name: eval",
        "    num_cpus: 1",
        "    memory: 512m",
        "    runtime: P1DT1H",
    ]


def test_what_is_recommended_can_be_asked_for() -> None:
    """A file of jobs takes it, and means the same by it."""
    (told,) = yaml.safe_load("\n".join(FORMATS["yaml"]([FULL])))["resource_requirements"]
    assert told.pop("name") == "train_model"
    asked = {key.removeprefix("num_"): AMOUNTS[key.removeprefix("num_")].parse(value) for key, value in told.items()}
    assert asked == {"cpus": 10, "gpus": 2, "memory": 12 * GIB, "gpu_memory": 18 * GIB, "runtime": 12600}
    lines = FORMATS["sbatch"]([SMALL])
    assert AMOUNTS["runtime"].parse(lines[-1].partition("=")[2]) == SMALL.runtime


def test_as_lines_of_a_batch_script() -> None:
    """No comment behind an option, which SLURM would take for a part of it."""
    lines = FORMATS["sbatch"]([FULL, SMALL])
    assert [line for line in lines if line.startswith("#SBATCH")] == [
        *("#SBATCH --cpus-per-task=10", "#SBATCH --mem=12G", "#SBATCH --time=03:30:00", "#SBATCH --gpus=2"),
        *("#SBATCH --cpus-per-task=1", "#SBATCH --mem=512M", "#SBATCH --time=1-01:00:00"),
    ]
    assert all(line.startswith("#") or not line for line in lines)
    assert lines[0] == "# train_model"
    assert "# GPUs with 18.00 GiB or more" in lines


def test_as_a_containers_resources() -> None:
    """Memory and GPUs as limits, too; GPUs must be, and CPUs better are not."""
    first, second = yaml.safe_load_all("\n".join(FORMATS["kubernetes"]([FULL, SMALL])))
    assert first == {
        "resources": {
            "requests": {"cpu": "10", "memory": "12Gi", "nvidia.com/gpu": 2},
            "limits": {"memory": "12Gi", "nvidia.com/gpu": 2},
        }
    }
    assert second["resources"]["requests"] == {"cpu": "1", "memory": "512Mi"}
    assert "# of its Job: activeDeadlineSeconds: 12600" in FORMATS["kubernetes"]([FULL])


@pytest.mark.parametrize(
    ("memory", "texts"),
    [(HALF, ("512m", "512M", "512Mi")), (7 * HALF, ("3584m", "3584M", "3584Mi")), (5 * GIB, ("5g", "5G", "5Gi"))],
)
def test_memory_is_written_as_each_takes_it(memory: int, texts: tuple[str, str, str]) -> None:
    """In whole units, the greatest that will do."""
    for (name, printed), text in zip(FORMATS.items(), texts, strict=True):
        assert any(line.endswith(("=" + text, ": " + text)) for line in printed([Advice("x", node_memory=memory)])), (
            name
        )


def test_in_words() -> None:
    """In one line."""
    assert in_words(FULL) == "10 CPUs, 12.00 GiB of memory, 3 h 30 min, 2 GPUs with 18.00 GiB"
    assert in_words(Advice("x", cpus=1, gpus=0)) == "1 CPU, no GPU"
    assert in_words(Advice("x", cpus=1)) == "1 CPU"


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_any_name_is_understood(names: list[str]) -> None:
    """Whatever jobs are called, what is printed is YAML with these names, or comments."""
    found = [replace(FULL, name=name, unsure="it failed") for name in names]
    told: Any = yaml.safe_load("\n".join(FORMATS["yaml"](found)))
    assert [each["name"] for each in told["resource_requirements"]] == names
    assert told["resource_requirements"][0]["memory"] == "12g"
    assert len(list(yaml.safe_load_all("\n".join(FORMATS["kubernetes"](found))))) == len(names)
    assert all(line.startswith("#") or not line for line in "\n".join(FORMATS["sbatch"](found)).splitlines())


@given(st.integers(1, 10**8))
def test_lengths_of_time_are_what_they_say(seconds: int) -> None:
    """By ISO 8601 and by SLURM."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", iso_duration(seconds))
    assert found
    assert (
        sum(int(part or 0) * unit for part, unit in zip(found.groups(), (86400, 3600, 60, 1), strict=True)) == seconds
    )
    assert not iso_duration(seconds).endswith("T")
    days, _, clock = slurm_time(seconds).rpartition("-")
    hours, minutes, rest = map(int, clock.split(":"))
    assert int(days or 0) * 86400 + hours * 3600 + minutes * 60 + rest == seconds
