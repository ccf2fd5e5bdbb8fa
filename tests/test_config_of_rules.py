# SPDX-License-Identifier: Apache-2.0
"""What options say of alert rules, from each of the four places, before anybody asks which rules there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otel_hwmetrics.config import ENVIRONMENT_PREFIX, FAMILIES, OPTIONS, Config, RuleSettings, resolve
from places import PLACES, Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Four empty places."""
    return Places(tmp_path)


def of_rules(config: Config) -> list[tuple[str, dict[str, Any]]]:
    """What is said of rules, in the order in which it counts."""
    return [(said.rule, dict(said.settings)) for said in config.rules]


TABLE = {"gpu_hot": {"threshold": 85, "for": "5m"}, "gpu_*": {"enabled": False}, "gpu_idle": False}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_said_of_rules_is_read_from_every_place(places: Places, place: str) -> None:
    """As tables in TOML, as JSON in the environment, as a dictionary; patterns come before what is said of one rule."""
    places.put(place, "rules", TABLE)
    config, errors = places.resolve()
    assert errors == []
    assert of_rules(config) == [
        ("gpu_*", {"enabled": False}),
        ("gpu_hot", {"threshold": 85, "for": "5m"}),
        ("gpu_idle", {"enabled": False}),
    ]
    assert {f"({said.place})" for said in config.rules} == {places.words(place, "rules")}
    assert {said.option for said in config.rules} == {""}


@pytest.mark.parametrize(
    ("file", "table"), [("hwmetrics.toml", "rules.gpu_hot"), ("pyproject.toml", "tool.otel_hwmetrics.rules.gpu_hot")]
)
def test_rules_are_tables_in_a_file(places: Places, file: str, table: str) -> None:
    """As people write TOML."""
    (places.directory / file).write_text(f"[{table}]\nthreshold = 85\nwhere = {{ a = [1, 2] }}\n")
    config, errors = places.resolve()
    assert errors == []
    assert of_rules(config) == [("gpu_hot", {"threshold": 85, "where": {"a": [1, 2]}})]


@pytest.mark.parametrize("place", PLACES)
def test_what_is_said_of_rules_is_joined_and_a_better_place_comes_later(places: Places, place: str) -> None:
    """Nothing is lost: whoever reads it lets the last one count."""
    weaker, stronger = (place, "argument") if place != "argument" else ("environment", "argument")
    places.put(weaker, "rules", {"gpu_hot": {"threshold": 85}})
    places.arguments["rules"] = {"gpu_hot": {"for": 3}, "gpu_idle": {}}
    config, errors = places.resolve()
    assert errors == []
    expected = [("gpu_hot", {"threshold": 85}), ("gpu_hot", {"for": 3}), ("gpu_idle", {})]
    assert of_rules(config) == (expected if weaker != stronger else expected[1:])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("option", "rule", "key"),
    [
        ("alert_gpu_hot", "gpu_hot", "enabled"),
        ("alert_gpu_hot_threshold", "gpu_hot", "threshold"),
        ("alert_gpu_hot_for", "gpu_hot", "for"),
        ("alert_mine", "mine", "enabled"),
        ("alert_for_for", "for", "for"),
    ],
)
def test_each_rule_has_three_options(places: Places, place: str, option: str, rule: str, key: str) -> None:
    """Its switch, its threshold, its duration; whether there is such a rule is not known here."""
    places.put(place, option, 0.5)
    config, errors = places.resolve()
    assert errors == []
    value = "0.5" if place == "environment" else 0.5
    assert config.rules == (RuleSettings(rule, {key: value}, places.words(place, option)[1:-1], option),)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_said_of_each_of_its_rules(places: Places, family: str) -> None:
    """By the names that training callbacks know."""
    places.put("argument", family, 0.5)
    config, errors = places.resolve()
    assert errors == []
    rules, key = FAMILIES[family]
    assert of_rules(config) == [(rule, {key: 0.5}) for rule in rules]
    assert {said.option for said in config.rules} == {family}


def test_in_one_place_what_is_said_of_fewer_rules_counts_in_whatever_order_it_is_written(places: Places) -> None:
    """The environment has no order: a pattern, a family, a table, a rule's own option."""
    said: dict[str, Any] = {
        "alert_gpu_idle": True,
        "rules": {"gpu_idle": {"enabled": 3}, "gpu_*": {"enabled": 1}},
        "alert_gpu_underutilization": False,
    }
    for names in (list(said), list(reversed(said))):
        config, errors = resolve({name: said[name] for name in names}, {}, Path("/nowhere"))
        assert errors == ()
        assert [each["enabled"] for rule, each in of_rules(config) if rule != "gpu_underused"] == [1, False, 3, True]


@pytest.mark.parametrize("nothing", [None, "", [], (), {}])
def test_rules_that_are_empty_are_unset(places: Places, nothing: Any) -> None:
    """What a weaker place says stays, as it does in any case."""
    places.put("environment", "rules", {"gpu_hot": {"for": 1}})
    places.put("argument", "rules", nothing)
    places.put("argument", "alert_gpu_hot", nothing)
    config, errors = places.resolve()
    assert (of_rules(config), errors) == ([("gpu_hot", {"for": 1})], [])


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        ("argument", 7, ""),
        ("argument", [{"gpu_hot": {}}], ""),
        ("argument", {7: {}}, ""),
        ("argument", (RuleSettings(7, {}),), ""),  # type: ignore[arg-type]
        ("hwmetrics.toml", True, ""),
        ("environment", "[]", ""),
        ("environment", "7", ""),
        ("environment", "{", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("environment", "gpu_hot=85", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("environment", '{"gpu_hot": {"for": 1},}', "not JSON: "),
        ("environment", "[" * 9000, ""),
    ],
)
def test_rules_that_are_no_table_are_told_and_where_the_json_breaks_off(
    places: Places, place: str, value: Any, why: str
) -> None:
    """Value, place, what is allowed; and what other places say stays."""
    if place == "environment":
        places.environ[f"{ENVIRONMENT_PREFIX}RULES"] = value
    else:
        places.put(place, "rules", value)
    weaker = "hwmetrics.toml" if place != "hwmetrics.toml" else "argument"
    places.put(weaker, "rules", {"gpu_hot": {"for": 1}})
    config, (error,) = places.resolve()
    assert error.startswith("option 'rules' is ")
    assert f"{places.words(place, 'rules')}{', ' if why else ';'}{why}" in error
    assert error.endswith(f"; it takes {OPTIONS['rules'].allowed}")
    assert len(error) < 700
    assert of_rules(config) == [("gpu_hot", {"for": 1})]
