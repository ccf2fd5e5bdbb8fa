# SPDX-License-Identifier: Apache-2.0
"""What rules of GPUs look at: XIDs by what they mean, links under load, siblings, codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looks import Attributes, Told, gpu_attributes, once, snapshot, values, watch
from otel_hwmetrics.alerts.conditions import Condition, Finding, Watcher
from otel_hwmetrics.alerts.gpus import BUSY, FASTEST_STATES, HARMFUL_CAUSES, Coded, PcieSpeed, SlowerThanSiblings, Xids
from otel_hwmetrics.alerts.rule import Severity
from otel_hwmetrics.catalog import gpu, gpu_activity, gpu_health, gpu_links
from otel_hwmetrics.catalog.xid import XIDS
from otel_hwmetrics.model import Attribute, Metric, Series, Unit

CRITICAL, WARNING, INFO = (Xids(severity, 60.0) for severity in (Severity.CRITICAL, Severity.WARNING, Severity.INFO))
UNKNOWN = 9999


def code_of(severity: str, number: int = 0) -> int:
    """A code of a severity."""
    return [code for code, known in XIDS.items() if known.severity.value == severity][number]


def errors(counts: Mapping[Any, float], index: int = 0) -> list[Told]:
    """What is told of a GPU's errors, by code; None for errors that are no XIDs."""
    return [
        (gpu_health.ERRORS, gpu_attributes(index) | ({gpu_health.XID: code} if code is not None else {}), count)
        for code, count in counts.items()
    ]


def look(watcher: Watcher, at: float, told: Sequence[Told]) -> dict[str, Finding]:
    """What is found at a moment, by GPU or by its XID."""
    return {subject.key: finding for subject, finding in watcher.look(snapshot(at, told)).items()}


def key(code: int, index: int = 0) -> str:
    """The key of an XID of a GPU."""
    return f"GPU-{index}/{gpu_health.XID}={code}"


def test_a_gpu_that_tells_of_no_errors_at_all_is_not_known_to_have_none() -> None:
    """A board without ECC has no such counter until its first XID comes."""
    watcher = watch(CRITICAL)
    assert look(watcher, 1.0, [(gpu.POWER, gpu_attributes(), 100.0)]) == {}
    assert values(look(watcher, 2.0, errors({None: 0.0}))) == {"GPU-0": 0.0}


def test_the_first_xid_of_a_code_counts_and_is_forgotten_after_a_while() -> None:
    """Though nobody ever read a 0 of it; the last one is told, with its meaning and advice, until a next one comes."""
    code = code_of("critical")
    known = XIDS[code]
    told: dict[str, Attribute] = {"xid": code, "name": known.name, "meaning": known.meaning, "advice": known.advice}
    watcher = watch(CRITICAL)
    assert look(watcher, 1.0, errors({None: 3.0})) == {"GPU-0": Finding(0.0)}
    for at, total, count in ((2.0, 1.0, 1.0), (30.0, 1.0, 1.0), (63.0, 1.0, 0.0), (64.0, 2.0, 1.0)):
        found = look(watcher, at, errors({None: 3.0, code: total}))
        assert found == {"GPU-0": Finding(0.0), key(code): Finding(count, told)}
    assert tuple(told) == CRITICAL.evidence


def test_each_severity_has_its_codes_and_its_gpu() -> None:
    """A job's own fault is no reason to have a board replaced; of another GPU it is none at all."""
    counts = {code_of(severity): 1.0 for severity in ("critical", "warning", "info")}
    for condition in (CRITICAL, WARNING, INFO):
        watcher = watch(condition)
        look(watcher, 1.0, [*errors({None: 0.0}), *errors({None: 0.0}, 1)])
        found = look(watcher, 2.0, [*errors(counts), *errors({None: 0.0}, 1)])
        code = code_of(condition.severity.value)
        assert values(found) == {"GPU-0": 0.0, key(code): 1.0, "GPU-1": 0.0}
        assert found[key(code)].evidence["xid"] == code


def test_each_code_is_counted_by_itself() -> None:
    """Whoever knows of one must hear of the next; in whatever order they are told."""
    one, other = code_of("critical", 0), code_of("critical", 1)
    watcher = watch(CRITICAL)
    for at, counts in enumerate([{one: 1.0}, {one: 1.0, other: 2.0}, {other: 2.0, one: 2.0}, {one: 2.0, other: 2.0}]):
        found = look(watcher, float(at + 1), errors(counts))
        assert values(found) == {"GPU-0": 0.0, **{key(code): count for code, count in counts.items()}}
        assert [found[key(code)].evidence["xid"] for code in counts] == list(counts)


def test_people_call_an_xid_by_its_gpu() -> None:
    """It is an alert of that GPU, of which the code is an attribute."""
    code = code_of("critical")
    whole, part = watch(CRITICAL).look(snapshot(1.0, errors({code: 1.0}, 3)))
    assert (part.name, part.whole) == (whole.name, whole.key) == ("GPU 3", "GPU-3")
    assert dict(part.attributes) == {**whole.attributes, gpu_health.XID: code}
    assert part != whole


def test_a_code_that_nvidia_s_catalog_lacks_is_a_warning() -> None:
    """It says so, and where to look."""
    told = {}
    for condition in (CRITICAL, WARNING, INFO):
        watcher = watch(condition)
        look(watcher, 1.0, errors({None: 0.0}))
        told[condition.severity.value] = look(watcher, 2.0, errors({UNKNOWN: 1.0}))
    assert [key(UNKNOWN) in told[severity] for severity in ("critical", "warning", "info")] == [False, True, False]
    finding = told["warning"][key(UNKNOWN)]
    evidence = finding.evidence
    assert (finding.value, evidence["xid"], evidence["name"]) == (1.0, UNKNOWN, "unknown")
    assert all(str(word) for word in evidence.values())
    assert "dmesg" in str(evidence["advice"])


def test_xids_from_before_the_first_look_are_none() -> None:
    """Neither those that another pipeline counted, nor those that stand there when looking begins."""
    code = code_of("critical")
    stood = {Series(gpu_health.ERRORS, gpu_attributes() | {gpu_health.XID: code}): 4.0}
    watcher = watch(CRITICAL, stood)
    assert values(look(watcher, 1.0, errors({code: 4.0}))) == {"GPU-0": 0.0, key(code): 0.0}
    assert values(look(watcher, 2.0, errors({code: 5.0}))) == {"GPU-0": 0.0, key(code): 1.0}
    first = watch(CRITICAL).look(snapshot(1.0, errors({code: 4.0}), window=0.0))
    assert [finding.value for finding in first.values()] == [0.0, 0.0]


@given(
    st.lists(st.dictionaries(st.sampled_from([*list(XIDS)[:12], UNKNOWN]), st.integers(0, 3), max_size=5), max_size=12)
)
def test_every_xid_is_counted_once_by_the_rule_of_one_severity(growth: list[dict[int, int]]) -> None:
    """Whatever comes in whatever order: all three together find all that came."""
    watchers = [watch(Xids(severity, 1e6)) for severity in Severity]
    totals: dict[Any, float] = {None: 0.0}
    for at, came in enumerate(growth):
        for code, count in came.items():
            totals[code] = totals.get(code, 0.0) + count
        found = [finding for each in watchers for finding in look(each, float(at + 1), errors(totals)).values()]
        assert sum(finding.value or 0.0 for finding in found) == sum(totals.values())


def link(
    generation: float, width: float, best: tuple[float, float] = (5.0, 16.0), index: int = 0, busy: float = 1.0
) -> list[Told]:
    """What is told of a GPU's PCIe link, and of its load."""
    attributes = gpu_attributes(index)
    return [
        (gpu_links.PCIE_GENERATION, attributes, generation),
        (gpu_links.PCIE_WIDTH, attributes, width),
        (gpu_links.PCIE_GENERATION_LIMIT, attributes, best[0]),
        (gpu_links.PCIE_WIDTH_LIMIT, attributes, best[1]),
        (gpu.UTILIZATION, attributes | {gpu.HW_GPU_TASK: "general"}, busy),
        (gpu.UTILIZATION, attributes | {gpu.HW_GPU_TASK: "encoder"}, 1.0),
    ]


@pytest.mark.parametrize(
    ("generation", "width", "best", "speed"),
    [
        (5.0, 16.0, (5.0, 16.0), 1.0),
        (4.0, 16.0, (5.0, 16.0), 0.5),
        (5.0, 8.0, (5.0, 16.0), 0.5),
        (1.0, 16.0, (4.0, 16.0), 2.5 / 16),
        (3.0, 16.0, (3.0, 8.0), 1.0),
        (0.0, 16.0, (5.0, 16.0), None),
        (5.0, 0.0, (5.0, 16.0), None),
        (5.0, 16.0, (99.0, 16.0), None),
    ],
)
def test_a_link_is_as_fast_as_its_lanes_and_their_generation(
    generation: float, width: float, best: tuple[float, float], speed: float | None
) -> None:
    """As a share of what board and slot can agree on; what is no generation, or no lane, has no speed."""
    found = once(PcieSpeed(), *link(generation, width, best))
    assert values(found) == ({} if speed is None else {"GPU-0": pytest.approx(speed)})
    if speed is not None:
        expected = dict(zip(PcieSpeed().evidence, map(int, (generation, width, *best)), strict=True))
        assert found["GPU-0"].evidence == expected
    assert PcieSpeed().unit is Unit.RATIO


@pytest.mark.parametrize("lacks", range(5))
def test_a_link_of_which_something_cannot_be_read_is_not_found(lacks: int) -> None:
    """Neither without its width, nor without a load to tell by."""
    told = link(1.0, 16.0)
    del told[lacks]
    assert once(PcieSpeed(), *told) == {}


def test_a_link_is_judged_under_load_alone() -> None:
    """An idle GPU lowers it to save power, and so does one in a performance state of idleness, however busy it says it is."""
    state = gpu_activity.PERFORMANCE_STATE
    assert once(PcieSpeed(), *link(1.0, 16.0, busy=BUSY - 0.01)) == {}
    assert values(once(PcieSpeed(), *link(4.0, 16.0, busy=BUSY))) == {"GPU-0": 0.5}
    for level, found in ((0.0, True), (float(FASTEST_STATES), True), (FASTEST_STATES + 1.0, False), (8.0, False)):
        assert bool(once(PcieSpeed(), *link(4.0, 16.0), (state, gpu_attributes(), level))) is found
    two = [*link(4.0, 16.0), *link(1.0, 16.0, index=1, busy=0.0)]
    assert values(once(PcieSpeed(), *two)) == {"GPU-0": 0.5}


@pytest.mark.parametrize("condition", [PcieSpeed(), SlowerThanSiblings()])
def test_a_gpu_that_rests_for_long_is_known_to_be_at_no_work(condition: Condition) -> None:
    """Between two steps nothing is found, so that what is pending waits; later it is over, not unreadable."""
    watcher = watch(condition)

    def at(second: float, busy: float) -> dict[str, Finding]:
        told = [each for index in (0, 1) for each in (*link(4.0, 16.0, index=index, busy=busy), clock(index, 1.5e9))]
        return look(watcher, second, told)

    assert at(0.0, 0.0) == {}
    assert all(finding.value is not None for finding in at(1.0, 1.0).values())
    assert at(2.0, 0.0) == {}
    assert at(3.0, 1.0) != {}
    assert at(30.0, 0.0) == {"GPU-0": Finding(None), "GPU-1": Finding(None)}
    assert look(watcher, 31.0, []) == {}


def clock(index: int, hertz: float, **more: Attribute) -> Told:
    """The clock of a GPU's multiprocessors."""
    return (gpu_activity.CLOCK, gpu_attributes(index, **more) | {gpu_activity.CLOCK_DOMAIN: "sm"}, hertz)


def siblings(
    clocks: Mapping[int, float], idle: Sequence[int] = (), models: Mapping[int, str] | None = None
) -> list[Told]:
    """What is told of GPUs by their clocks in GHz; some of them idle, some of other models."""
    told: list[Told] = []
    for index, hertz in clocks.items():
        attributes = gpu_attributes(index) | {gpu.HW_MODEL: (models or {}).get(index, "H200")}
        told += [
            (gpu_activity.CLOCK, attributes | {gpu_activity.CLOCK_DOMAIN: "sm"}, hertz * 1e9),
            (gpu_activity.CLOCK, attributes | {gpu_activity.CLOCK_DOMAIN: "memory"}, 2.6e9),
            (gpu.UTILIZATION, attributes | {gpu.HW_GPU_TASK: "general"}, 0.0 if index in idle else 1.0),
        ]
    return told


@pytest.mark.parametrize(
    ("clocks", "behind"),
    [
        ([1.9], []),
        ([1.9, 1.9], [0.0, 0.0]),
        ([1.9, 1.52], [0.0, 0.2]),
        ([1.5, 1.9, 1.9], [1 - 1.5 / 1.9, 0.0, 0.0]),
        ([1.9] * 7 + [0.95], [0.0] * 7 + [0.5]),
        ([1.9] * 4 + [0.95] * 4, [0.0] * 4 + [0.5] * 4),
        ([1.90, 1.91, 1.89, 1.92, 1.90, 1.90, 1.91, 1.88], [0.0, 0.0, 0.0053, 0.0, 0.0, 0.0, 0.0, 0.0105]),
    ],
    ids=["one", "two", "two, one slow", "three, one slow", "eight, one slow", "eight, half slow", "eight, healthy"],
)
def test_a_gpu_is_compared_with_the_median_of_its_siblings(clocks: list[float], behind: list[float]) -> None:
    """How far it is behind; none is ahead; alone there is nobody to compare it with."""
    found = once(SlowerThanSiblings(), *siblings(dict(enumerate(clocks))))
    assert values(found) == {f"GPU-{index}": pytest.approx(share, abs=1e-3) for index, share in enumerate(behind)}
    assert SlowerThanSiblings().unit is Unit.RATIO


def test_siblings_are_loaded_and_of_one_model_and_have_a_clock() -> None:
    """An idle GPU is no measure, nor one of another model, nor one that cannot be read; nor are they judged by others."""
    mixed = siblings({0: 1.9, 1: 1.7, 2: 1.4, 3: 1.4}, models={2: "L40S", 3: "L40S"})
    assert values(once(SlowerThanSiblings(), *mixed)) == {
        "GPU-0": 0.0,
        "GPU-1": pytest.approx(1 - 1.7 / 1.9),
        "GPU-2": 0.0,
        "GPU-3": 0.0,
    }
    assert values(once(SlowerThanSiblings(), *siblings({0: 1.9, 1: 1.7, 2: 0.3}, idle=[2]))) == {
        "GPU-0": 0.0,
        "GPU-1": pytest.approx(1 - 1.7 / 1.9),
    }
    assert once(SlowerThanSiblings(), *siblings({0: 1.9, 1: 1.7}, idle=[1])) == {}
    assert once(SlowerThanSiblings(), *siblings({0: 1.9, 1: 0.0})) == {}
    assert (
        once(SlowerThanSiblings(), *(each for each in siblings({0: 1.9, 1: 1.7}) if each[0] is gpu.UTILIZATION)) == {}
    )


NOTHING = "nothing else differs"


@pytest.mark.parametrize(
    ("told", "difference"),
    [
        ({}, NOTHING),
        ({"throttle": (0.4, 0.0)}, "throttled 40% of the time, the others 0%"),
        ({"throttle": (0.02, 0.0)}, NOTHING),
        ({"cap": (0.9, 0.0)}, NOTHING),
        ({"margin": (3.0, 20.0)}, "3 °C from slowing down, the others 20"),
        ({"margin": (18.0, 20.0)}, NOTHING),
        ({"power": (490.0, 700.0)}, "70% of the others' power"),
        ({"power": (690.0, 700.0)}, NOTHING),
        ({"power": (490.0, None)}, NOTHING),
        ({"power": (None, 700.0)}, NOTHING),
        (
            {"throttle": (0.4, 0.1), "margin": (0.0, 20.0), "power": (490.0, 700.0)},
            "throttled 40% of the time, the others 10%; 0 °C from slowing down, the others 20; 70% of the others' power",
        ),
    ],
)
def test_what_else_is_different_about_a_slow_gpu_is_told(
    told: dict[str, tuple[float | None, float | None]], difference: str
) -> None:
    """Against the median of its siblings; what is as with them, or cannot be read, is not said."""
    cause = gpu_activity.THROTTLE_CAUSE
    of: dict[str, tuple[Metric, Attributes]] = {
        "throttle": (gpu_activity.THROTTLE_SHARE, {cause: "hw_thermal"}),
        "cap": (gpu_activity.THROTTLE_SHARE, {cause: "sw_power_cap"}),
        "margin": (gpu.TEMPERATURE_MARGIN, {}),
        "power": (gpu.POWER, {}),
    }
    more: list[Told] = [
        (of[word][0], gpu_attributes(index) | dict(of[word][1]), value)
        for (word, (own, others)), index in product(told.items(), range(4))
        if (value := own if index == 2 else others) is not None
    ]
    found = once(SlowerThanSiblings(), *siblings({0: 1.9, 1: 1.9, 2: 1.5, 3: 1.9}), *more)
    assert found["GPU-2"].evidence == {"difference": difference}
    assert {found[f"GPU-{index}"].evidence["difference"] for index in (0, 1, 3)} == {NOTHING}


def test_causes_of_throttling_that_do_harm_are_told_apart_from_how_dense_training_runs() -> None:
    """A power cap and idleness are no faults."""
    assert {"hw_thermal", "sw_thermal", "thermal", "hw_power_brake", "prochot"} <= HARMFUL_CAUSES
    assert not {"sw_power_cap", "power", "low_utilization", "sync_boost"} & HARMFUL_CAUSES


def test_a_code_is_told_with_its_meaning() -> None:
    """One that nobody knows by its number."""
    condition = Coded(gpu_health.RECOVERY_ACTION, "action", ((0, "nothing"), (1, "a reset")))
    for code, meaning in ((0.0, "nothing"), (1.0, "a reset"), (7.0, "action 7")):
        assert once(condition, (gpu_health.RECOVERY_ACTION, gpu_attributes(), code)) == {
            "GPU-0": Finding(code, {"action": meaning})
        }
    assert (condition.evidence, condition.unit, str(condition)) == (
        ("action",),
        Unit.RATIO,
        gpu_health.RECOVERY_ACTION.name,
    )
    assert once(condition) == {}
    state = Coded(gpu_health.RECOVERY_ACTION, "state", ())
    assert once(state, (gpu_health.RECOVERY_ACTION, gpu_attributes(), 2.0))["GPU-0"].evidence == {"state": "state 2"}


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        (CRITICAL, {gpu_health.ERRORS.name, gpu_health.XID, "critical"}),
        (PcieSpeed(), {gpu_links.PCIE_GENERATION.name, gpu_links.PCIE_WIDTH.name, gpu.UTILIZATION.name}),
        (SlowerThanSiblings(), {gpu_activity.CLOCK.name, gpu.UTILIZATION.name}),
    ],
)
def test_conditions_say_what_they_look_at(condition: Condition, names: set[str]) -> None:
    """By the names of metrics."""
    assert names <= set(str(condition).replace(",", " ").split())
    assert hash(condition) == hash(condition)
