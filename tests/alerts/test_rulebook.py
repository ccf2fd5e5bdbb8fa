# SPDX-License-Identifier: Apache-2.0
"""From options to rules: every setting, rules of one's own, and what is said of mistakes."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looks import gpu_attributes, snapshot
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.conditions import Extreme, Where
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.over import Aggregate, Over
from otel_hwmetrics.alerts.rule import Adaptive, Rule, Severity, Side, State
from otel_hwmetrics.alerts.rulebook import Rulebook, rulebook
from otel_hwmetrics.alerts.settings import SETTINGS
from otel_hwmetrics.catalog import METRICS, gpu, system
from otel_hwmetrics.config import FAMILIES, Config, flat_options, resolve
from otel_hwmetrics.model import Kind, Reading, Series, Snapshot, Window
from places import PLACES, Places

BUILTIN = {rule.name: rule for rule in RULES}
MINE: dict[str, Any] = {"metric": "hw.power", "above": 500}
"""A rule of one's own, with all that it must have."""
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


def made(said: Mapping[str, Any] | None = None, options: Mapping[str, Any] = NO_OPTIONS) -> dict[str, Rule]:
    """The rules that these settings and options make, without a mistake in them."""
    rules, errors = read(said, options)
    assert errors == []
    return rules


def read(
    said: Mapping[str, Any] | None = None, options: Mapping[str, Any] = NO_OPTIONS
) -> tuple[dict[str, Rule], list[str]]:
    """The rules that these settings and options make, and what was wrong, in words."""
    config, errors = resolve({"rules": said, **options}, {}, Path("/nowhere"))
    book = rulebook(config)
    return {rule.name: rule for rule in book.rules}, [str(error) for error in (*errors, *book.errors)]


def changed(one: Rule, other: Rule) -> dict[str, Any]:
    """What of a rule is different."""
    return {
        field.name: getattr(other, field.name)
        for field in fields(Rule)
        if getattr(one, field.name) != getattr(other, field.name)
    }


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Four empty places."""
    return Places(tmp_path)


def test_without_options_the_rules_are_those_of_the_package() -> None:
    """As they stand there, in their order; all switched off at once by one option."""
    assert rulebook(Config()) == Rulebook(RULES, ())
    assert rulebook(Config(alerts=False)) == Rulebook((), ())
    config, _ = resolve({"alerts": False, "alert_gpu_hott": 1}, {}, Path("/nowhere"))
    rules, errors = rulebook(config)
    assert rules == ()
    assert len(errors) == 1  # a mistake is one, whether alerts are judged now or not


GOOD: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "enabled": [(True, {}), ("yes", {}), (1, {})],
    "threshold": [(85, {"threshold": 85.0}), ("85.5", {"threshold": 85.5}), (-3, {"threshold": -3.0})],
    "clear": [(80, {"slack": 0.0}), (70, {"slack": 10.0}), ("79.5", {"slack": 0.5})],
    "for": [
        (30, {"for_seconds": 30.0}),
        ("5m", {"for_seconds": 300.0}),
        ("1h30m", {"for_seconds": 5400.0}),
        ("0", {"for_seconds": 0}),
    ],
    "keep_firing_for": [("90s", {"keep_firing_seconds": 90.0})],
    "samples": [(3, {"samples": 3}), ("4", {"samples": 4}), (5.0, {"samples": 5})],
    "warm_up": [("2m", {"warm_up_seconds": 120.0})],
    "cool_down": [("1d", {"cool_down_seconds": 86400.0})],
    "severity": [("critical", {"severity": Severity.CRITICAL}), (" Info ", {"severity": Severity.INFO})],
    "message": [
        ("{device} has {value}, {beyond}; {threshold}.", {"message": "{device} has {value}, {beyond}; {threshold}."}),
        ("hot {{really}}", {"message": "hot {{really}}"}),
    ],
    "advice": [("Open the window of {device}.", {"advice": "Open the window of {device}."}), ("", {"advice": ""})],
    "inhibited_by": [
        ("gpu_lost", {"inhibited_by": ("gpu_lost",)}),
        (["gpu_lost", "oom_kill"], {"inhibited_by": ("gpu_lost", "oom_kill")}),
        ("gpu_very_*, gpu_lost", {"inhibited_by": ("gpu_very_hot", "gpu_lost")}),
        ([], {"inhibited_by": ()}),
        (["gpu_xid_?nfo", "gpu_xid_info"], {"inhibited_by": ("gpu_xid_info",)}),
    ],
    "silent_in": [
        (["checkpoint"], {"silent_in": ("checkpoint",)}),
        ("evaluation, mine", {"silent_in": ("evaluation", "mine")}),
    ],
    "adaptive": [
        (True, {"adaptive": Adaptive()}),
        ("on", {"adaptive": Adaptive()}),
        ({}, {"adaptive": Adaptive()}),
        ({"deviation": 4, "window": "30m", "warm_up": 10}, {"adaptive": Adaptive(4.0, 1800.0, 10)}),
        (False, {}),
    ],
}
"""Values of every setting that all rules have, and what they make of a rule of the package that is hot above 80."""

NO_TIME: list[Any] = ["soon", -1, "-5m", True, None, [5], {}, math.nan, math.inf, "5 x"]
NO_NUMBER: list[Any] = ["hot", True, None, [80], {}, math.nan, math.inf, "80 °C", 10**400]
NO_TEXT: list[Any] = [
    7,
    None,
    ["x"],
    {},
    "{",
    "{device",
    "}",
    "{nobody}",
    "{}",
    "{0}",
    "{device!r}",
    "{device:>9}",
    "{device.key}",
]
NO_NAMES: list[Any] = [
    7,
    True,
    None,
    {"gpu_lost": 1},
    ["gpu_lost", 3],
    "gpu lost",
    "gpu_[ab]",
    ",",
    "nobody",
    ["gpu_lost", "nobody_*"],
]

WRONG: dict[str, list[Any]] = {
    "enabled": ["perhaps", 2, None, [True], {}],
    "threshold": [*NO_NUMBER, "5m"],
    "clear": [81, 80.5, *NO_NUMBER, "5m"],
    **dict.fromkeys(("for", "keep_firing_for", "warm_up", "cool_down"), NO_TIME),
    "samples": [0, -1, 1.5, "few", True, None, [3], 1_000_001],
    "severity": ["fatal", 2, None, ["info"], ""],
    "message": NO_TEXT,
    "advice": NO_TEXT,
    "inhibited_by": NO_NAMES,
    "silent_in": [7, None, {"checkpoint": True}, ["checkpoint", 3], "checkpoint,,"],
    "adaptive": [
        "perhaps",
        7,
        None,
        [True],
        {"deviations": 4},
        {"deviation": 0},
        {"deviation": "far"},
        {"window": 0},
        {"window": "0.5s"},
        {"window": math.inf},
        {"warm_up": 1},
        {"warm_up": 2.5},
        {"warm_up": 10**7},
        {7: 7},
    ],
}
"""Values that every setting refuses."""

OWN = [key for key, setting in SETTINGS.items() if setting.own]


def test_the_tables_of_these_tests_cover_every_setting() -> None:
    """A setting added without its row here is an untested one."""
    assert set(GOOD) == set(WRONG) == set(SETTINGS) - set(OWN)
    assert OWN == ["metric", "where", "aggregate", "over", "above", "below"]
    assert all(setting.help.endswith(".") and setting.allowed for setting in SETTINGS.values())


@pytest.mark.parametrize("key", GOOD)
def test_every_setting_arrives_in_the_rule_and_changes_nothing_else(key: str) -> None:
    """As its own type, of the rule that it is said of alone."""
    for value, expected in GOOD[key]:
        rules = made({"gpu_hot": {key: value}})
        assert changed(BUILTIN["gpu_hot"], rules["gpu_hot"]) == expected
        assert all(rules[name] == rule for name, rule in BUILTIN.items() if name != "gpu_hot")


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_value_is_named_with_all_that_helps(key: str) -> None:
    """Rule, key, value, place and what is allowed are in one message; the rule stays, the others keep their settings."""
    for value in WRONG[key]:
        rules, errors = read({"gpu_hot": {key: value}, "gpu_idle": {"for": 7}})
        (error,) = errors
        shown = repr(value)[:200]
        assert error.startswith(f"rule 'gpu_hot': {key!r} is {shown}")
        assert "(as an argument); it takes " in error
        assert rules["gpu_hot"] == BUILTIN["gpu_hot"]
        assert changed(BUILTIN["gpu_idle"], rules["gpu_idle"]) == {"for_seconds": 7.0}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            {"gpu_hot": {"for": "soon"}},
            "rule 'gpu_hot': 'for' is 'soon' (as an argument); it takes seconds, a number >= 0, or as 5m",
        ),
        (
            {"gpu_underused": {"threshold": 50}},
            "rule 'gpu_underused': 'threshold' is 50 (as an argument); it takes a ratio, a number from 0 to 1",
        ),
        (
            {"gpu_hot": {"threshold": "5m"}},
            "rule 'gpu_hot': 'threshold' is '5m' (as an argument); it takes a number, in the metric's unit (Cel)",
        ),
        (
            {"gpu_hot": {"clear": 81}},
            "rule 'gpu_hot': 'clear' is 81 (as an argument); it takes 80 or less, since the rule fires above 80",
        ),
        (
            {"gpu_idle": {"clear": 0.01}},
            "rule 'gpu_idle': 'clear' is 0.01 (as an argument); it takes 0.05 or more, since the rule fires below 0.05",
        ),
        (
            {"gpu_hot": {"message": "{valu}"}},
            (
                "rule 'gpu_hot': 'message' is '{valu}' (as an argument); it takes no fields but {beyond}, {device}, {threshold}, "
                "{value}"
            ),
        ),
        (
            {"gpu_hot": {"inhibited_by": ["gpu_lost", "gpu_verry_hot"]}},
            (
                "rule 'gpu_hot': 'inhibited_by' is ['gpu_lost', 'gpu_verry_hot'] (as an argument); it takes rules, and "
                "'gpu_verry_hot' is none; did you mean 'gpu_very_hot'?"
            ),
        ),
        (
            {"gpu_hot": {"treshold": 85}},
            "rule 'gpu_hot': 'treshold' is 85 (as an argument); there is no such setting, did you mean 'threshold'?",
        ),
        (
            {"gpu_hot": {"xyzzy": 1}},
            f"rule 'gpu_hot': 'xyzzy' is 1 (as an argument); there is no such setting, there are {', '.join(SETTINGS)}",
        ),
        ({"gpu_hott": {"for": 1}}, "there is no rule 'gpu_hott' (as an argument); did you mean 'gpu_hot'?"),
        (
            {"xyzzy": {"for": 1}},
            f"there is no rule 'xyzzy' (as an argument); there are {', '.join(BUILTIN)}; one of your own has a 'metric'",
        ),
        ({"gqu_h*": {"for": 1}}, "there is no rule 'gqu_h*' (as an argument); did you mean"),
        (
            {"gpu_hot": {"above": 85}},
            (
                "rule 'gpu_hot': 'above' is 85 (as an argument); it is of rules of your own, and this one comes with the package; "
                "it has a 'threshold'"
            ),
        ),
        (
            {"gpu_hot": {"metric": "hw.power"}},
            (
                "rule 'gpu_hot': 'metric' is 'hw.power' (as an argument); it is of rules of your own, and this one comes with the "
                "package; give one of your own another name"
            ),
        ),
        ({"gpu_hot": 7}, "rule 'gpu_hot': 'enabled' is 7 (as an argument); it takes true or false"),
        (
            {"gpu_*": {"threshold": 0.5}},
            "rule 'gpu_*': 'threshold' is 0.5 (as an argument); it is said of one rule, and this means 2",
        ),
        (
            {"gpu_hot": {"silent_in": ["chekpoint"]}},
            (
                "rule 'gpu_hot': 'silent_in' is ['chekpoint'] (as an argument); it takes a list of phases (checkpoint, "
                "evaluation, or names of your own); did you mean 'checkpoint'?"
            ),
        ),
        (
            {"gpu_hot": {"inhibited_by": ["gpu_hot"]}},
            (
                "rule 'gpu_hot': 'inhibited_by' is ['gpu_hot'] (as an argument); it takes other rules: none can silence "
                "itself"
            ),
        ),
        (
            {"mine": {"above": 0.5}},
            "there is no rule 'mine' (as an argument); a rule of your own takes a 'metric'",
        ),
        (
            {"mine": {"metric": "hwmetrics.alert.active", "above": 0.5}},
            (
                "rule 'mine': 'metric' is 'hwmetrics.alert.active' (as an argument); it takes a metric that is not made of "
                "alerts: those are judged before"
            ),
        ),
    ],
)
def test_mistakes_are_told_in_these_words(said: dict[str, Any], error: str) -> None:
    """One message for one mistake, of however many rules."""
    _, errors = read(said)
    assert len(errors) == 1
    assert errors[0].startswith(error)


@pytest.mark.parametrize("place", PLACES)
def test_a_mistake_is_told_with_its_place(places: Places, place: str) -> None:
    """The file, the variable, the argument; be it in a table or in an option of its own."""
    places.put(place, "rules", {"gpu_hot": {"for": "soon"}})
    places.put(place, "alert_gpu_hot_threshold", "hot")
    config, errors = places.resolve()
    assert errors == []
    assert [str(error) for error in rulebook(config).errors] == [
        f"rule 'gpu_hot': 'for' is 'soon' {places.words(place, 'rules')}; it takes {SETTINGS['for'].allowed}",
        (
            f"option 'alert_gpu_hot_threshold' is 'hot' {places.words(place, 'alert_gpu_hot_threshold')}; as 'threshold' of the "
            f"rule 'gpu_hot' it takes {SETTINGS['threshold'].allowed}"
        ),
    ]


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("alert_gpu_hot_treshold", "did you mean 'alert_gpu_hot_threshold'?"),
        ("alert_gpu_hott", "did you mean 'alert_gpu_hot'?"),
        ("alert_memory_presure", "did you mean 'alert_memory_pressure'?"),
        ("alert_chanels", "did you mean 'alert_channels'?"),
        (
            "alert_xyzzyxyzzy",
            "of a rule there are alert_<rule>, alert_<rule>_threshold and alert_<rule>_for; the rules are ",
        ),
    ],
)
def test_an_option_of_no_rule_is_told_with_the_nearest_one(option: str, hint: str) -> None:
    """Whether of a rule, of a family, or no rule's at all; and nothing else is lost."""
    rules, errors = read(options={option: 1, "alert_gpu_hot_for": 7})
    assert len(errors) == 1
    assert errors[0].startswith(f"there is no option {option!r} (as an argument); {hint}")
    assert rules["gpu_hot"].for_seconds == 7


@pytest.mark.parametrize("name", BUILTIN)
def test_every_rule_of_the_package_has_its_three_options(name: str) -> None:
    """Its switch, its threshold, its duration."""
    switch, threshold, lasting = flat_options(name)
    rules = made(options={threshold: 0.42, lasting: "7s"})
    assert changed(BUILTIN[name], rules[name]) == {"threshold": 0.42, "for_seconds": 7.0}
    assert list(made(options={switch: "off"})) == [other for other in BUILTIN if other != name]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_sets_each_of_its_rules(family: str) -> None:
    """And no other; all of them come with the package; a mistake is told once."""
    rules, key = FAMILIES[family]
    assert set(rules) <= BUILTIN.keys()
    if key == "enabled":
        assert list(made(options={family: False})) == [name for name in BUILTIN if name not in rules]
        assert made(options={family: True}) == BUILTIN
    else:
        after = made(options={family: 0.42})
        assert {name for name, rule in after.items() if rule != BUILTIN[name]} == set(rules)
        assert {after[name].threshold for name in rules} == {0.42}
    _, errors = read(options={family: 90})
    assert len(errors) == 1
    assert errors[0].startswith(
        f"option {family!r} is 90 (as an argument); as {key!r} of the rule {rules[0]!r} it takes "
    )


def test_a_switch_of_one_rule_outdoes_that_of_its_family() -> None:
    """In one place; a better place outdoes both."""
    rules = made(options={"alert_memory_pressure": False, "alert_gpu_oom_ahead": True})
    assert "gpu_oom_ahead" in rules
    assert "host_oom_ahead" not in rules


@pytest.mark.parametrize("place", PLACES[:3])
def test_what_places_say_is_joined_and_the_better_one_counts(places: Places, place: str) -> None:
    """An argument outdoes the environment, which outdoes a file, setting by setting."""
    places.put(place, "rules", {"gpu_hot": {"threshold": 85, "for": "1m", "clear": 70}, "gpu_idle": {"enabled": False}})
    places.put("argument", "rules", {"gpu_hot": {"threshold": 86}, "gpu_*": {"enabled": True}})
    rules, errors = rulebook(places.resolve()[0])
    assert errors == ()
    after = {rule.name: rule for rule in rules}
    assert changed(BUILTIN["gpu_hot"], after["gpu_hot"]) == {"threshold": 86.0, "for_seconds": 60.0, "slack": 16.0}
    assert "gpu_idle" in after


@pytest.mark.parametrize("key", [key for key in GOOD if GOOD[key][0][1]])
def test_a_wrong_value_overwrites_nothing(places: Places, key: str) -> None:
    """What a weaker place says is better than what the package says, whyever the stronger one cannot be taken."""
    value, expected = GOOD[key][0]
    for wrong in WRONG[key]:
        places.put("environment", "rules", {"gpu_hot": {"samples": 9, key: value}})
        places.put("argument", "rules", {"gpu_hot": {key: wrong}})
        rules, errors = rulebook(places.resolve()[0])
        after = next(rule for rule in rules if rule.name == "gpu_hot")
        assert len(errors) == 1
        assert changed(BUILTIN["gpu_hot"], after) == {"samples": 9} | expected


def test_a_clear_that_a_threshold_leaves_on_the_wrong_side_is_told_where_it_was_written(places: Places) -> None:
    """A better place's threshold counts, and the rule's own slack with it."""
    places.put("hwmetrics.toml", "rules", {"gpu_hot": {"threshold": 85, "clear": 82}})
    places.put("argument", "alert_gpu_hot_threshold", 81)
    rules, errors = rulebook(places.resolve()[0])
    assert [str(error) for error in errors] == [
        (
            f"rule 'gpu_hot': 'clear' is 82 {places.words('hwmetrics.toml', 'rules')}; it takes 81 or less, since the rule fires "
            "above 81"
        )
    ]
    after = next(rule for rule in rules if rule.name == "gpu_hot")
    assert changed(BUILTIN["gpu_hot"], after) == {"threshold": 81.0}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("gpu_*", [name for name in BUILTIN if name.startswith("gpu_")]),
        ("*", list(BUILTIN)),
        ("gpu_?ot", ["gpu_hot"]),
        ("*_hot", ["gpu_very_hot", "gpu_hot"]),
    ],
)
def test_a_pattern_is_said_of_every_rule_that_it_fits(pattern: str, names: list[str]) -> None:
    """One's own, too; and a table of one rule outdoes it, in whatever order they are written."""
    assert {name for name, rule in made({pattern: {"cool_down": 7}}).items() if rule.cool_down_seconds == 7} == set(
        names
    )
    for said in (
        {pattern: {"enabled": False}, "gpu_hot": {"enabled": True}},
        {"gpu_hot": {"enabled": True}, pattern: False},
    ):
        assert list(made(said)) == [name for name in BUILTIN if name not in names or name == "gpu_hot"]
    mine = {"my_hot": MINE, "*_hot": {"severity": "info"}}
    assert made(mine)["my_hot"].severity is Severity.INFO


def test_a_rule_is_switched_off_by_false_alone() -> None:
    """`gpu_idle = false` below `[rules]` is what people write first."""
    assert "gpu_idle" not in made({"gpu_idle": False})
    assert "gpu_idle" not in made({"gpu_idle": "off"})
    assert made({"gpu_idle": True}) == BUILTIN


def of_own(**said: Any) -> Rule:
    """The one rule of one's own that this makes, beside those of the package."""
    rules = made({"mine": said})
    assert list(rules) == [*BUILTIN, "mine"]
    return rules["mine"]


def test_a_rule_of_one_s_own_is_a_metric_and_a_side() -> None:
    """Which of several series fires is that which is furthest; it fires at once, and is a warning."""
    assert of_own(**MINE) == Rule(
        "mine",
        Severity.WARNING,
        Extreme(gpu.POWER),
        Side.ABOVE,
        500.0,
        0.0,
        0.0,
        "hw.power of {device} is {value} ({beyond}).",
    )
    below = of_own(metric="hw.power", below="20.5")
    assert (below.condition, below.side, below.threshold) == (Extreme(gpu.POWER, lowest=True), Side.BELOW, 20.5)


def test_a_rule_of_one_s_own_takes_every_setting() -> None:
    """Those that all rules have, and where and over how long it looks."""
    rule = of_own(
        metric="system.network.io",
        where={"network.io.direction": "receive", "network.interface.name": ["eth0", "eth1"]},
        aggregate="rate",
        over="5m",
        below=1000,
        clear=2000,
        **{"for": "10m"},
        keep_firing_for=60,
        samples=3,
        warm_up="1h",
        cool_down=5,
        severity="critical",
        message="{device} gets {value}.",
        advice="Plug it in.",
        inhibited_by=["gpu_lost"],
        silent_in=["checkpoint"],
        adaptive={"deviation": 4},
    )
    where: Where = {"network.io.direction": "receive", "network.interface.name": frozenset({"eth0", "eth1"})}
    assert rule == Rule(
        "mine",
        Severity.CRITICAL,
        Over(system.NETWORK_IO, Aggregate.RATE, 300.0, where, Side.BELOW),
        Side.BELOW,
        1000.0,
        1000.0,
        600.0,
        "{device} gets {value}.",
        "Plug it in.",
        3,
        60.0,
        3600.0,
        5.0,
        ("gpu_lost",),
        ("checkpoint",),
        Adaptive(4.0),
    )


@pytest.mark.parametrize(
    ("said", "threshold"),
    [
        ({"metric": "hwmetrics.training.step.age", "above": "5m"}, 300.0),
        ({"metric": "hwmetrics.training.step.age", "above": 300}, 300.0),
        ({"metric": "hw.gpu.utilization", "below": 0.3}, 0.3),
        ({"metric": "hwmetrics.training.data.wait.share", "above": 1}, 1.0),
        ({"metric": "hwmetrics.gpu.pcie.generation", "below": 4}, 4.0),
        ({"metric": "hwmetrics.dataset.storage.share", "above": 1.5}, 1.5),
        ({"metric": "process.cpu.time", "aggregate": "rate", "over": "1m", "above": 8}, 8.0),
        ({"metric": "hw.temperature", "below": -40}, -40.0),
        ({"metric": "system.memory.usage", "above": "1e12"}, 1e12),
    ],
)
def test_thresholds_are_in_the_unit_of_what_is_looked_at(said: dict[str, Any], threshold: float) -> None:
    """Seconds as people write them; a share is 0 to 1, a code or a number of CPUs is not one."""
    rule = of_own(**said)
    assert rule.threshold == threshold
    assert type(rule.threshold) is float
    side = "above" if "above" in said else "below"
    assert made({"mine": {**said, side: 0, "threshold": said[side]}})["mine"].threshold == threshold


NO_WHERE: list[Any] = [7, "GPU-0", {"hw.id": None}, {"hw.id": []}, {"hw.id": {}}, {"hw.id": [None]}, {7: 7}]


def test_seconds_of_the_package_s_rules_may_be_written_as_people_do() -> None:
    """Threshold and clear, on either side."""
    after = made(
        {"disk_full_ahead": {"threshold": "1d", "clear": "2d"}, "training_stalled": {"threshold": "5m", "clear": 240}}
    )
    full, stalled = after["disk_full_ahead"], after["training_stalled"]
    assert (full.threshold, full.clear) == (86400.0, 172800.0)
    assert (stalled.threshold, stalled.clear) == (300.0, 240.0)
    assert {type(number) for number in (full.threshold, full.slack, stalled.threshold, stalled.slack)} == {float}


HINT = "docs/reference/metrics.md has them all"
HAS = ", ".join(gpu.POWER.attributes)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            {"metric": "hw.powr", "above": 5},
            "rule 'mine': 'metric' is 'hw.powr' (as an argument); it takes the name of a metric; did you mean 'hw.power'?",
        ),
        (
            {"metric": "xyzzy", "above": 5},
            f"rule 'mine': 'metric' is 'xyzzy' (as an argument); it takes the name of a metric; {HINT}",
        ),
        ({"metric": 7, "above": 5}, "rule 'mine': 'metric' is 7 (as an argument); it takes the name of a metric"),
        (
            {"metric": "hw.power"},
            "rule 'mine' (as an argument) takes one of 'above' and 'below', and has neither",
        ),
        (
            {"metric": "hw.power", "above": 5, "below": 3},
            "rule 'mine' (as an argument) takes one of 'above' and 'below', and has both",
        ),
        (
            {"metric": "hw.power", "above": "much"},
            f"rule 'mine': 'above' is 'much' (as an argument); it takes {SETTINGS['above'].allowed}",
        ),
        (
            {"metric": "hw.gpu.utilization", "above": 90},
            "rule 'mine': 'above' is 90 (as an argument); it takes a ratio, a number from 0 to 1",
        ),
        (
            {"metric": "hw.power", "above": "5m"},
            "rule 'mine': 'above' is '5m' (as an argument); it takes a number, in the metric's unit (W)",
        ),
        (
            {**MINE, "where": {"hw.idd": "GPU-0"}},
            (
                "rule 'mine': 'where' is {'hw.idd': 'GPU-0'} (as an argument); it takes attributes of hw.power, and 'hw.idd' is "
                "none; did you mean 'hw.id'?"
            ),
        ),
        (
            {**MINE, "where": {"xyzzy": "GPU-0"}},
            (
                "rule 'mine': 'where' is {'xyzzy': 'GPU-0'} (as an argument); it takes attributes of hw.power, and 'xyzzy' is "
                f"none; it has {HAS}"
            ),
        ),
        *(
            ({**MINE, "where": wrong}, f"rule 'mine': 'where' is {wrong!r} (as an argument); it takes a table of")
            for wrong in NO_WHERE
        ),
        *(
            (
                {**MINE, "aggregate": wrong, "over": 60},
                f"rule 'mine': 'aggregate' is {wrong!r} (as an argument); it takes last",
            )
            for wrong in ("median", 7, None, ["mean"])
        ),
        *(
            (
                {**MINE, "aggregate": "mean", "over": wrong},
                f"rule 'mine': 'over' is {wrong!r} (as an argument); it takes seconds",
            )
            for wrong in (0, "0s", 0.05, -1, "soon", math.inf)
        ),
        (
            {**MINE, "aggregate": "rate", "over": "5m"},
            (
                "rule 'mine': 'aggregate' is 'rate' (as an argument); hw.power is no counter, and has no rate; it takes mean, min, "
                "max"
            ),
        ),
        (
            {"metric": "hw.errors", "above": 5, "aggregate": "mean", "over": "5m"},
            (
                "rule 'mine': 'aggregate' is 'mean' (as an argument); hw.errors is a counter, and has no mean; it takes increase, "
                "rate"
            ),
        ),
        (
            {**MINE, "aggregate": "mean"},
            "rule 'mine': 'aggregate' is 'mean' (as an argument); it takes an 'over' beside it, such as 5m",
        ),
        (
            {**MINE, "over": "5m"},
            "rule 'mine': 'over' is '5m' (as an argument); it takes an 'aggregate' beside it that is not last",
        ),
    ],
)
def test_a_rule_of_one_s_own_that_cannot_be_is_told_and_is_none(said: dict[str, Any], error: str) -> None:
    """Once, in words that help; the package's rules stay as they are."""
    rules, errors = read({"mine": said})
    assert errors[0].startswith(error)
    assert len(errors) == 1
    assert rules == BUILTIN


@pytest.mark.parametrize(
    "name",
    [
        *("Mine", "my rule", "my-rule", "1st", "", "mine_for", "mine_threshold", "_mine", "mine.too", "[mine]", "mïne"),
        *("spans", "channels", "span_events", "memory_pressure", "gpu_underutilization"),
    ],
)
def test_names_that_are_not_allowed_or_taken_are_refused(name: str) -> None:
    """What could not be switched by an option of its own, or would be by another's."""
    rules, errors = read({name: MINE})
    assert errors == [
        (
            f"rule {name!r} (as an argument) needs another name: one of small letters, digits and _, that does not end in "
            "_threshold or _for and with alert_ before it is no other option"
        )
    ]
    assert rules == BUILTIN


def test_a_rule_of_one_s_own_has_its_three_options_too() -> None:
    """From any place, once some place says what it is."""
    rules = made({"mine": MINE}, {"alert_mine_threshold": 700, "alert_mine_for": "1m"})
    assert (rules["mine"].threshold, rules["mine"].for_seconds) == (700.0, 60.0)
    assert "mine" not in made({"mine": MINE}, {"alert_mine": False})
    _, errors = read(options={"alert_mine": False})
    assert len(errors) == 1


def test_a_rule_of_one_s_own_is_joined_from_all_places(places: Places) -> None:
    """A better place changes what it says, even the side; a wrong metric there leaves the one that there is."""
    places.put("hwmetrics.toml", "rules", {"mine": {**MINE, "for": "1m"}})
    places.put("environment", "rules", {"mine": {"metric": "hw.powr", "where": {"hw.model": "H200"}}})
    places.put("argument", "rules", {"mine": {"below": 20, "where": {"nothing": 1}}})
    rules, errors = rulebook(places.resolve()[0])
    mine = rules[-1]
    assert (mine.condition, mine.side) == (Extreme(gpu.POWER, {"hw.model": "H200"}, lowest=True), Side.BELOW)
    assert (mine.threshold, mine.for_seconds) == (20.0, 60.0)
    assert [str(error).split(";")[0] for error in errors] == [
        f"rule 'mine': 'metric' is 'hw.powr' {places.words('environment', 'rules')}",
        "rule 'mine': 'where' is {'nothing': 1} (as an argument)",
    ]


def test_the_words_of_the_evidence_may_be_used_in_a_message() -> None:
    """Of a rule that has some; no other's."""
    text = "{device}: {xid} {name} {meaning} {advice} {value}"
    assert made({"gpu_xid_critical": {"message": text}})["gpu_xid_critical"].message == text
    _, errors = read({"gpu_hot": {"message": text}})
    assert len(errors) == 1


@pytest.mark.parametrize(
    "said",
    [
        {"gpu_lost": ["gpu_hot"]},
        {"gpu_lost": ["gpu_*"]},
        {"gpu_lost": ["mine"], "mine": ["gpu_hot"]},
        {"mine": ["yours"], "yours": ["mine"]},
        {"mine": ["gpu_hot"], "gpu_lost": ["gpu_idle", "mine"]},
        {"mine": ["yours"], "yours": ["theirs"], "theirs": ["mine"]},
        {"*": ["*"]},
    ],
)
def test_rules_that_would_silence_each_other_in_a_circle_do_not(said: dict[str, list[str]]) -> None:
    """The one that would close the circle is told of, and keeps what it had; all others are as they were told."""
    own = dict.fromkeys(("mine", "yours", "theirs"), MINE)
    rules, errors = read({**own, **{name: own.get(name, {}) | {"inhibited_by": by} for name, by in said.items()}})
    assert len(errors) == 1
    (by,) = [by for name, by in said.items() if errors[0].startswith(f"rule {name!r}: 'inhibited_by' is {by!r}")]
    assert "it takes rules that are not silenced by this one, nor by one that it silences" in errors[0]
    Engine(tuple(rules.values()))
    silenced = [name for name, others in said.items() if others is not by and name in rules]
    assert all(set(said[name]) <= set(rules[name].inhibited_by) for name in silenced)


def test_a_rule_that_is_named_by_the_option_profile_on_alert_must_be_there() -> None:
    """A typo there would only be noticed when the profile is missing."""
    mine = {"mine": MINE}
    assert made(mine, {"profile_on_alert": "mine,gpu_*,training_stalled"})
    _, errors = read(mine, {"profile_on_alert": ["gpu_hott", "mine", "x*"]})
    assert errors[0] == "option 'profile_on_alert' names 'gpu_hott', and there is no such rule; did you mean 'gpu_hot'?"
    assert len(errors) == 2


EVERYTHING = [
    Reading(Series(metric, {**gpu_attributes(), **dict.fromkeys(metric.attributes, "x")}), 1.0, 1.0)
    for metric in METRICS
]


def judged(rules: tuple[Rule, ...]) -> list[str]:
    """What is told when an engine of these rules looks at a snapshot of every metric, three times, and loses all."""
    engine = Engine(rules)
    told: list[str] = []
    for at in (1.0, 2.0, 2.0, 400.0):
        readings = [reading._replace(at=at, value=reading.value * at) for reading in EVERYTHING] if at < 400 else []
        told += [step.message for step in engine.evaluate(Snapshot(readings, Window(at - 1, at), 0))]
    list(engine.readings(400.0))
    return told


def test_an_engine_of_the_package_s_rules_judges_a_snapshot_of_everything() -> None:
    """Whatever a source may ever tell."""
    assert judged(RULES)


@pytest.mark.parametrize("aggregate", [None, *Aggregate])
def test_every_metric_makes_a_rule_or_a_mistake(aggregate: Aggregate | None) -> None:
    """And what is made of it can be judged, and told to people; a histogram, of which no look tells a value, makes none."""
    metrics = [metric for metric in METRICS if not metric.name.startswith("hwmetrics.alert.")]
    histograms = [metric for metric in metrics if metric.kind is Kind.HISTOGRAM]
    said = {f"r{number}": {"metric": metric.name, "above": 0} for number, metric in enumerate(metrics)}
    if aggregate is not None:
        said = {name: each | {"aggregate": aggregate.value, "over": "1m"} for name, each in said.items()}
    rules, errors = read(said)
    own = [rule for name, rule in rules.items() if name not in BUILTIN]
    assert len(own) + len(errors) == len(metrics)
    assert own
    assert len(judged(tuple(own))) >= len(own)
    if aggregate is None:
        assert len(errors) == len(histograms)
    elif aggregate is not Aggregate.RATE:
        counters = sum(metric.kind is Kind.COUNTER for metric in metrics)
        assert len(own) == (counters if aggregate.of_counters else len(metrics) - len(histograms) - counters)


@pytest.mark.parametrize(
    "key", ["for", "keep_firing_for", "samples", "warm_up", "cool_down", "inhibited_by", "silent_in"]
)
def test_a_rule_of_one_s_own_is_none_without_what_holds_it_back(key: str) -> None:
    """It would ring more often than it was meant to; one of the package goes on with its own setting."""
    rules, errors = read({"mine": {**MINE, key: -1}, "gpu_hot": {key: -1}})
    assert len(errors) == 2
    assert "mine" not in rules
    assert rules["gpu_hot"] == BUILTIN["gpu_hot"]


def test_phases_have_the_names_that_the_step_clock_gives_them() -> None:
    """However they are called in the loop, so they may be called here."""
    rules = made({"gpu_hot": {"silent_in": ["eval", "Validation", "ckpt", "warmup"]}})
    assert rules["gpu_hot"].silent_in == ("evaluation", "checkpoint", "warmup")


def test_a_rule_of_one_s_own_fires_and_is_told() -> None:
    """From the option to the sentence."""
    engine = Engine(
        tuple(made({"*": False, "mine": {**MINE, "enabled": True, "clear": 400, "advice": "Calm."}}).values())
    )
    told = [
        (at, step.state, step.message)
        for at, watts in enumerate((100.0, 600.0, 450.0, 300.0))
        for step in engine.evaluate(snapshot(at, [(gpu.POWER, gpu_attributes(), watts)]))
        if step.told
    ]
    assert told == [
        (1, State.FIRING, "hw.power of GPU 0 is 600 W (above 500 W). Calm."),
        (3, State.RESOLVED, "Resolved after 2 s, at worst 600 W: hw.power of GPU 0 is 300 W (no longer above 500 W)."),
    ]


NASTY = st.sampled_from(
    [
        *(math.nan, math.inf, -math.inf, 10**400, 1e308, 5e-324, b"x", range(3), object(), {"system"}),
        *("\0", "\ud800", "9" * 5000, "{" * 50, "*" * 50, json.loads("[" * 500 + "]" * 500)),
        *("5m", "1h30m", "gpu_*", "gpu_hot", "true", "mean", "hw.power"),
    ]
)
KEYS = st.text(max_size=4) | st.integers() | st.none()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=8) | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=5,
)
SAID = {
    **{key: JSON | st.sampled_from([value for value, _ in GOOD[key]]) for key in GOOD},
    "metric": JSON | st.sampled_from([metric.name for metric in METRICS]),
    "where": JSON | st.dictionaries(st.sampled_from(["hw.id", "cpu.mode", "x"]), JSON, max_size=2),
    "aggregate": JSON | st.sampled_from([each.value for each in Aggregate]),
    "over": JSON | st.sampled_from(["5m", 60, 0.1]),
    "above": JSON | st.floats(-1, 1),
    "below": JSON | st.floats(-1, 1),
}
TABLES = st.fixed_dictionaries({}, optional=SAID) | st.fixed_dictionaries(
    {"metric": SAID["metric"], "above": st.floats(0, 1)}, optional={key: SAID[key] for key in GOOD}
)
NAMES = st.sampled_from([*BUILTIN, "mine", "yours", "gpu_*", "*", "m?ne", "[a-", "spans"]) | st.text(max_size=6)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    said=JSON
    | st.dictionaries(
        NAMES,
        JSON | TABLES | st.dictionaries(KEYS, JSON, max_size=2),
        max_size=4,
    )
)
def test_whatever_is_said_of_rules_makes_rules_and_errors(said: Any) -> None:
    """It never raises; what comes out can be judged and told; every error says where."""
    config, errors = resolve({"rules": said}, {}, Path("/nowhere"))
    book = rulebook(config)
    assert all("(as an argument)" in str(error) and len(str(error)) < 3000 for error in (*errors, *book.errors))
    names = [rule.name for rule in book.rules]
    assert len(set(names)) == len(names)
    assert judged(book.rules) or not names
    assert [rule.name for rule in rulebook(replace(config, alerts=False)).rules] == []
