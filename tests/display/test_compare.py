# SPDX-License-Identifier: Apache-2.0
"""What differs between two runs is said in words, and what may be noise is not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recorded
from otel_hwmetrics.catalog import gpu, training
from otel_hwmetrics.display.compare.figures import LOOKS, PIECES, Figure, Measured, measured
from otel_hwmetrics.display.compare.judging import BETTER, NOT_JUDGED, SAME, SPANS, WORSE, Comparison, compared
from otel_hwmetrics.display.compare.noise import FEW, differ, differ_in_turn
from otel_hwmetrics.display.compare.rows import ROWS, of_span
from otel_hwmetrics.display.compare.showing import ALIKE, ELSE_ALIKE, as_data, as_text
from otel_hwmetrics.model import Series
from otel_hwmetrics.recording import Recording, open_run
from otel_hwmetrics.recording.nouns import DONE, FAILED, LOST, RUNNING, Job, JobSample, RecordedAlert, RecordedSpan
from recorded import GIB, SECOND, START
from recorded_looks import write

ACTIVITY = Series(gpu.UTILIZATION, {"hw.id": "GPU-0", "hw.model": "H100", "hwmetrics.gpu.index": 0})
COUNTERS = tuple(map(Series, (training.STEPS, training.STEP_TIME, training.DATA_WAIT_TIME, training.TOKENS)))
LENGTH = 240


def a_run(folder: Path, name: str, **changes: float) -> Measured:
    """A training of 200 steps, of a second each unless it is said otherwise, in four epochs.

    Args:
        folder: Where it is written.
        name: Of the run.
        changes: ``step``: seconds; ``wait``: share of them; ``activity``; ``memory``: GiB; ``noise``: of a step's time and of
            the activity; ``power``; ``tokens`` of a step.
    """
    told = {
        "step": 1.0,
        "wait": 0.1,
        "activity": 0.8,
        "memory": 10.0,
        "noise": 0.02,
        "power": 300.0,
        "tokens": 8.0,
    } | changes
    chance = random.Random(name)  # noqa: S311 - no secret
    steps, at, waited, looks, samples = 0, 0.0, 0.0, [], []
    epochs: list[RecordedSpan] = []
    begun = 0.0
    while steps < 200:
        seconds = told["step"] * (1 + told["noise"] * chance.gauss(0, 1))
        steps, at, waited = steps + 1, at + seconds, waited + seconds * told["wait"]
        now = START + round(at * SECOND)
        busy = min(1.0, max(0.0, told["activity"] + told["noise"] * chance.gauss(0, 1)))
        values = (float(steps), at, waited, steps * told["tokens"])
        looks.append((now, {**dict(zip(COUNTERS, values, strict=True)), ACTIVITY: busy}))
        samples.append(
            JobSample(now, 1.5, told["memory"] * GIB, 5.0, 1.0, busy, 9.0 * GIB, 9.0 * GIB, told["power"], 60.0)
        )
        if steps % 50 == 0:
            span = RecordedSpan("a" * 32, f"{steps:016x}", "", "epoch", START + round(begun * SECOND), now)
            epochs, begun = [*epochs, span], at
    job = Job(1, "train", "python train.py", DONE, START, START + round(at * SECOND), exit_code=0)
    write(folder / f"{name}.run.db", looks, who=recorded.about(name, name=name), spans=epochs, jobs=[(job, samples)])
    with open_run(str(folder / f"{name}.run.db")) as run:
        return measured(run)


def sentences(comparison: Comparison) -> tuple[list[str], list[str]]:
    """What is said to be worse and better."""
    return [each.text for each in comparison.worse], [each.text for each in comparison.better]


def test_runs_that_do_the_same_are_alike(tmp_path: Path) -> None:
    """Whatever chance makes of them: of ten pairs of runs nothing is said."""
    runs = [a_run(tmp_path, f"r{n}", noise=0.1) for n in range(5)]
    for one in runs:
        for other in runs:
            comparison = compared(one, other)
            assert sentences(comparison) == ([], []), (one.name, other.name)
            assert not comparison.beyond(0)
    assert ALIKE in list(as_text(compared(runs[0], runs[1])))


@pytest.mark.parametrize(
    ("changes", "worse"),
    [
        (
            {"step": 1.12},
            [
                "10.7% fewer tokens a second (8 -> 7.14)",
                "Epochs take 12% longer (50.0 s -> 56.0 s)",
                "Steps take 12% longer (1.00 s -> 1.12 s)",
            ],
        ),
        ({"activity": 0.72}, ["GPUs are idle 8% more of the time (busy 80.0% -> 72.0%)"]),
        ({"wait": 0.2}, ["Training waits for data 10% more of the time (10.0% -> 20.0%)"]),
        ({"memory": 12.0}, ["Memory peaks 20% higher (10.00 GiB -> 12.00 GiB)"]),
    ],
)
def test_what_got_worse_is_said(changes: dict[str, float], worse: list[str], tmp_path: Path) -> None:
    """By how much, from what to what; and the other way round it got better. Nothing else is said."""
    usual = a_run(tmp_path, "usual", noise=0.0)
    changed = a_run(tmp_path, "changed", noise=0.0, **changes)
    comparison, back = compared(usual, changed), compared(changed, usual)
    assert sorted(each.text for each in comparison.worse) == worse
    assert comparison.better == []
    assert [each.key for each in back.worse] == []
    assert {each.key for each in back.better} == {each.key for each in comparison.worse}
    assert [each.key for each in comparison.beyond(5)] == [each.key for each in comparison.worse]
    assert comparison.beyond(25) == []


def test_a_small_change_is_found_in_noise(tmp_path: Path) -> None:
    """6% longer steps, where each varies by 10 %."""
    comparison = compared(a_run(tmp_path, "a", noise=0.1), a_run(tmp_path, "b", noise=0.1, step=1.06))
    assert {"step.time"} <= {each.key for each in comparison.worse}


def test_a_longer_run_is_not_said_twice(tmp_path: Path) -> None:
    """Where steps or epochs say it already."""
    comparison = compared(a_run(tmp_path, "a"), a_run(tmp_path, "b", step=1.5))
    verdicts = {each.key: each.verdict for each in comparison.figures}
    assert verdicts["runtime"] == WORSE
    assert "runtime" not in {each.key for each in comparison.worse}


def test_steps_of_another_batch_are_not_compared(tmp_path: Path) -> None:
    """What is compared then is how many tokens there are a second."""
    comparison = compared(a_run(tmp_path, "a"), a_run(tmp_path, "b", step=2.0, tokens=32.0))
    verdicts = {each.key: each.verdict for each in comparison.figures}
    assert (verdicts["step.time"], verdicts["tokens"]) == (NOT_JUDGED, BETTER)


def plain_run(**changes: object) -> Measured:
    """A run of which little is known."""
    usual = Measured(
        "1", "train", START, 100.0, True, {"runtime": Figure(100.0)}, steps=100.0, machine={"command": "x"}
    )
    return replace(usual, **changes)  # type: ignore[arg-type] # of a test's choosing


@pytest.mark.parametrize(
    ("one", "other", "note"),
    [
        ({}, {"steps": 50.0}, "A made 100 steps, B 50: what is of the whole run is not judged"),
        ({"unseen": 9.0}, {"steps": 90.0}, "A made 100 steps, B 90: what is of the whole run is not judged"),
        ({}, {"ended": False}, "B did not come to a good end: what is of the whole run is not judged"),
        (
            {"steps": None, "spans": {"epoch": Figure(1.0, (1.0,), 1)}},
            {"steps": None, "spans": {"epoch": Figure(1.0, (1.0, 1.0), 2)}},
            "A made 1 epoch, B 2: what is of the whole run is not judged",
        ),
        (
            {"steps": None},
            {"steps": None, "machine": {"command": "y"}},
            "A and B ran different commands, and how much work that was is not known: what is of the whole run is not judged",
        ),
    ],
)
def test_other_work_is_not_judged_by_its_length(one: dict[str, object], other: dict[str, object], note: str) -> None:
    """And it is said why not."""
    longer = {"runtime": Figure(200.0)}
    comparison = compared(plain_run(**one), plain_run(figures=longer, **other))
    assert comparison.notes == [note]
    assert comparison.worse == []
    assert f"Note: {note}." in list(as_text(comparison))
    unknown: tuple[dict[str, object], ...] = ({}, {"steps": 99.5}, {"steps": 92.0, "unseen": 9.0})
    for same in unknown:  # the last steps may have come after the last look
        assert [each.key for each in compared(plain_run(), plain_run(figures=longer, **same)).worse] == ["runtime"]


def firing(rule: str, times: int, severity: str = "warning", device: str = "GPU 1") -> list[RecordedAlert]:
    """An alert that began to fire so many times."""
    return [RecordedAlert(START + n, rule, "firing", severity, device, "Hot.") for n in range(times)]


@pytest.mark.parametrize(
    ("before", "after", "worse", "better", "fails"),
    [
        ([], firing("gpu_hot", 1), ["new alert: gpu_hot on GPU 1, 1 time"], [], True),
        ([], firing("gpu_idle", 2, "info", ""), ["new alert: gpu_idle, 2 times"], [], False),
        (firing("gpu_hot", 3), [], [], ["no more: alert gpu_hot on GPU 1"], False),
        (firing("gpu_hot", 3), firing("gpu_hot", 5), [], [], False),
        (firing("gpu_hot", 3), firing("gpu_hot", 30), ["alert gpu_hot fired 30 times, before 3"], [], True),
        (
            [],
            [*firing("b", 1), *firing("a", 1, "info"), *firing("c", 1, "critical")],
            ["new alert: c on GPU 1, 1 time", "new alert: b on GPU 1, 1 time", "new alert: a on GPU 1, 1 time"],
            [],
            True,
        ),
    ],
)
def test_alerts(
    before: list[RecordedAlert], after: list[RecordedAlert], worse: list[str], better: list[str], *, fails: bool
) -> None:
    """New ones, the worst first, those that are no more, and those that fire clearly more often."""
    comparison = compared(plain_run(alerts=before), plain_run(alerts=after))
    assert sentences(comparison) == (worse, better)
    assert bool(comparison.beyond(1000)) is fails


def test_a_job_that_fails_now() -> None:
    """It is worse, whatever was measured."""
    done = [Job(1, "train", state=DONE, exit_code=0)]
    failed = [Job(1, "train", state=FAILED, exit_code=-9)]
    comparison = compared(plain_run(jobs=done), plain_run(jobs=failed, ended=False))
    assert sentences(comparison) == (["job train is failed, and was done (exit code -9)"], [])
    assert comparison.beyond(1000)
    assert sentences(compared(plain_run(jobs=failed), plain_run(jobs=done))) == (
        [],
        ["job train is done, and was failed"],
    )


def ranks(name: str, *failed: int) -> list[Job]:
    """Four processes of a job, some of which failed."""
    return [
        Job(n + 1, name, state=FAILED if n in failed else DONE, exit_code=int(n in failed), host="n1", rank=n)
        for n in range(4)
    ]


@pytest.mark.parametrize(
    ("before", "after", "worse", "better"),
    [
        # a run of one job is named as the run is, unless somebody says otherwise
        (
            [Job(1, "before", state=DONE, exit_code=0)],
            [Job(1, "after", state=FAILED, exit_code=3)],
            ["job after is failed, and was done (exit code 3)"],
            [],
        ),
        (
            [Job(1, "before", state=LOST)],
            [Job(1, "after", state=DONE, exit_code=0)],
            [],
            ["job after is done, and was lost"],
        ),
        (
            ranks("train"),
            ranks("train", 0),
            [
                "job train came to no good end in 1 of 4 processes (rank 0 failed on n1, exit code 1), before: 0 of 4",
            ],
            [],
        ),
        (
            ranks("a", 3),
            ranks("b", 1, 2),
            [
                (
                    "job b came to no good end in 2 of 4 processes (rank 1 failed on n1, exit code 1; "
                    "rank 2 failed on n1, exit code 1), before: 1 of 4"
                ),
            ],
            [],
        ),
        (ranks("train", 2), ranks("train"), [], ["job train is done in 4 processes, before it was not"]),
        (ranks("train", 2), ranks("train", 3), [], []),
        # one that the other run did not have
        (
            [Job(1, "train", state=DONE)],
            [Job(1, "train", state=DONE), Job(2, "score", state=FAILED, exit_code=1)],
            ["job score is failed, and A has no such job (exit code 1)"],
            [],
        ),
        ([Job(1, "train", state=DONE)], [Job(1, "train", state=DONE), Job(2, "score", state=DONE)], [], []),
        # nobody knows yet how it ends
        ([Job(1, "train", state=DONE)], [Job(1, "train", state=RUNNING)], [], []),
    ],
)
def test_a_job_that_fails_is_found_whatever_it_is_called(
    before: list[Job], after: list[Job], worse: list[str], better: list[str]
) -> None:
    """In any of its processes; and with it --fail-on-worse fails."""
    comparison = compared(
        *(plain_run(jobs=jobs, ended=all(job.state == DONE for job in jobs)) for jobs in (before, after))
    )
    assert sentences(comparison) == (worse, better)
    assert bool(comparison.beyond(1000)) is bool(worse)


def test_runs_are_not_called_alike_where_one_came_to_no_good_end() -> None:
    """Even where nothing else is known of it."""
    text = list(as_text(compared(plain_run(), plain_run(ended=False))))
    assert ALIKE not in text
    assert ELSE_ALIKE in text
    assert ALIKE in list(as_text(compared(plain_run(ended=False), plain_run())))


def with_spans(path: Path, *spans: tuple[str, float]) -> Measured:
    """A run of training spans: a name and seconds, one after the other."""
    at, told = 0.0, []
    for number, (name, took) in enumerate(spans, 1):
        begin, at = at, at + took
        told.append(
            RecordedSpan(
                "a" * 32, f"{number:016x}", "", name, START + round(begin * SECOND), START + round(at * SECOND)
            )
        )
    write(path, spans=told, who=recorded.about(path.stem))
    with open_run(str(path)) as run:
        return measured(run)


def test_epochs_with_their_number_in_the_name_are_epochs(tmp_path: Path) -> None:
    """They are compared together, with the noise of all of them; also one alone."""
    chance = random.Random(3)  # noqa: S311 - no secret
    runs = [
        with_spans(
            tmp_path / f"{name}.run.db", *((f"epoch {n}", by * (10 + chance.random())) for n in range(15)), ("v-2", 1.0)
        )
        for name, by in (("a", 1.0), ("b", 1.3))
    ]
    comparison = compared(*runs)
    rows = {each.key: each for each in comparison.figures if each.key.startswith("span.")}
    assert rows.keys() == {"span.epoch", "span.v-2"}
    assert [figure and figure.count for figure in (rows["span.epoch"].a, rows["span.epoch"].b)] == [15, 15]
    assert [each.key for each in comparison.worse] == ["span.epoch"]
    alone = with_spans(tmp_path / "c.run.db", ("epoch 0", 10.0))
    assert compared(runs[0], alone).notes == ["A made 15 epochs, B 1: what is of the whole run is not judged"]


def test_the_spans_that_are_compared_are_the_same_in_both(tmp_path: Path) -> None:
    """Those that took longest in either: what a run has is never told as missing."""
    names = [f"part {letter}" for letter in "abcdefghijkl"]
    one = with_spans(tmp_path / "a.run.db", *((name, 10.0 + n) for n, name in enumerate(names)))
    other = with_spans(tmp_path / "b.run.db", *((name, 30.0 - n) for n, name in enumerate(names)))
    rows = [each for each in compared(one, other).figures if each.key.startswith("span.")]
    assert len(rows) == SPANS
    assert all(each.a is not None and each.b is not None for each in rows)


def test_the_parts_of_a_run_are_made_where_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No look is kept for itself, however many there are; pieces have the mean of the looks in them."""
    monkeypatch.setattr(Recording, "job_samples", None)
    looks = [
        JobSample(START + n * SECOND, cpu=float(n), gpu_activity=n / 1000, gpu_power=None if n < 500 else 300.0)
        for n in range(1000)
    ]
    job = Job(1, "train", state=DONE, started_ns=START, ended_ns=START + 1000 * SECOND, exit_code=0)
    write(tmp_path / "a.run.db", jobs=[(job, looks)])
    with open_run(str(tmp_path / "a.run.db")) as run:
        figures = measured(run).figures
    assert len(figures["gpu.activity"].pieces) == len(figures["cpu"].pieces) == PIECES
    assert figures["gpu.activity"].pieces == pytest.approx([(n + 0.5) / PIECES for n in range(PIECES)], abs=0.001)
    assert set(figures["gpu.power"].pieces) == {300.0}
    write(
        tmp_path / "b.run.db", who=recorded.about("b"), jobs=[(job, looks[::100])]
    )  # ten looks: two pieces of four, or five
    with open_run(str(tmp_path / "b.run.db")) as run:
        assert len(measured(run).figures["cpu"].pieces) == 10 // LOOKS


def test_what_they_ran_on(tmp_path: Path) -> None:
    """Hosts, versions, GPUs, what was asked for: only what is not the same."""
    one = a_run(tmp_path, "a")
    assert one.machine["GPUs"] == "1 x H100"
    other = replace(one, machine={**one.machine, "host": "node8", "version of torch": "2.4"})
    comparison = compared(one, other)
    assert comparison.different == [("host", "node7", "node8"), ("version of torch", None, "2.4")]
    text = "\n".join(as_text(comparison))
    assert "node7  node8" in text
    assert "python train.py" not in text


def test_the_data_for_programs(tmp_path: Path) -> None:
    """Versioned; null for what is not known."""
    comparison = compared(a_run(tmp_path, "a"), plain_run())
    data = as_data(comparison, 10.0)
    assert data["version"] == 1
    assert data.keys() == {"version", "a", "b", "figures", "worse", "better", "different", "notes", "failing"}
    step = next(each for each in data["figures"] if each["key"] == "step.time")
    assert (step["a"], step["b"], step["change"], step["verdict"]) == (
        pytest.approx(1.0, rel=0.05),
        None,
        None,
        NOT_JUDGED,
    )
    assert as_data(comparison)["failing"] is None


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, 5.0), (5.0, 0.0)])
def test_nothing_is_divided_by_nothing(values: tuple[float, float]) -> None:
    """A figure that was zero has no ratio, and is not judged."""
    one, other = ({"data.wait": Figure(each), "memory.peak": Figure(each)} for each in values)
    comparison = compared(plain_run(figures=one), plain_run(figures=other))
    assert "\n".join(as_text(comparison))
    if values[0] == 0:
        assert next(each for each in comparison.figures if each.key == "memory.peak").verdict == NOT_JUDGED


SAMPLES = st.lists(st.floats(0.1, 100), min_size=FEW, max_size=40)


@settings(max_examples=100, deadline=None)
@given(one=SAMPLES, other=SAMPLES)
def test_the_test_is_the_same_both_ways(one: list[float], other: list[float]) -> None:
    """And a run does not differ from itself."""
    assert differ(one, other) == differ(other, one)
    assert differ(one, one) is False
    assert differ_in_turn(one, one) is False


@pytest.mark.parametrize("count", [3, 5, 30])
def test_how_often_chance_is_taken_for_a_change(count: int) -> None:
    """Once in 500 times, and not ten times as often: of 1500 pairs that are alike."""
    chance = random.Random(7)  # noqa: S311 - no secret
    pairs = [
        ([chance.gauss(10, 1) for _ in range(count)], [chance.gauss(10, 1) for _ in range(count)]) for _ in range(1500)
    ]
    assert sum(bool(differ(*pair)) for pair in pairs) <= 10
    assert sum(differ_in_turn(*pair) for pair in pairs) <= 10


def test_a_first_epoch_that_is_longer_in_both_hides_nothing() -> None:
    """Turn by turn, what each of them takes longer is seen."""
    one, other = (10.0, 5.0, 5.1, 4.9), (11.0, 5.52, 5.6, 5.4)
    assert differ(one, other) is False
    assert differ_in_turn(one, other)
    figures = [Figure(sum(each) / 4, each, 4) for each in (one, other)]
    comparison = compared(*(plain_run(spans={"epoch": figure}) for figure in figures))
    assert sentences(comparison)[0] == ["Epochs take 10.1% longer (6.25 s -> 6.88 s)"]


def test_too_few_pieces_ask_for_more() -> None:
    """Where nothing tells how much a run varies, 8 % are not told, and 12 % are."""
    assert differ((1.0, 2.0), (1.0, 2.0, 3.0)) is None
    for by, verdict in ((1.08, SAME), (1.12, WORSE)):
        runs = [plain_run(figures={"step.time": Figure(value)}) for value in (1.0, by)]
        assert [each.verdict for each in compared(*runs).figures] == [verdict]


@pytest.mark.parametrize(
    ("name", "words"), [("epoch", "Epochs take"), ("Validation", "Validations take"), ("a b", "Spans 'a b' take")]
)
def test_what_spans_are_called(name: str, words: str) -> None:
    """By their name in the plural where that is a word."""
    assert of_span(name, alone=False).more.startswith(words)
    assert of_span(name, alone=True).more.startswith(f"Span {name!r} takes")


def test_every_row_that_is_judged_has_words() -> None:
    """For both ways, with how much and from what to what."""
    rows: Sequence[str] = [text for row in ROWS.values() if row.better for text in (row.more, row.less)]
    assert all("{by}" in text and "{values}" in text for text in rows)
