# SPDX-License-Identifier: Apache-2.0
"""A run told to people and to programs: everything that is known, and nothing that is not."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from otel_hwmetrics.display.report import as_data, as_text, listing, short_summary
from otel_hwmetrics.display.report.advice import advice
from otel_hwmetrics.display.report.alarms import Alarm, alarms, named, worst
from otel_hwmetrics.display.report.endings import ending, exit_word
from otel_hwmetrics.display.report.material import Material, gathered
from otel_hwmetrics.display.report.phases import phases
from otel_hwmetrics.display.report.short import short_lines
from otel_hwmetrics.display.report.slowest import slowest
from otel_hwmetrics.display.report.totals import Prices, Totals, totals
from otel_hwmetrics.display.report.usage import comparisons
from otel_hwmetrics.display.table import text_columns
from otel_hwmetrics.recording import RunFiles, Writer, open_run
from otel_hwmetrics.recording.nouns import (
    DONE,
    FAILED,
    FIGURES,
    LOST,
    PARENT,
    RUNNING,
    SKIPPED,
    WAITING,
    About,
    Job,
    RecordedAlert,
    RecordedSpan,
    Request,
    Stat,
    Summary,
)
from recorded import GIB, SECOND, START, about, alert, run

UTC = timezone.utc
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "reference" / "report.schema.json").read_text(encoding="utf-8")
)


def closed(schema: Any) -> Any:
    """The schema, with nothing allowed that it does not tell of, and nothing left out that it does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    return made | (
        {"additionalProperties": False} if "properties" in schema and "additionalProperties" not in schema else {}
    )


CLOSED = jsonschema.Draft202012Validator(closed(copy.deepcopy(SCHEMA)))


def cpu_job(number: int = 1, name: str = "prepare", **changes: Any) -> Job:
    """A job without GPUs."""
    figures = {
        "cpu": Stat(3.5, 2.0, 3.0),
        "memory": Stat(2.0 * GIB, 1.0 * GIB, 1.9 * GIB),
        "processes": Stat(5.0, 5.0, 5.0),
    }
    usual = Job(
        number, name, "python x.py", DONE, START, START + 90 * SECOND, START + 90 * SECOND, 0, host="node7",
        summary=Summary(90, 90.0, figures, cpu_seconds=180.0),
    )  # fmt: skip
    return replace(usual, **changes)


def gpu_job(number: int = 1, name: str = "train", **changes: Any) -> Job:
    """A job with two GPUs."""
    usual = cpu_job(number, name)
    figures = {
        **usual.summary.figures,
        "gpus": Stat(2.0, 2.0, 2.0),
        "gpu_activity": Stat(1.0, 0.81, 0.97),
        "gpu_memory_most": Stat(16.0 * GIB, 15.0 * GIB, 16.0 * GIB),
        "gpu_power": Stat(700.0, 480.0, 650.0),
        "gpu_temperature": Stat(71.0, 65.0, 70.0),
    }
    summary = replace(usual.summary, figures=figures, energy=3.6e6, gpu_seconds=7200.0, gpu_idle_seconds=1800.0)
    return replace(usual, summary=summary, **changes)


def material(*jobs: Job, **changes: Any) -> Material:
    """A run of them, by one launcher."""
    usual = Material(
        "1f3a9c2e", "night", (about(role=PARENT),), jobs, paths=("/runs/1f3a9c2e.run.db",), started_ns=START,
        ended_ns=START + 90 * SECOND, heard_ns=START + 90 * SECOND, read_ns=START + 91 * SECOND,
    )  # fmt: skip
    return replace(usual, **changes)


def span(
    number: int, name: str, parent: int = 0, begin: int = 0, end: int | None = 60, **attributes: Any
) -> RecordedSpan:
    """A training span; attributes of its sums without the prefix."""
    told = {key.replace("__", "."): value for key, value in attributes.items()}
    return RecordedSpan(
        "a" * 32, f"{number:016x}", f"{parent:016x}" if parent else "", name, START + begin * SECOND,
        None if end is None else START + end * SECOND,
        attributes={key if key.startswith("hwmetrics.") else f"hwmetrics.summary.{key}": each for key, each in told.items()},
    )  # fmt: skip


def section(lines: list[str], heading: str) -> list[str]:
    """The lines of a part of a report, without its heading."""
    begin = next(place for place, line in enumerate(lines) if line.startswith(heading))
    rest = lines[begin + 1 :]
    return rest[: rest.index("")] if "" in rest else rest


def told(*jobs: Job, width: int | None = None, **changes: Any) -> list[str]:
    """A report of them."""
    return as_text.report(material(*jobs, **changes), width, zone=UTC)


def test_a_report_of_a_recording(tmp_path: Path) -> None:
    """From a file to the screen, to the letter."""
    with open_run(str(run(tmp_path, 150))) as found:
        lines = as_text.report(gathered(found), 120, prices=Prices(kwh=0.3, gpu_hour=2.5), zone=UTC)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "reports.md").read_text(encoding="utf-8")
    parts = ("Jobs", "GPUs", "Training spans", "Alerts (times at +00:00)")
    assert [line for part in parts for line in section(lines, part) if line not in page] == [], "the page's example"
    assert lines[:4] == [
        "Run train (1f3a9c2e)",
        "  when      2025-10-09 08:54:00 +00:00 to 2025-10-09 08:56:30 +00:00 (2 min 30 s); ended in good order",
        "  host      node7",
        "  recorded  by 1 process, a look every 1 s, version 0.1.0",
    ]
    assert section(lines, "Jobs") == [
        "  ID  Job    Exit     Runtime  CPU peak  CPU avg  Mem peak   Mem avg  Procs  Alerts",
        "  --  -----  ----  ----------  --------  -------  --------  --------  -----  ---------",
        "   1  train  0     2 min 30 s    250.0%   149.9%  3.00 GiB  1.07 GiB      5  1 warning",
    ]
    assert section(lines, "GPUs") == [
        "  ID  Job    GPUs  Activity    p95   Mem peak  Power    Energy  Hottest   Idle",
        "  --  -----  ----  --------  -----  ---------  -----  --------  -------  -----",
        "   1  train     2     81.0%  90.0%  16.00 GiB  462 W  20.00 Wh    66 °C  10.0%",
    ]
    assert section(lines, "Training spans") == [
        "  Span             Took    GPU   Energy  Alerts",
        "  ---------  ----------  -----  -------  -------",
        "  training   2 min 30 s      -        -  gpu_hot",
        "    epoch 0       1 min  81.0%  8.00 Wh",
        "    epoch 1       1 min  81.0%  8.00 Wh",
        "    epoch 2      30.0 s  81.0%  8.00 Wh",
    ]
    assert section(lines, "Alerts (times at +00:00)") == [
        "  First     Severity  Alert    Device  Times  Fired for  Span      Message",
        "  --------  --------  -------  ------  -----  ---------  --------  --------------------------------",
        "  08:54:20  warning   gpu_hot  GPU 1       1     20.0 s  training  GPU 1 is at 87 °C (above 80 °C).",
    ]
    assert section(lines, "Totals") == [
        "  CPU time   3 min 45 s",
        "  Energy     0.020 kWh of GPUs, costs 0.01 at 0.3 a kWh",
        "  GPU-hours  0.08, costs 0.21 at 2.5 an hour",
        "    idle     0.01 (10.0%), costs 0.02",
    ]


def test_a_report_for_programs_is_as_its_schema_says(tmp_path: Path) -> None:
    """Nothing is in it that is not documented, and nothing missing; the same without GPUs, spans, alerts or an end."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with open_run(str(run(tmp_path, 150))) as found:
        full = gathered(found)
    bare = material(
        Job(1, "a", state=SKIPPED), Job(2, "b", state=WAITING), cpu_job(3, state=LOST, exit_code=None, ended_ns=None),
        ended_ns=None, spans=(span(1, "epoch", end=None),), alerts=(alert(1, "resolved"),), abouts=(About("x", "x"),),
    )  # fmt: skip
    asked = gpu_job(1, request=Request(1.0, 1, 1.0, 0.0, 1, {"cpus": "slurm"}))
    materials = [full, bare, material(), material(asked)]
    files = [(RunFiles("a", "b", START, ("x",)), each) for each in (full, bare, None)]
    checked = [(each, comparisons(each.jobs)) for each in materials]
    advised = advice((each.jobs, 1.0) for each in materials)
    for data in (
        as_data.reports(materials, Prices(1.0, 2.0)),
        as_data.reports([]),
        as_data.runs(files),
        as_data.check(checked, advised, everything=True),
        as_data.check(checked[:1], advised, everything=False),
    ):
        printed = json.loads(json.dumps(data, allow_nan=False))
        assert [error.message for error in CLOSED.iter_errors(printed)] == []
        assert data["version"] == 1
    assert set(SCHEMA["$defs"]["job"]["properties"]["used"]["properties"]) >= set(FIGURES)


@pytest.mark.parametrize("spoilt", [{"seconds": "1"}, {"new": 1}, {"run_id": None}])
def test_the_schema_refuses_what_it_does_not_tell_of(spoilt: dict[str, Any]) -> None:
    """So the test above can fail."""
    data = as_data.reports([material()])
    data["runs"][0] |= spoilt
    assert not CLOSED.is_valid(data)


def test_a_report_for_programs_has_the_numbers(tmp_path: Path) -> None:
    """In SI units; what is not known is null."""
    with open_run(str(run(tmp_path, 150))) as found:
        (data,) = as_data.reports([gathered(found)])["runs"]
    (job,) = data["jobs"]
    assert (data["started"], data["ended"], data["seconds"]) == (
        *("2025-10-09T08:54:00.000000Z", "2025-10-09T08:56:30.000000Z"),
        150.0,
    )
    assert job["runtime_seconds"] == 150.0
    assert job["used"]["gpu_activity"] == {"peak": 0.9, "mean": pytest.approx(0.81), "p95": pytest.approx(0.9)}
    assert job["used"]["gpu_energy_joules"] == data["totals"]["gpu_energy_joules"] == 72_000.0
    assert (job["requested"]["memory_bytes"], job["requested"]["by"]) == (8 * GIB, {"cpus": "argument"})
    assert (job["alerts"][0]["times"], job["alerts"][0]["seconds"], job["alerts"][0]["ended"]) == (1, 20.0, True)
    assert data["spans"][1]["summary"] == {"gpu.energy": 28_800.0, "gpu.utilization": 0.81}
    assert data["totals"]["energy_cost"] is None


def test_a_run_without_gpus_has_no_word_of_them() -> None:
    """No empty columns, no zeros."""
    text = "\n".join(told(cpu_job()))
    assert "GPU" not in text
    assert "Alerts" not in text
    assert "Training spans" not in text
    assert "  CPU time   3 min" in text


def test_gpus_that_were_asked_for_and_not_used_are_told() -> None:
    """A machine's GPUs that nobody asked for are not."""
    idle = cpu_job()
    idle = replace(idle, summary=replace(idle.summary, figures={**idle.summary.figures, "gpus": Stat(0.0, 0.0, 0.0)}))
    assert "GPU" not in "\n".join(told(idle))
    assert section(told(replace(idle, request=Request(gpus=1))), "GPUs")[2].split() == ["1", "prepare", "0"]


def test_a_run_with_nothing_in_it_is_told() -> None:
    """In a sentence, not as an empty table."""
    lines = told()
    assert lines[-1] == "No job was recorded."
    assert as_data.reports([material()])["runs"][0]["jobs"] == []


@pytest.mark.parametrize(
    ("job", "word", "text"),
    [
        (cpu_job(), "0", "exit code 0"),
        (cpu_job(exit_code=3, state=FAILED), "3", "exit code 3"),
        (cpu_job(exit_code=-9, state=FAILED), "SIGKILL", "ended by SIGKILL"),
        (cpu_job(exit_code=-signal.SIGTERM, state=FAILED), "SIGTERM", "ended by SIGTERM"),
        (cpu_job(exit_code=-45, state=FAILED), "signal 45", "ended by signal 45"),
        (cpu_job(exit_code=None, state=RUNNING), "running", "still runs"),
        (cpu_job(exit_code=None, state=LOST), "lost", "was lost: its recorder was killed, and nobody saw its end"),
        (cpu_job(exit_code=None, state=WAITING), "waiting", "waiting"),
    ],
)
def test_how_a_job_ended_is_told(job: Job, word: str, text: str) -> None:
    """By its exit code, its signal, or what is known instead."""
    assert (exit_word(job), ending(job)) == (word, text)


@pytest.mark.parametrize(
    ("changes", "state", "text"),
    [
        ({}, "ended", "ended in good order"),
        ({"ended_ns": None, "jobs": (cpu_job(state=RUNNING),)}, "running", "still runs; last heard of 2025-10-09"),
        ({"ended_ns": None, "jobs": (cpu_job(), cpu_job(2, state=WAITING))}, "running", "still runs"),
        ({"ended_ns": None, "jobs": (cpu_job(state=LOST),)}, "lost", "its recorder was killed; last heard of"),
        ({"ended_ns": None, "jobs": (cpu_job(),), "read_ns": START + 1000 * SECOND}, "lost", "its recorder was killed"),
    ],
)
def test_how_a_run_stands_is_told(changes: dict[str, Any], state: str, text: str) -> None:
    """Also of one that runs on, and of one whose recorder was killed."""
    found = material(**changes)
    assert found.state == state
    assert text in "\n".join(as_text.head(found))
    (data,) = as_data.reports([found])["runs"]
    assert (data["state"], data["ended"] is None) == (state, state != "ended")


def test_times_are_in_the_zone_that_is_named() -> None:
    """The head has it behind each moment, the alerts' table above it, and days where there are several."""
    zone = timezone(timedelta(hours=-6))
    lines = as_text.report(material(cpu_job(), alerts=(alert(20),)), zone=zone)
    assert "2025-10-09 02:54:00 -06:00 to 2025-10-09 02:55:30 -06:00" in lines[1]
    assert section(lines, "Alerts (times at -06:00)")[2].startswith("  02:54:20  warning")
    over_midnight = material(
        cpu_job(), alerts=(alert(20),), heard_ns=START + 80_000 * SECOND, ended_ns=START + 80_000 * SECOND
    )
    lines = as_text.report(over_midnight, zone=zone)
    assert section(lines, "Alerts")[2].startswith("  10-09 02:54:20  warning")


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 200])
def test_a_report_is_no_wider_than_the_terminal(width: int) -> None:
    """Whatever it is called and says; numbers stay whole, and nothing in it moves the cursor."""
    name = "訓練 \x1b[2J a very long name of a job that nobody can remember"
    message = "A rather long message about a GPU that is too hot 温度 to go on with \n what it does."
    found = material(
        gpu_job(1, name), cpu_job(22, name, state=FAILED, exit_code=-9, request=Request(memory=2 * GIB)),
        name=name, spans=(span(1, name, gpu__energy=1e6),), alerts=(replace(alert(3), message=message),),
        tags={"purpose": name}, paths=("/a/very/long/path" * 9,),
    )  # fmt: skip
    lines = as_text.report(found, width, zone=UTC)
    assert max(map(text_columns, lines)) <= width
    assert "\x1b" not in "".join(lines)
    assert "350.0%" in " ".join(lines)
    assert "81.0%" in " ".join(lines)


def test_what_was_killed_for_memory_is_said() -> None:
    """At the end of the report, and for programs."""
    starved = cpu_job(state=FAILED, exit_code=-9, request=Request(memory=2 * GIB))
    assert told(starved)[-1] == (
        "Job 1 (prepare) was killed (SIGKILL) with 100.0% of its memory in use: most likely for want of memory. "
        "It needs more than its peak."
    )
    assert as_data.reports([material(starved)])["runs"][0]["jobs"][0]["killed_for_memory"] is True


def test_alerts_are_put_together_the_worst_first() -> None:
    """By rule and device: how often, how long, since when; what fires on is not counted again."""
    found = alarms(
        [
            alert(1), alert(3, "resolved"), alert(5), alert(6), alert(9, "resolved"),
            alert(4, rule="oom", severity="critical"), replace(alert(7), device="GPU 0"), alert(8, "resolved", rule="other"),
        ]
    )  # fmt: skip
    assert [(each.rule, each.device, each.severity, each.times, each.seconds) for each in found] == [
        ("oom", "GPU 1", "critical", 1, 0.0),
        ("gpu_hot", "GPU 1", "warning", 2, 6.0),
        ("gpu_hot", "GPU 0", "warning", 1, 0.0),
    ]
    assert [each.open_since_ns for each in found] == [START + 4 * SECOND, None, START + 7 * SECOND]
    assert worst(found) == "1 critical, 3 warning"
    assert named(found) == "oom (critical), gpu_hot (warning) 3 times"
    assert named([*found, *(Alarm(f"r{n}", "", "info", times=1) for n in range(3))], 3).endswith("and 2 more")
    assert worst([]) == named([]) == ""


def of_ranks(folder: Path, *whose: tuple[str, int]) -> Material:
    """A run of ranks, each of which records itself: the same alert and spans of its own, the second rank's last epoch longer."""
    for host, rank in whose:
        path = folder / f"rank-{rank}.run.db"
        writer = Writer(str(path), about(host=host, rank=rank, pid=100 + rank))
        writer.job(cpu_job(1, "train", host=host, rank=rank))
        for second, state in ((20 + rank, "firing"), (30 + 10 * rank, "resolved")):
            writer.alert(alert(second, state))
        spans = [span(10 * rank + 1, "training", end=90), span(10 * rank + 2, "epoch 0", 10 * rank + 1, 0, 40)]
        spans.append(span(10 * rank + 3, "epoch 1", 10 * rank + 1, 40, 60 + 20 * (rank == 1)))
        for each in spans:
            writer.span(each)
        writer.close(START + 90 * SECOND)
    with open_run(str(folder)) as found:
        return gathered(found)


def test_alerts_of_several_hosts_and_ranks_are_apart(tmp_path: Path) -> None:
    """Each with its own GPU 1, for its own time: another's end is not its end."""
    found = of_ranks(tmp_path, ("n1", 0), ("n2", 1))
    assert section(as_text.report(found, zone=UTC), "Alerts") == [
        "  First     Severity  Alert    Host  Rank  Device  Times  Fired for  Message",
        "  --------  --------  -------  ----  ----  ------  -----  ---------  --------------------------------",
        "  08:54:20  warning   gpu_hot  n1       0  GPU 1       1     10.0 s  GPU 1 is at 87 °C (above 80 °C).",
        "  08:54:21  warning   gpu_hot  n2       1  GPU 1       1     19.0 s  GPU 1 is at 87 °C (above 80 °C).",
    ]
    (data,) = as_data.reports([found])["runs"]
    assert [(each["host"], each["rank"]) for each in data["alerts"]] == [("n1", 0), ("n2", 1)] * 2
    assert [job["alerts"][0]["host"] for job in data["jobs"]] == ["n1", "n2"]
    assert CLOSED.is_valid(as_data.reports([found]))


def test_spans_of_several_ranks_are_told_once_by_the_slowest(tmp_path: Path) -> None:
    """The outermost levels of all ranks have room; --spans and programs have every one, with whose it is."""
    found = of_ranks(tmp_path, *(("n1", rank) for rank in range(8)))
    assert section(as_text.report(found, zone=UTC), "Training spans (of each that of the slowest of 8 ranks") == [
        "  Span       Rank               Took",
        "  ---------  -----------  ----------",
        "  training   rank 0 of 8  1 min 30 s",
        "    epoch 0  rank 0 of 8      40.0 s",
        "    epoch 1  rank 1 of 8      40.0 s",
    ]
    every = section(as_text.report(found, all_spans=True, zone=UTC), "Training spans")
    assert len(every) == 2 + 8 * 3
    assert every[2].split()[:3] == ["training", "rank", "0"]
    spans = as_data.reports([found])["runs"][0]["spans"]
    assert {(each["host"], each["rank"]) for each in spans} == {("n1", rank) for rank in range(8)}


def test_the_slowest_is_found_span_by_span() -> None:
    """The n-th of a name, below its own; what some ranks alone have stays in its place, and what has no end is slowest."""
    spans = [
        replace(each, rank=rank)
        for rank, each in [
            *((0, span(1, "training")), (0, span(2, "step", 1, 0, 5)), (0, span(3, "step", 1, 5, 30))),
            *((1, span(11, "training")), (1, span(12, "step", 11, 0, 6)), (1, span(13, "step", 11, 6, 20))),
            *((1, span(14, "save", 11, 20, None)), (0, span(4, "end", 0, 60, 70)), (1, span(5, "end", 0, 60, None))),
        ]
    ]
    found = [(each.phase.depth, each.phase.label, each.phase.span.rank, each.of) for each in slowest(phases(spans))]
    assert found == [
        *((0, "training", 0, 2), (1, "step", 1, 2), (1, "step", 0, 2), (1, "save", 1, 1)),
        (0, "end", 1, 2),
    ]


def test_an_alert_without_an_end_is_said_to_have_none() -> None:
    """And many of them are told as a number."""
    many = [alert(n, rule=f"rule_{n:02}") for n in range(20)]
    lines = section(told(cpu_job(), alerts=(*many, alert(30, "resolved", "rule_00"))), "Alerts")
    assert len(lines) == 2 + as_text.MOST_ALERTS + 1
    assert lines[2].split()[5:7] == ["1", "30.0"]
    assert "no end" in lines[3]
    assert lines[-1] == "  and 5 more, none of them more severe: --json has all"


def test_training_spans_stand_in_each_other() -> None:
    """Each before what is within it, also where a parent is not of this run, or is its own."""
    spans = [
        span(3, "epoch", 1, 30, gpu__utilization=0.5, hwmetrics__training__epoch=1),
        span(1, "training"), span(2, "epoch 0", 1, 10, hwmetrics__training__epoch=0), span(4, "step", 3, 31, end=None),
        span(5, "evaluation", 99, 5), span(6, "x", 7), span(7, "y", 6),
    ]  # fmt: skip
    found = phases(spans)
    assert [(each.label, each.depth) for each in found] == [
        ("training", 0), ("epoch 0", 1), ("epoch 1", 1), ("step", 2), ("evaluation", 0),
    ]  # fmt: skip
    assert found[2].figures == {"gpu.utilization": 0.5}
    assert [each.seconds for each in found] == [60.0, 50.0, 30.0, None, 55.0]


def test_a_training_span_has_its_sums() -> None:
    """Its worst stall, its alerts by its own word, or by what was told of it; nothing that is no number."""
    first, second, third = phases(
        [
            span(
                1,
                "a",
                stall__io=2.5,
                stall__cpu=1.0,
                stall__memory=0.0,
                cpu__time=61.0,
                hwmetrics__alerts="oom,gpu_hot",
            ),
            span(
                2,
                "b",
                begin=1,
                stall__io=0.0,
                memory__peak=2 * GIB,
                data__wait__share=0.25,
                odd="x",
                worse=float("nan"),
            ),
            span(int("b" * 16, 16), "c", begin=2),
        ],
        [alert(5), alert(6, rule="oom"), alert(7, "resolved", rule="late")],
    )
    assert (first.stall, first.alerts) == (("io", 2.5), ("oom", "gpu_hot"))
    assert (second.stall, second.alerts, third.alerts) == (None, (), ("gpu_hot", "oom"))
    assert set(second.figures) == {"stall.io", "memory.peak", "data.wait.share"}
    lines = section(told(cpu_job(), spans=(first.span, second.span)), "Training spans")
    assert "Stalled" in lines[0]
    assert lines[2].split() == ["a", "1", "min", "1", "min", "1", "s", "-", "io", "2.5", "s", "-", "oom,", "gpu_hot"]
    assert lines[3].split() == ["b", "59.0", "s", "-", "2.00", "GiB", "-", "25.0%"]


def test_of_many_training_spans_the_outermost_are_told() -> None:
    """And how many there are more, and how to see them."""
    epochs = [span(n, f"epoch {n}", 1, n, 100) for n in range(2, 12)]
    steps = [span(100 + n, f"step {n}", 2 + n % 10, 12 + n, 90) for n in range(50)]
    spans = (span(1, "training", end=100), *epochs, *steps)
    lines = section(told(cpu_job(), spans=spans), "Training spans")
    assert sum("epoch" in line for line in lines) == 10
    assert len(lines) == 2 + as_text.MOST_SPANS + 1
    assert lines[-1] == "  and 41 more spans: --spans shows all"
    lines = as_text.report(material(cpu_job(), spans=spans), all_spans=True, zone=UTC)
    assert sum("step" in line for line in lines) == 50
    assert not any("more span" in line for line in lines)


def test_totals_are_sums_of_what_is_known() -> None:
    """And cost what they cost at a price; without one, nothing is said of costs."""
    sums = totals([gpu_job(), gpu_job(2), cpu_job(3)], Prices(kwh=0.5, gpu_hour=2.0))
    assert sums == Totals(540.0, 7.2e6, 14_400.0, 3600.0, 1.0, 8.0, 2.0)
    assert totals([gpu_job()]).energy_cost is None
    assert totals([cpu_job()], Prices(0.5, 2.0)) == Totals(180.0)
    assert totals([]) == Totals()
    assert "costs" not in "\n".join(told(gpu_job()))
    free = as_text.report(material(gpu_job()), prices=Prices(kwh=0.0), zone=UTC)
    assert any("costs 0.00 at 0 a kWh" in line for line in free)


def test_a_jobs_alerts_are_its_own(tmp_path: Path) -> None:
    """Of processes that recorded themselves each one's; of one job all; of jobs side by side nobody knows whose."""
    for rank in range(2):
        (tmp_path / "ranks").mkdir(exist_ok=True)
        run(tmp_path / "ranks", 60, who=about(rank=rank))
    with open_run(str(tmp_path / "ranks")) as found:
        by_job = gathered(found).alerts_of
    assert {number: len(alerts) for number, alerts in by_job.items()} == {1: 2, 2: 2}
    (tmp_path / "jobs").mkdir()
    first, second, third = (
        replace(gpu_job(n, request=Request()), started_ns=START + begin * SECOND, ended_ns=START + end * SECOND)
        for n, begin, end in ((1, 0, 30), (2, 31, 60), (3, 50, 60))
    )
    run(tmp_path / "jobs", 60, who=about(role=PARENT), jobs=[first, second, third])
    run(tmp_path / "jobs", 60, who=about(host="node8"), jobs=[])
    with open_run(str(tmp_path / "jobs")) as found:
        by_job = gathered(found).alerts_of
    assert {number: [each.state for each in alerts] for number, alerts in by_job.items()} == {1: ["firing"]}


def test_a_run_begins_with_its_first_job(tmp_path: Path) -> None:
    """Also where its recorder came a moment later, so that no job takes longer than its run."""
    early = cpu_job(started_ns=START - 2 * SECOND)
    with open_run(str(run(tmp_path, 5, who=about(role=PARENT), jobs=[early]))) as found:
        assert gathered(found).started_ns == START - 2 * SECOND
        assert gathered(found).seconds == 7.0


def test_a_few_lines_for_the_end_of_a_job() -> None:
    """How it ended, what it used, what was too much, what was wrong, and where to see more."""
    job = gpu_job(request=Request(memory=GIB), exit_code=1, state=FAILED)
    alerts = (alert(3), alert(5, rule="oom", severity="critical"))
    assert short_lines(material(job, alerts=alerts, alerts_of={1: alerts}, paths=("/my runs/x.run.db",))) == [
        "train: exit code 1, 1 min 30 s",
        "  CPU 200.0% on average, 350.0% at most; memory 2.00 GiB at most",
        "  GPUs 81.0% busy, 16.00 GiB of a GPU's memory at most, 1.00 kWh, 0.50 GPU-hours idle",
        "  more than was asked for: Memory 2.00 GiB of 1.00 GiB (+100.0%)",
        "  alerts: oom (critical), gpu_hot (warning)",
        "  more: otel-hwmetrics report '/my runs/x.run.db'",
    ]


def test_the_few_lines_are_few() -> None:
    """Also of many jobs, of jobs that nothing is known of, and of none."""
    jobs = [Job(1, "a", state=SKIPPED), Job(2, "b", state=DONE, started_ns=START, ended_ns=START + SECOND, exit_code=0)]
    assert short_lines(material(*jobs, paths=())) == ["a: did not begin", "b: exit code 0, 1.0 s"]
    assert short_lines(material(*(cpu_job(n) for n in range(40)), paths=()))[-1] == "and 28 more jobs"
    assert short_lines(material(paths=())) == ["night: no job was recorded"]


def test_a_recordings_few_lines(tmp_path: Path) -> None:
    """Read from a run."""
    path = run(tmp_path)
    with open_run(str(path)) as found:
        text = short_summary(found)
    assert text.splitlines()[0] == "train: exit code 0, 2 min 30 s"
    assert str(path) in text


def test_runs_are_listed() -> None:
    """With what did not go well, also one that cannot be read."""
    jobs = [
        cpu_job(1),
        cpu_job(2, "b", state=FAILED, exit_code=2),
        *(cpu_job(n, f"c{n}", state=SKIPPED, exit_code=None) for n in range(3, 7)),
    ]
    files = RunFiles("1f3a9c2e", "night", START, ("/x",))
    lines = listing.lines([(files, material(*jobs)), (files._replace(run="77", name="gone"), None)], zone=UTC)
    assert lines[2:] == [
        "1f3a9c2e  night  2025-10-09 08:54:00 +00:00  1 min 30 s  ended          6  b (2), c3 (skipped), c4 (skipped), 2 more  node7",
        "77        gone   2025-10-09 08:54:00 +00:00           -  unreadable     -  -                                          -",
    ]
    assert listing.lines([]) == ["There are no recordings here."]


def test_nothing_that_takes_long_is_read(tmp_path: Path) -> None:
    """A report of a day is as quick as one of a minute: it is the same when neither looks nor series are there."""
    import sqlite3
    from contextlib import closing

    path = run(tmp_path)
    with open_run(str(path)) as found:
        whole = gathered(found)
    with closing(sqlite3.connect(path)) as connection:
        for table in ("blocks", "layouts", "minutes", "job_samples", "series"):
            connection.execute("DROP VIEW IF EXISTS job_resource_samples")
            connection.execute("DROP VIEW IF EXISTS metrics_by_minute")
            connection.execute(f"DROP TABLE {table}")
        connection.commit()
    with open_run(str(path)) as found:
        part = gathered(found)
    assert replace(part, read_ns=0) == replace(whole, read_ns=0)


def test_alerts_of_a_severity_that_is_not_known_come_last() -> None:
    """A newer recording is no reason to fail."""

    def some() -> Iterator[RecordedAlert]:
        yield alert(1, severity="odd", rule="a")
        yield alert(2, severity="info", rule="b")

    assert [each.rule for each in alarms(some())] == ["b", "a"]
