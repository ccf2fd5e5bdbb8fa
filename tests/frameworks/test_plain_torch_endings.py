# SPDX-License-Identifier: Apache-2.0
"""How a plain PyTorch training ends: as it would without us, and with all its spans told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TRAININGS = str(Path(__file__).parent / "ending.py")


class Ended(NamedTuple):
    """What is left of a process."""

    status: int
    out: str
    spans: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ended() -> dict[tuple[str, bool], Ended]:
    """Each of the trainings, without us and with us."""
    done = subprocess.run([sys.executable, TRAININGS], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        told = json.loads(line)
        spans: dict[str, list[dict[str, Any]]] = {}
        for each in map(json.loads, told["spans"].splitlines()):
            spans.setdefault(each["name"], []).append(each)
        found[told["how"], told["instrumented"]] = Ended(told["status"], told["out"], spans)
    return found


HOW = ("end", "error", "later error", "interrupt", "exit", "killed worker", "leave")
FRAME = re.compile(r'  File "[^"]*otel_hwmetrics[^"]*", line \d+, in .*\n(    .*\n)*')


def without(words: str) -> str:
    """A text without what differs from process to process, and without our own frame of the loader."""
    return re.sub(r"\b(0x[0-9a-f]+|\d{3,})\b", "N", FRAME.sub("", words))


@pytest.mark.parametrize("how", HOW)
def test_a_job_ends_as_it_would(ended: dict[tuple[str, bool], Ended], how: str) -> None:
    """With the same exit status, and the same words."""
    with_us, alone = ended[how, True], ended[how, False]
    assert (
        with_us.status
        == alone.status
        == {"error": 1, "later error": 1, "interrupt": -2, "exit": 3, "killed worker": 1}.get(how, 0)
    )
    assert without(with_us.out) == without(alone.out)


@pytest.mark.parametrize("how", ["error", "interrupt", "exit"])
def test_where_the_loader_is_not_what_fails_the_traceback_is_the_very_same(
    ended: dict[tuple[str, bool], Ended], how: str
) -> None:
    """Not a frame more."""
    assert ended[how, True].out == ended[how, False].out


@pytest.mark.parametrize("how", HOW)
def test_all_spans_end(ended: dict[tuple[str, bool], Ended], how: str) -> None:
    """The training and both its epochs, with the steps that there were."""
    spans = ended[how, True].spans
    steps = 6 if how == "end" else 3
    assert [each["steps"] for each in spans["epoch"]] == [6, steps]
    assert [each["steps"] for each in spans["training"]] == [6 + steps]


@pytest.mark.parametrize(
    ("how", "why", "events"),
    [
        ("error", "ValueError: the loss is no number", ["exception"]),
        ("killed worker", "RuntimeError: DataLoader worker", ["exception"]),
        ("interrupt", "KeyboardInterrupt: ", []),
        ("exit", None, []),
        ("end", None, []),
    ],
)
def test_an_exception_that_ends_the_job_is_on_what_was_open(
    ended: dict[tuple[str, bool], Ended], how: str, why: str | None, events: list[str]
) -> None:
    """On the epoch and the training, and not on the epoch before."""
    spans = ended[how, True].spans
    assert spans["epoch"][0]["status"] == "UNSET"
    for each in (spans["epoch"][1], spans["training"][0]):
        assert each["events"] == events
        assert each["status"] == ("UNSET" if why is None else "ERROR")
        assert (each["why"] or "").startswith(why or "")


def test_an_exception_is_not_on_an_epoch_that_was_left_before(ended: dict[tuple[str, bool], Ended]) -> None:
    """Though the same function is left, and what called it has been executing the same line."""
    spans = ended["later error", True].spans
    assert [each["status"] for each in (*spans["epoch"], *spans["training"])] == ["UNSET", "UNSET", "ERROR"]
