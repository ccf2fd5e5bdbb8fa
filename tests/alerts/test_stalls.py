# SPDX-License-Identifier: Apache-2.0
"""A step that does not end: what of steps and GPUs tells that it is a stall, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

import pytest

from looks import Told, gpu_attributes, once, watch
from otel_hwmetrics.alerts.conditions import Finding
from otel_hwmetrics.alerts.stalls import AT_LONGEST, FEW, LATE, WITHOUT_GPUS, Stall
from otel_hwmetrics.catalog import gpu, gpu_activity, training
from otel_hwmetrics.model import Reading, Series, Snapshot, Unit, Window

pytestmark = pytest.mark.no_cover  # it would take three times as long; others see to that


class Gpu(NamedTuple):
    """How a GPU looks at a moment; None for what cannot be read."""

    utilization: float
    power: float | None
    tensor: float | None = None
    traffic: float | None = None


WORKS = Gpu(1.0, 700.0, 0.5)
SPINS = Gpu(1.0, 300.0, 0.0)
"""It waits for another rank in a collective."""
IDLE = Gpu(0.0, 70.0, 0.0)

Gpus = Callable[[float, bool], Sequence[Gpu]]
"""The GPUs at a moment, and whether the present step hangs."""


def stay(*gpus: Gpu, in_hang: Sequence[Gpu] | None = None) -> Gpus:
    """GPUs that always look so, but for while a step hangs."""
    return lambda _, hangs: gpus if in_hang is None or not hangs else in_hang


class Job:
    """A loop as the step clock tells of it: steps of such lengths, the longest of each second told for a minute.

    Args:
        lengths: Of its steps, in seconds; one that is 60 times as long as the first hangs.
    """

    def __init__(self, lengths: Iterable[float]) -> None:
        self._lengths = iter(lengths)
        self._ends = self._length = next(self._lengths)
        self._usual = self._length
        self._last = 0.0
        self._peak: Reading | None = None
        self.steps = 0

    def told(self, at: float) -> Iterator[Reading]:
        """What is read at a moment."""
        longest = 0.0
        while self._ends <= at:
            longest, self.steps, self._last = max(longest, self._length), self.steps + 1, self._ends
            self._length = next(self._lengths)
            self._ends += self._length
        if longest:
            self._peak = Reading(Series(training.STEP_DURATION_PEAK), longest, at)
        if self._peak is not None and at - self._peak.at <= 60.0:
            yield self._peak
        yield Reading(Series(training.STEPS), self.steps, at)
        if self.steps:
            yield Reading(Series(training.STEP_AGE), at - self._last, at)

    @property
    def hangs(self) -> bool:
        """Whether the present step is none of the usual ones."""
        return self._length >= 60 * self._usual


def of_gpus(gpus: Sequence[Gpu], at: float) -> Iterator[Reading]:
    """What the driver tells of them."""
    for index, each in enumerate(gpus):
        attributes = gpu_attributes(index)
        yield Reading(Series(gpu.UTILIZATION, attributes | {gpu.HW_GPU_TASK: "general"}), each.utilization, at)
        if each.power is not None:
            yield Reading(Series(gpu.POWER, attributes), each.power, at)
        if each.tensor is not None:
            yield Reading(Series(gpu_activity.TENSOR_ACTIVITY, attributes), each.tensor, at)
        if each.traffic is not None:
            yield Reading(Series(gpu_activity.DRAM_ACTIVITY, attributes), each.traffic, at)


def stalls(lengths: Iterable[float], until: int, gpus: Gpus = stay(WORKS)) -> list[tuple[int, Finding]]:  # noqa: B008
    """When a stall is found, a look a second, and what of it."""
    watcher, job = watch(Stall()), Job(lengths)
    found = []
    for second in range(until + 1):
        readings = list(job.told(float(second)))
        readings += of_gpus(gpus(float(second), job.hangs), float(second))
        look = watcher.look(Snapshot(readings, Window(second - 1, second), 0))
        assert {subject.key for subject in look} <= {""}
        found += [(second, finding) for finding in look.values() if finding.value is not None]
    return found


def then_hang(length: float, count: int, hang: float = 1e9) -> Iterator[float]:
    """So many steps, and one that does not end."""
    return chain(repeat(length, count), [hang])


@pytest.mark.parametrize(
    ("in_hang", "sign", "within"),
    [
        ([SPINS], "43% of the usual power", 8),
        ([Gpu(1.0, 700.0, 0.0)], "0% of the usual tensor activity", 8),
        ([Gpu(1.0, 690.0, 0.1)], "20% of the usual tensor activity", 8),
        ([Gpu(1.0, 300.0)], "43% of the usual power", 8),
        ([Gpu(1.0, None, 0.0)], "0% of the usual tensor activity", 8),
        ([SPINS] * 8, "43% of the usual power", 8),
        ([SPINS] * 7 + [WORKS], "43% of the usual power", 8),
        ([SPINS, IDLE], "43% of the usual power", 8),
        ([SPINS, *[IDLE] * 7], "43% of the usual power", 8),
        ([WORKS], None, None),
        ([Gpu(1.0, 560.0, 0.3)], None, None),
        ([IDLE] * 8, None, None),
        ([SPINS, WORKS], None, None),
        ([SPINS] * 3 + [WORKS] * 5, None, None),
        ([Gpu(0.85, 300.0, 0.0)], None, None),
    ],
    ids=[
        *("spins", "no tensor activity", "little tensor activity", "tensor activity unread", "power unread"),
        *(
            "all spin",
            "one works",
            "one idle",
            "one spins",
            "works",
            "works less",
            "all idle",
            "half",
            "few",
            "not busy",
        ),
    ],
)
def test_a_hang_is_told_by_gpus_that_are_busy_and_do_not_work(
    in_hang: list[Gpu], sign: str | None, within: int | None
) -> None:
    """Most of those that say that they are busy; whoever works is at a long step, and who is idle has no say."""
    gpus = stay(*[WORKS] * len(in_hang), in_hang=in_hang)
    found = stalls(then_hang(1.0, 300), 900, gpus)
    if sign is None or within is None:
        assert found == []
    else:
        assert 300 < found[0][0] <= 300 + within
        assert [second for second, _ in found] == list(range(found[0][0], 901))
        assert all(finding.value == second - 300 for second, finding in found)
        assert all(sign in str(finding.evidence["sign"]) for _, finding in found)
        assert {finding.evidence["usual_seconds"] for _, finding in found} == {1.0}
        assert {finding.evidence["usual"] for _, finding in found} == {"one takes 1 s at most"}
        assert set(found[0][1].evidence) == set(Stall().evidence)


@pytest.mark.parametrize("gpus", [[], [Gpu(1.0, None)]], ids=["none", "that tell nothing"])
def test_without_gpus_to_ask_five_minutes_are_a_stall(gpus: list[Gpu]) -> None:
    """And still five times the usual step."""
    found = stalls(then_hang(1.0, 300), 900, stay(*gpus))
    assert found[0][0] in {300 + int(WITHOUT_GPUS), 301 + int(WITHOUT_GPUS)}
    assert stalls(then_hang(100.0, 10), 1450, stay(*gpus)) == []
    assert stalls(then_hang(100.0, 10), 1600, stay(*gpus))[0][0] > 1500


def test_a_hang_before_it_is_known_how_hard_gpus_usually_work_takes_five_minutes() -> None:
    """A job that hangs in its first seconds is not passed over for ever."""
    few = FEW - 10
    found = stalls(then_hang(1.0, few), few + 600, stay(WORKS, in_hang=[SPINS]))
    assert found[0][0] in {few + int(WITHOUT_GPUS), few + 1 + int(WITHOUT_GPUS)}


def test_a_hang_is_not_learned_until_it_is_late_enough_to_be_told() -> None:
    """Steps of a minute: five of them pass before it is; meanwhile it does not become what is usual."""
    found = stalls(then_hang(60.0, 3, hang=1e9), 900, stay(WORKS, in_hang=[SPINS]))
    assert 480 < found[0][0] <= 490


@pytest.mark.parametrize("gpus", [stay(SPINS), stay(WORKS)], ids=["always so", "at work"])
@pytest.mark.parametrize(
    "lengths",
    [
        lambda: repeat(0.2),
        lambda: repeat(45.0),
        lambda: chain.from_iterable(repeat((1.0,) * 7 + (6.0,))),
        lambda: chain.from_iterable(repeat((1.0,) * 99 + (20.0,))),
        lambda: chain([100.0], repeat(1.0)),
    ],
    ids=["quick", "slow", "gradients accumulated", "a log every hundred", "compiled first"],
)
def test_a_healthy_loop_never_stalls(lengths: Callable[[], Iterable[float]], gpus: Gpus) -> None:
    """However its steps differ, and however hard its GPUs usually work."""
    assert stalls(lengths(), 3000, gpus) == []


def test_an_evaluation_that_nobody_told_of_is_a_long_step_where_the_gpus_work() -> None:
    """Whether it ever came before. Where they look as in a hang, each is told, though it comes as if by the clock."""
    every_ten_minutes = list(chain.from_iterable(repeat((1.0,) * 600 + (90.0,), 5)))
    at_work = stay(WORKS, in_hang=[Gpu(1.0, 560.0, 0.3)])
    assert stalls([*every_ten_minutes, 1.0], 3400, at_work) == []
    at_less = stay(WORKS, in_hang=[Gpu(1.0, 400.0, 0.1)])
    told = [second for second, finding in stalls([*every_ten_minutes, 1.0], 3400, at_less) if finding.value == LATE]
    assert told == [690 * number + 600 + LATE for number in range(5)]


@pytest.mark.parametrize(
    ("usually", "now", "works"),
    [
        (0.4, 0.7, True),
        (0.4, 0.2, True),
        (0.4, 0.19, False),
        (0.4, None, False),
        (None, 0.7, False),
        (0.02, 0.02, False),
    ],
    ids=["generates", "half", "less than half", "unread now", "unread before", "of next to nothing"],
)
def test_gpus_that_move_memory_as_usual_work(usually: float | None, now: float | None, works: bool) -> None:  # noqa: FBT001
    """At half the power, and with idle tensor cores: so text is generated. Who waits in a collective moves hardly any."""
    gpus = stay(WORKS._replace(traffic=usually), in_hang=[Gpu(0.95, 350.0, 0.05, now)])
    assert (stalls(then_hang(1.0, 300), 500, gpus) == []) == works


def test_gpus_that_the_job_does_not_use_have_no_say() -> None:
    """Whether they idle, or somebody else is at work on them; nor has one that idles beside those that it does use."""
    for others in ([IDLE], [WORKS], [IDLE, SPINS]):
        gpus = stay(*[IDLE] * len(others), in_hang=others)
        found = stalls(then_hang(1.0, 300), 900, gpus)
        assert found[0][0] in {300 + int(WITHOUT_GPUS), 301 + int(WITHOUT_GPUS)}
        assert {finding.evidence["sign"] for _, finding in found} == {"no GPU to ask"}
    assert stalls(then_hang(1.0, 300), 900, stay(WORKS, IDLE, in_hang=[IDLE, IDLE])) == []


@pytest.mark.parametrize(
    ("length", "in_hang", "after", "sign"),
    [
        (1.0, Gpu(1.0, 240.0), AT_LONGEST, "GPUs look as usual"),
        (1.0, Gpu(0.5, 240.0), AT_LONGEST, "GPUs are busy 50% of the time"),
        (120.0, Gpu(1.0, 240.0), 20 * 120.0, "GPUs look as usual"),
        (1.0, Gpu(0.0, 80.0), None, ""),
    ],
    ids=["busy", "half", "long steps", "idle"],
)
def test_half_an_hour_is_a_stall_whatever_gpus_look_like(
    length: float, in_hang: Gpu, after: float | None, sign: str
) -> None:
    """Those of a light job draw hardly less when they wait; idle ones stay another rule's."""
    begins = 300 if length < 10 else 1200
    found = stalls(then_hang(length, int(begins / length)), 4000, stay(Gpu(1.0, 300.0), in_hang=[in_hang]))
    if after is None:
        assert found == []
    else:
        assert found[0][0] == begins + after
        assert {finding.evidence["sign"] for _, finding in found} == {sign}


def test_a_first_step_that_compiles_hides_no_stall() -> None:
    """Once a few minutes have passed it is not what is usual."""
    found = stalls(chain([100.0], then_hang(1.0, 300)), 700, stay(WORKS, in_hang=[SPINS]))
    assert 400 < found[0][0] <= 430


def test_a_stall_hides_no_stall_after_it() -> None:
    """The step that ended at last was the longest, and is not what is usual."""
    lengths = [*repeat(1.0, 300), 900.0, *repeat(1.0, 300), 1e9]
    seconds = [second for second, _ in stalls(lengths, 1800, stay(WORKS, in_hang=[SPINS]))]
    assert min(seconds) < 330
    assert not any(1200 < second <= 1500 for second in seconds)
    assert min(second for second in seconds if second > 1500) < 1530
    assert max(seconds) == 1800


def test_two_stalls_do_not_hide_the_third() -> None:
    """Nothing is learned of a step in which one was found; hiccups that are too short to be told say how long one may take."""
    lengths = [*repeat(1.0, 600), 120.0, *repeat(1.0, 600), 120.0, *repeat(1.0, 600), 300.0, *repeat(1.0, 600), 1e9]
    found = stalls(lengths, 3000, stay(WORKS, in_hang=[SPINS]))
    assert [second for second, finding in found if finding.value == LATE] == [630, 1350, 2070, 2970]
    hiccups = [*repeat(0.3, 600), 20.0, *repeat(0.3, 600), 20.0, *repeat(0.3, 600), 1e9]
    found = stalls(hiccups, 1000, stay(WORKS, in_hang=[SPINS]))
    assert next(second for second, finding in found if (finding.value or 0.0) > LATE) == 681


def test_what_has_been_so_for_an_hour_is_how_long_steps_take() -> None:
    """Every one stalls by what was usual, until there has been none such for an hour."""
    found = stalls(chain(repeat(1.0, 300), repeat(60.0)), 6000, stay(WORKS, in_hang=[SPINS]))
    assert 3800 < found[-1][0] < 4100


class Clock:
    """What the step clock tells of a first step, and a machine that sleeps now and then.

    Args:
        gpus: How they look, always.
    """

    def __init__(self, *gpus: Gpu) -> None:
        self._watcher, self._gpus = watch(Stall()), gpus
        self.now = 0.0

    def look(self, after: float, *told: Told) -> Finding | None:
        """What is found at the next look."""
        began, self.now = self.now, self.now + after
        readings = [Reading(Series(metric, attributes), value, self.now) for metric, attributes, value in told]
        readings += of_gpus(self._gpus, self.now)
        return next(iter(self._watcher.look(Snapshot(readings, Window(began, self.now), 0)).values()), None)

    def first_step(self, seconds: float, *, threads: int = 1, also: Sequence[Told] = ()) -> Finding | None:
        """The last finding of so many seconds in which nothing ends."""
        found = None
        for _ in range(int(seconds)):
            time: Told = (training.STEP_TIME, {}, threads * (self.now + 1.0))
            found = self.look(1.0, (training.STEPS, {}, 0.0), time, *also)
        return found


NONE_YET = "none has ended yet"


@pytest.mark.parametrize(
    ("gpus", "sign"),
    [
        ([SPINS], "GPUs are busy"),
        ([WORKS, IDLE], "GPUs are busy"),
        ([Gpu(0.3, 100.0)], "GPUs are busy 30% of the time"),
        ([], "no GPU to ask"),
        ([IDLE], "no GPU to ask"),
    ],
    ids=["spin", "one works", "something", "none", "never used"],
)
@pytest.mark.parametrize("threads", [1, 4])
def test_half_an_hour_is_a_stall_of_the_first_step(gpus: list[Gpu], sign: str, threads: int) -> None:
    """Nothing says how long it may take."""
    clock = Clock(*gpus)
    assert clock.first_step(AT_LONGEST, threads=threads) == Finding(None)
    assert clock.first_step(2, threads=threads) == Finding(AT_LONGEST + 1, {"usual": NONE_YET, "sign": sign})


def test_a_first_step_whose_gpus_have_become_idle_is_another_rule_s() -> None:
    """They worked before, be it that the model was loaded."""
    clock = Clock(WORKS)
    assert clock.look(1.0) is None
    clock._gpus = (IDLE,)
    assert clock.first_step(2 * AT_LONGEST) == Finding(None)


def test_what_is_no_time_in_a_first_step_does_not_count() -> None:
    """A stop, a phase of which only spans tell, a loop that had nothing in it."""
    clock = Clock()
    clock.first_step(1000)
    clock.look(3600.0, (training.STEPS, {}, 0.0), (training.STEP_TIME, {}, 4600.0))
    validates: Told = (training.PHASE, {training.PHASE_NAME: "evaluation"}, 1.0)
    assert clock.first_step(2000, also=[validates]) == Finding(None)
    assert clock.first_step(700) == Finding(None)
    assert clock.first_step(110) == Finding(1000.0 + 809.0, {"usual": NONE_YET, "sign": "no GPU to ask"})
    for _ in range(2):
        assert clock.look(1.0, (training.STEPS, {}, 0.0), (training.STEP_TIME, {}, clock.now)) == Finding(None)


def test_a_stop_in_the_middle_of_a_step_is_none_of_it() -> None:
    """Steps of 20 s, and a machine that sleeps for ten minutes in three of them: neither late, nor usual from then on."""
    clock, steps, since, awake = Clock(), 0, 0.0, 0.0
    peak: Told | None = None

    def look(after: float) -> Finding | None:
        nonlocal steps, since, peak, awake
        awake += after if after < 100 else 0.0
        if awake >= 20.0:
            now, awake = clock.now + after, 0.0
            steps, since, peak = steps + 1, now, (training.STEP_DURATION_PEAK, {}, now - since)
        told: list[Told] = [(training.STEPS, {}, float(steps))]
        told += [(training.STEP_AGE, {}, clock.now + after - since)] if steps else []
        told += [peak] if peak else []
        peak = None
        return clock.look(after, *told)

    for second in range(900):
        assert look(600.0 if second in {210, 310, 350} else 1.0) == Finding(None)
    while awake + 1 < 20.0:
        look(1.0)
    awake = -1e9
    assert all(look(1.0) == Finding(None) for _ in range(200))
    found = [look(1.0) for _ in range(300)]
    assert found[-1] is not None
    assert found[-1].value == pytest.approx(519, abs=2)
    assert found[-1].evidence["usual_seconds"] == pytest.approx(20.0)


def test_gpus_that_give_up_waiting_end_no_stall() -> None:
    """A collective that ran into its timeout leaves them idle, and the step is as late as before."""

    def gpus(at: float, hangs: bool) -> list[Gpu]:  # noqa: FBT001 - what a job tells
        return [WORKS] if not hangs else [SPINS] if at < 500 else [IDLE]

    seconds = [second for second, _ in stalls(then_hang(1.0, 300), 900, gpus)]
    assert seconds == list(range(min(seconds), 901))


def test_a_driver_that_hangs_with_the_step_leaves_it_unknown_for_five_minutes() -> None:
    """Whether its GPUs work cannot be known then; that a step has not ended for so long is told all the same."""
    watcher, job = watch(Stall()), Job(then_hang(1.0, 100))
    found: dict[int, Finding | None] = {}
    for second in range(500):
        readings = [*job.told(float(second)), *of_gpus([WORKS] if second < 101 else [], float(second))]
        look = watcher.look(Snapshot(readings, Window(second - 1, second), 0))
        found[second] = next(iter(look.values()), None)
    assert found[100] == Finding(None)
    assert {found[second] for second in range(110, 395)} == {None}
    assert all(
        finding is not None and finding.value == second - 100 for second, finding in found.items() if second > 402
    )


def at_once(*told: Told) -> dict[str, Finding]:
    """What a stall's watcher finds at one look."""
    return once(Stall(), *told)


def test_what_a_job_does_not_tell_is_not_known() -> None:
    """Without steps there is nothing to find; between two loops nothing is late; who comes late does not know what is usual."""
    assert at_once((gpu.POWER, gpu_attributes(), 100.0)) == {}
    assert at_once((training.STEPS, {}, 5.0)) == {"": Finding(None)}
    assert at_once((training.STEPS, {}, 5.0), (training.STEP_AGE, {}, AT_LONGEST - 1)) == {"": Finding(None)}
    unknown = {"usual": "it is not known how long one takes", "sign": "no GPU to ask"}
    late = at_once((training.STEPS, {}, 5.0), (training.STEP_AGE, {}, AT_LONGEST))
    assert late == {"": Finding(AT_LONGEST, unknown)}


def test_a_stall_says_what_it_looks_at() -> None:
    """By the names of metrics."""
    names = {
        *(training.STEP_AGE, training.STEP_DURATION_PEAK, training.STEP_TIME),
        *(gpu.UTILIZATION, gpu.POWER, gpu_activity.TENSOR_ACTIVITY, gpu_activity.DRAM_ACTIVITY),
    }
    assert Stall().unit is Unit.SECOND
    assert {metric.name for metric in names} <= set(str(Stall()).replace(",", " ").replace(";", " ").split())
