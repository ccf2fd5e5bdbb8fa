# SPDX-License-Identifier: Apache-2.0
"""Of several processes one tells of what they share, each of its own, and what was counted goes on from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.judged import judged_by
from otel_hwmetrics.alerts.subjects import HOST, subject_of
from otel_hwmetrics.catalog import container, gpu, gpu_activity, gpu_health, own, pressure, process, system, tree
from otel_hwmetrics.election import Emitter, Job, Ledger
from otel_hwmetrics.election import emitter as module
from otel_hwmetrics.election.emitter import UNHEARD_AFTER
from otel_hwmetrics.election.succession import Count
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Metric, Series

JUDGED = {rule.name: judged_by(rule) for rule in RULES}
ANYWHERE = "0123456789abcdef"


def of_gpu(metric: Metric, index: int = 0, **more: str) -> Series:
    """A series of a GPU."""
    return Series(metric, {gpu.HW_ID: f"GPU-{index}", gpu.GPU_INDEX: index, **more})


HOST_SERIES = Series(system.CPU_TIME, {system.CPU_MODE: "user"})
CONTAINER_SERIES = Series(container.MEMORY_EVENTS, {container.MEMORY_EVENT: "oom_kill"})
OWN_SERIES = Series(process.CPU_TIME, {})
TREE_SERIES = Series(tree.CPU_TIME, {})
ENERGY = of_gpu(gpu.ENERGY)
COUNTERS = (HOST_SERIES, CONTAINER_SERIES, OWN_SERIES, TREE_SERIES, ENERGY)


class Stands(NamedTuple):
    """Where a counter stands."""

    raw: float
    total: float
    at: float


def standings(series: Iterable[Series] = COUNTERS) -> dict[Series, Count]:
    """Counters at nothing."""
    return dict.fromkeys(series, Stands(0.0, 0.0, 0.0))


Make = Callable[..., Emitter]


@pytest.fixture
def rank(tmp_path: Path) -> Make:
    """Makes one rank's emitter, which has looked once."""

    def make(
        local_rank: int | None = 0, *folders: str, emit: str = "auto", job: str = ANYWHERE, **options: Any
    ) -> Emitter:
        places = [Folder(str(tmp_path / name), alone=True) for name in folders or ("shared",)]
        options.setdefault("ledger", Ledger())
        made = Emitter(emit, lambda: Job(job, local_rank), lambda: places, JUDGED, **options)
        made.start()
        made.look(standings())
        return made

    return make


def shown(emitter: Emitter, series: Iterable[Series] = COUNTERS) -> set[str]:
    """The names of what is exported of these."""
    return {each.metric.name for each in series if emitter.shows(each)}


EVERYTHING = {series.metric.name for series in COUNTERS}
ITS_OWN = {process.CPU_TIME.name, tree.CPU_TIME.name}


def test_of_two_one_tells_of_what_they_share_and_each_of_its_own(rank: Make) -> None:
    """The second has it all at its second look after the first is gone."""
    first, second = rank(0), rank(1)
    assert shown(first) == EVERYTHING
    assert shown(second) == ITS_OWN
    assert next(iter(first.readings(0.0))).value == 1
    assert next(iter(second.readings(0.0))).value == 0
    first.stop()
    second.look(standings())
    assert shown(second) == EVERYTHING


def test_a_recording_has_what_is_exported_and_where_nothing_is_all_that_is_seen(rank: Make) -> None:
    """So that the files of all ranks together have everything once; the same tuple where it is all, look for look."""
    first, second = rank(0), rank(1)
    silent, alone = rank(emit="never"), rank(None, job="")
    assert first.recorded(COUNTERS, 1.0) == COUNTERS
    assert second.recorded(COUNTERS, 1.0) == (OWN_SERIES, TREE_SERIES)
    for everything in (silent, alone):
        assert everything.recorded(COUNTERS, 1.0) is COUNTERS
    assert rank(emit="process").recorded(COUNTERS, 1.0) == (OWN_SERIES, TREE_SERIES)


def test_a_successor_tells_of_no_look_from_before_it_had_the_office(rank: Make) -> None:
    """An export that is under way meanwhile is of the look before: what the last holder told of is later than that."""
    first, second = rank(0), rank(1)
    first.stop()
    second.look(standings(), at=10.0)
    assert shown(second) == EVERYTHING
    assert not second.shows(HOST_SERIES, at=9.9)
    assert second.shows(HOST_SERIES, at=10.0)
    second.look(standings(), at=11.0)
    assert second.shows(HOST_SERIES, at=10.0)
    assert second.shows(Series(process.CPU_TIME), at=9.9)


def test_who_steps_back_leaves_all_to_others_and_has_it_again_when_it_is_free(rank: Make) -> None:
    """Its sampler hangs: another rank tells of the machine, and goes on to once it looks again; then they may change."""
    first, second = rank(0), rank(1)
    for one, other in ((first, second), (second, first)):
        for _ in range(3):
            one.look(standings())
            other.look(standings())
        assert (shown(one), shown(other)) == (EVERYTHING, ITS_OWN)
        one.step_back()
        one.step_back()
        assert shown(one) == ITS_OWN
        for _ in range(2):
            other.look(standings())
        one.look(standings())
        assert (shown(one), shown(other)) == (ITS_OWN, EVERYTHING)


@pytest.mark.parametrize(
    ("emit", "expected"), [("always", EVERYTHING), ("process", ITS_OWN), ("never", set()), ("auto", ITS_OWN)]
)
def test_the_option_says_what_a_process_exports(rank: Make, emit: str, expected: set[str]) -> None:
    """Beside one that holds every office; and it takes no office from anybody."""
    rank(0)
    assert shown(rank(1, emit=emit)) == expected


@pytest.mark.parametrize("emit", ["process", "never", "always"])
def test_who_is_told_what_to_export_stands_for_no_office(rank: Make, emit: str) -> None:
    """The others elect among themselves."""
    rank(0, emit=emit)
    assert shown(rank(1)) == EVERYTHING


def test_a_job_of_one_process_elects_nobody(rank: Make, tmp_path: Path) -> None:
    """`python train.py` makes no files."""
    assert shown(rank(None, "alone", job="")) == EVERYTHING
    assert not (tmp_path / "alone").exists()


@pytest.mark.parametrize(
    ("local_rank", "expected"),
    [(0, EVERYTHING), (None, EVERYTHING), (1, ITS_OWN | {CONTAINER_SERIES.metric.name, ENERGY.metric.name})],
)
def test_where_nobody_can_be_met_the_local_rank_0_tells(
    rank: Make, tmp_path: Path, local_rank: int | None, expected: set[str]
) -> None:
    """No folder can be had; any other rank of its container, and of its GPU if it sees one alone."""
    (tmp_path / "taken").touch()
    emitter = rank(local_rank, "taken")
    for _ in range(33):
        emitter.look(standings())
    assert shown(emitter) == expected


def test_ranks_that_share_no_folder_do_not_double(rank: Make) -> None:
    """Each in a container of its own: what is of the node the local rank 0 tells; its own container each, and says whose."""
    zero, one = rank(0, "its own"), rank(1, "another")
    for _ in range(33):
        one.look(standings([*COUNTERS, of_gpu(gpu.ENERGY, 1)]))
    assert shown(zero) == EVERYTHING
    assert shown(one) == ITS_OWN | {CONTAINER_SERIES.metric.name}
    assert one.signs(CONTAINER_SERIES)
    assert not zero.signs(CONTAINER_SERIES)


def test_a_rank_that_sees_one_gpu_tells_of_it_though_it_meets_nobody(rank: Make) -> None:
    """It was given that GPU, and the local rank 0 does not see it."""
    one = rank(1, "another")
    for _ in range(28):
        assert not one.shows(ENERGY)  # it may be about to meet it
        one.look(standings())
    for _ in range(5):
        one.look(standings())
    assert one.shows(ENERGY)
    assert not one.shows(HOST_SERIES)


def test_each_gpu_is_told_of_by_one_that_sees_it(rank: Make) -> None:
    """As SLURM binds one GPU to each task: the holder of the node's office cannot tell of the others."""
    zero, one = rank(0), rank(1)
    mine = of_gpu(gpu.ENERGY, 1)
    for _ in range(3):
        one.look(standings([mine]))
    assert one.shows(mine)
    assert one.shows(of_gpu(gpu.TEMPERATURE, 1))
    assert not one.shows(ENERGY)
    assert zero.shows(ENERGY)
    assert not zero.shows(mine)


def test_containers_of_one_node_are_each_told_of(rank: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that share a folder, each in a cgroup of its own: two series that are told apart by their rank."""
    zero = rank(0)
    monkeypatch.setattr(module, "_cgroup", lambda: "another")
    one = rank(1)
    one.look(standings())
    one.look(standings())
    of_cgroup = Series(pressure.STALL_TIME, {pressure.SCOPE: "cgroup"})
    for series in (CONTAINER_SERIES, of_cgroup):
        assert zero.shows(series)
        assert not zero.signs(series)
        assert one.shows(series)
        assert one.signs(series)
    assert not one.shows(Series(pressure.STALL_TIME, {pressure.SCOPE: "host"}))


def test_everything_that_is_of_a_process_says_of_which(rank: Make) -> None:
    """What is told once a node does not."""
    emitter = rank(0)
    assert emitter.signs(OWN_SERIES)
    assert emitter.signs(of_gpu(gpu_activity.PROCESS_MEMORY))
    assert emitter.signs(Series(own.SOURCE_UP, {own.SOURCE: "system"}))
    assert not emitter.signs(HOST_SERIES)
    assert not emitter.signs(ENERGY)


def test_a_count_of_the_kernel_goes_on_to_the_unit(rank: Make) -> None:
    """Both read one count: what it grew in between is in it, though nobody told of it."""
    first, second = rank(0), rank(1)
    first.look({HOST_SERIES: Stands(1_000_100.0, 100.0, 10.0)})
    first.stop()
    second.look({HOST_SERIES: Stands(1_000_130.0, 7.0, 13.0)})
    assert 7.0 + second.more(HOST_SERIES) == 130.0
    second.look({HOST_SERIES: Stands(1_000_140.0, 17.0, 14.0)})
    assert 17.0 + second.more(HOST_SERIES) == 140.0
    third = rank(2)
    second.stop()
    third.look({HOST_SERIES: Stands(1_000_141.0, 0.0, 15.0)})
    assert third.more(HOST_SERIES) == 141.0


def test_a_count_that_was_set_back_goes_on_from_where_it_was(rank: Make) -> None:
    """Never below what was told."""
    first, second = rank(0), rank(1)
    first.look({HOST_SERIES: Stands(1_000_100.0, 100.0, 10.0)})
    first.stop()
    second.look({HOST_SERIES: Stands(20.0, 7.0, 13.0)})
    assert 7.0 + second.more(HOST_SERIES) == 100.0


def test_a_count_that_each_process_makes_goes_on_by_what_the_successor_saw(rank: Make) -> None:
    """A driver's count, made endless by each for itself: 50 J/s, read last by the old holder half-way between two looks."""
    first, second = rank(0), rank(1)
    first.look({ENERGY: Stands(700.0, 500.0, 12.5)})
    for at in (11.0, 12.0):
        second.look({ENERGY: Stands(at * 50, at * 50 - 200, at)})
    first.stop()
    second.look({ENERGY: Stands(13 * 50, 13 * 50 - 200, 13.0)})
    assert 13 * 50 - 200 + second.more(ENERGY) == 500.0 + 25.0


def test_a_count_that_was_not_read_since_stays_until_it_is(rank: Make) -> None:
    """A slow reading is told again for a while; what the old holder has told of is not told twice."""
    first, second = rank(0), rank(1)
    first.look({ENERGY: Stands(700.0, 500.0, 12.5)})
    second.look({ENERGY: Stands(600.0, 400.0, 12.0)})
    first.stop()
    second.look({ENERGY: Stands(600.0, 400.0, 12.0)})
    assert 400.0 + second.more(ENERGY) == 500.0
    second.look({ENERGY: Stands(650.0, 450.0, 13.0)})
    assert 450.0 + second.more(ENERGY) == 525.0


def test_xids_are_whole(rank: Make) -> None:
    """Half an error is none."""
    xids = of_gpu(gpu_health.ERRORS)
    first, second = rank(0), rank(1)
    first.look({xids: Stands(2, 2, 12.4)})
    second.look({xids: Stands(2, 2, 12.0)})
    first.stop()
    second.look({xids: Stands(3, 3, 13.0)})
    assert 3 + second.more(xids) == 3


def test_a_backend_that_adds_up_growth_is_told_only_of_growth(rank: Make) -> None:
    """Delta temporality: an SDK tells a first total as growth, and the old holder's was added up already."""
    first, second = rank(0, anew=True), rank(1, anew=True)
    first.look({HOST_SERIES: Stands(1_000_100.0, 100.0, 10.0)})
    first.stop()
    second.look({HOST_SERIES: Stands(1_000_130.0, 7.0, 13.0)})
    assert 7.0 + second.more(HOST_SERIES) == 30.0


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_an_alert_is_told_of_once_a_node_or_by_whom_it_concerns(rank: Make, rule: object) -> None:
    """By each, where a rule judges anything of the process's own; else by the holder, whatever it is about."""
    name = str(getattr(rule, "name"))  # noqa: B009 - one of many kinds of rows
    zero, one = rank(0), rank(1)
    subject = subject_of(ENERGY) if name.startswith("gpu_") else HOST
    of_each = {
        *("training_stalled", "input_bound", "io_bottleneck", "memory_leak", "worker_died", "worker_stuck"),
        *("gpu_memory_pressure", "gpu_oom_ahead", "gpu_memory_leak", "source_failing", "monitor_over_budget"),
    }
    assert zero.tells(name, subject)
    assert one.tells(name, subject) == (name in of_each)
    active = Series(own.ALERT_ACTIVE, {own.ALERT_RULE: name, own.ALERT_STATE: "firing", **subject.attributes})
    counted = Series(own.ALERT_TRANSITIONS, {own.ALERT_RULE: name, own.ALERT_STATE: "firing"})
    for series in (active, counted):
        assert zero.shows(series)
        assert one.shows(series) == (name in of_each)
    assert zero.signs(active) == (name in of_each)
    assert zero.signs(counted)  # it begins anew with each process that counts


def test_a_rank_that_speaks_for_a_gpu_tells_of_its_alerts(rank: Make) -> None:
    """And counts them; of the node's it tells nothing."""
    rank(0)
    one = rank(1)
    mine = of_gpu(gpu.ENERGY, 1)
    for _ in range(3):
        one.look(standings([mine]))
    assert one.tells("gpu_hot", subject_of(mine))
    assert not one.tells("gpu_hot", subject_of(ENERGY))
    assert not one.tells("disk_full_ahead", HOST)
    assert one.shows(Series(own.ALERT_TRANSITIONS, {own.ALERT_RULE: "gpu_hot"}))


@pytest.mark.parametrize(
    ("emit", "node", "process_"), [("always", True, True), ("process", False, True), ("never", False, False)]
)
def test_the_option_says_which_alerts_a_process_tells_of(rank: Make, emit: str, node: bool, process_: bool) -> None:  # noqa: FBT001
    """They go onto its own spans in any case."""
    emitter = rank(0, emit=emit)
    assert emitter.tells("disk_full_ahead", HOST) == node
    assert emitter.tells("training_stalled", HOST) == process_


def test_a_rule_of_the_users_own_is_known_by_what_it_judges(rank: Make) -> None:
    """One that nobody knows is told of by everybody: better twice than never."""
    assert rank(1).tells("mine", HOST)


def test_what_a_process_told_it_does_not_take_back(rank: Make) -> None:
    """A successor that is instrumented again goes on, though nothing is left of who was before: as the SDK's streams do."""
    ledger = Ledger()
    first, second = rank(0), rank(1, ledger=ledger)
    first.look({HOST_SERIES: Stands(1_000_100.0, 1000.0, 10.0)})
    first.stop()
    second.look({HOST_SERIES: Stands(1_000_101.0, 7.0, 11.0)})
    assert 7.0 + second.more(HOST_SERIES) == 1001.0
    second.stop()
    again = rank(1, ledger=ledger)
    again.look({HOST_SERIES: Stands(1_000_112.0, 18.0, 12.0)})
    assert 18.0 + again.more(HOST_SERIES) == 1012.0
    assert 18.0 + rank(1, ledger=ledger, job="").more(HOST_SERIES) == 1012.0


@pytest.mark.parametrize("anew", [False, True])
def test_an_office_that_was_lost_for_a_while_is_gone_on_with(rank: Make, tmp_path: Path, anew: bool) -> None:  # noqa: FBT001
    """The files of the locks were removed, and had by nobody else: no total falls, whatever the backend adds up."""
    zero = rank(0, "a", "b", anew=anew)
    zero.look({HOST_SERIES: Stands(1_000_500.0, 500.0, 10.0)})
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    told = [500.0]
    for at in range(11, 40):
        stands = Stands(1_000_490.0 + at, 490.0 + at, float(at))
        zero.look({HOST_SERIES: stands})
        told.append(stands.total + zero.more(HOST_SERIES))
    assert told == sorted(told)
    assert told[-1] == 529.0
    assert zero.shows(HOST_SERIES)


def test_of_what_holders_left_the_newest_counts(rank: Make) -> None:
    """They did not share all folders with each other."""
    first = rank(0, "shm", "tmp")
    first.look({ENERGY: Stands(900.0, 900.0, 9.0)})
    first.stop()
    second = rank(0, "tmp")
    second.look({ENERGY: Stands(1900.0, 1900.0, 19.0)})
    third = rank(1, "shm", "tmp")
    third.look({ENERGY: Stands(0.0, 0.0, 19.0)})
    second.stop()
    third.look({ENERGY: Stands(10.0, 10.0, 20.0)})
    assert 10.0 + third.more(ENERGY) == 1910.0


class Clock:
    """A clock that is set."""

    at = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.at


def test_a_process_of_which_nothing_arrives_leaves_its_offices_to_one_of_which_it_does(rank: Make) -> None:
    """An idle notebook, a rank without a reader, a provider that was shut down: after some minutes, and not before."""
    clock = Clock()
    idle, heard = rank(None, now=clock), rank(None, now=clock)
    for clock.at in range(0, 200, 10):
        heard.asked()
        idle.look(standings())
        heard.look(standings())
        assert idle.shows(HOST_SERIES) == (clock.at <= UNHEARD_AFTER)
    assert heard.shows(HOST_SERIES)
    assert heard.shows(ENERGY)


def test_where_nothing_arrives_of_anybody_one_tells_all_the_same(rank: Make) -> None:
    """`OTEL_METRICS_EXPORTER=none`: alerts are told."""
    clock = Clock()
    first, second = rank(0, now=clock), rank(1, now=clock)
    for clock.at in range(0, 1000, 10):
        first.look(standings())
        second.look(standings())
        assert first.shows(HOST_SERIES)
        assert not second.shows(HOST_SERIES)


def test_seldom_collections_are_collections(rank: Make) -> None:
    """One in ten minutes: who has been asked twice is not unheard in between."""
    clock = Clock()
    seldom, often = rank(0, now=clock), rank(1, now=clock)
    for clock.at in range(0, 1300, 10):
        often.asked()
        if clock.at % 600 == 0:
            seldom.asked()
        for each in (seldom, often):
            each.look(standings())
    assert seldom._is_heard


def test_without_looks_of_its_own_a_process_stands_once_it_is_asked(rank: Make) -> None:
    """`sample_interval=0`: it could not notice that nobody asks it any more."""
    emitter = rank(0, regular=False)
    assert not emitter.shows(HOST_SERIES)
    emitter.asked()
    emitter.look(standings())
    assert emitter.shows(HOST_SERIES)


def test_a_script_that_becomes_rank_0_later_meets_the_others(tmp_path: Path) -> None:
    """Lightning and Hydra tell the script's own process so only as they start the others."""
    place, jobs = Folder(str(tmp_path / "shared"), alone=True), [Job("", None)]
    script = Emitter("auto", lambda: jobs[-1], lambda: [place], JUDGED, Ledger())
    script.start()
    script.look(standings())
    assert shown(script) == EVERYTHING
    jobs.append(Job(ANYWHERE, 0))
    other = Emitter("auto", lambda: Job(ANYWHERE, 1), lambda: [place], JUDGED, Ledger())
    other.start()
    for _ in range(20):
        other.look(standings())
        script.look(standings())
    assert shown(script) == EVERYTHING
    assert shown(other) == ITS_OWN


def test_a_rank_that_sees_instances_of_one_gpu_tells_of_those(rank: Make) -> None:
    """Which it was given; of the GPU as a whole the local rank 0 tells, since others see it, too."""
    one = rank(1, "another")
    instance = Series(gpu.ENERGY, {gpu.HW_ID: "MIG-7", gpu.HW_PARENT: "GPU-0", gpu.GPU_INDEX: 0})
    for _ in range(33):
        one.look(standings([ENERGY, instance]))
    assert one.shows(instance)
    assert not one.shows(ENERGY)
