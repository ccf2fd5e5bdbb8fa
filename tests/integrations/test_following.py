# SPDX-License-Identifier: Apache-2.0
"""Frameworks are met when the job has loaded them, and never because of us."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_hwmetrics import _guard
from otel_hwmetrics.config import INTEGRATIONS, Config
from otel_hwmetrics.integrations import following


class Followed:
    """What integrations were told, in place of what they do."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.fails = False

    def function(self, name: str, function: str) -> Any:
        """In place of an integration's."""

        def call(*args: Any) -> None:
            self.calls.append((name, function, args[0].__name__ if args else ""))
            if self.fails:
                raise RuntimeError("no such version")

        return call


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Followed]:
    """Frameworks of three modules that can be loaded, and one that is loaded."""
    for name in ("early_one", "late_one", "late_two"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Followed()
    monkeypatch.setattr(following, "FRAMEWORKS", {"torch": ("early_one",), "keras": ("late_one", "late_two")})
    monkeypatch.setattr(following, "INTEGRATIONS", ("torch", "keras"))
    monkeypatch.setattr(following, "_function", made.function)
    monkeypatch.setattr(following, "_asked", set())
    importlib.import_module("early_one")
    yield made
    made.fails = False
    following.leave()
    for name in ("early_one", "late_one", "late_two"):
        sys.modules.pop(name, None)


def test_what_is_loaded_is_met_at_once_and_the_rest_when_it_is_loaded(followed: Followed) -> None:
    """Each module once; nothing is loaded for it."""
    following.follow(Config())
    assert followed.calls == [("torch", "meet", "early_one")]
    assert "late_one" not in sys.modules
    importlib.import_module("late_one")
    importlib.import_module("late_two")
    importlib.reload(importlib.import_module("late_two"))
    assert followed.calls[1:] == [("keras", "meet", "late_one"), ("keras", "meet", "late_two")]


@pytest.mark.parametrize(
    ("named", "met"), [(("none",), []), (("keras",), ["late_one"]), (("torch", "keras"), ["early_one", "late_one"])]
)
def test_only_those_are_met_that_were_named(followed: Followed, named: tuple[str, ...], met: list[str]) -> None:
    """The option ``integrations``."""
    following.follow(Config(integrations=named))
    importlib.import_module("late_one")
    assert [module for _, _, module in followed.calls] == met


def test_after_the_end_nothing_is_met_and_after_a_new_beginning_all_again(followed: Followed) -> None:
    """Each that was met is left, once; wrapt forgets nobody, and is not asked twice."""
    following.follow(Config())
    following.leave()
    following.leave()
    importlib.import_module("late_one")
    assert followed.calls == [("torch", "meet", "early_one"), ("torch", "leave", "")]
    following.follow(Config())
    assert followed.calls[2:] == [("keras", "meet", "late_one"), ("torch", "meet", "early_one")] or followed.calls[
        2:
    ] == [("torch", "meet", "early_one"), ("keras", "meet", "late_one")]


def test_a_framework_that_cannot_be_met_is_the_job_s_all_the_same(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's import goes well, and the others are met."""
    monkeypatch.setattr(_guard, "LOUD", False)
    followed.fails = True
    following.follow(Config())
    assert importlib.import_module("late_one").__name__ == "late_one"
    assert [module for _, _, module in followed.calls] == ["early_one", "late_one"]
    _guard.faults.clear()


def test_each_option_has_its_module_with_both_doors() -> None:
    """The names that the option takes are those that are followed. Loading one here loads no framework."""
    assert tuple(following.FRAMEWORKS) == INTEGRATIONS
    for name in INTEGRATIONS:
        module = importlib.import_module(f"otel_hwmetrics.integrations.{name}")
        assert callable(module.meet)
        assert callable(module.leave)
        module.leave()
    assert not {"torch", "lightning", "pytorch_lightning", "transformers", "keras"} & set(sys.modules)
