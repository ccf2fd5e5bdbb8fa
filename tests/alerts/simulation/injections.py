# SPDX-License-Identifier: Apache-2.0
"""One healthy run that forks once for each fault, so that each happens at the same second of the same run."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Sequence
from typing import Any, Final

from alerts.simulation.faults import Fault
from alerts.simulation.job import Setup
from alerts.simulation.runs import Found, Run
from alerts.simulation.world import Finished
from otel_hwmetrics.alerts.rule import State

INJECTED_AT: Final = 4200.0
"""Seconds into the run: two checkpoints and some slow batches are behind it."""
PATIENCE: Final = 1200.0
"""Seconds after a fault's end within which its alerts are resolved, or not at all."""
SETUP: Final = Setup(epoch=14_400.0, eventful=False)
"""One long epoch, so that none ends just when a fault begins, and nothing else of note."""

Outcome = dict[str, Any]
"""What became of one fault: see `_outcome`."""


def outcomes(faults: Sequence[Fault]) -> list[Outcome]:
    """Inject each fault, one process after the other; to be called where there is one thread alone.

    Raises:
        RuntimeError: The run of a fault came to grief; it has said why.
    """
    crew = _Crew(faults)
    try:
        crew.run.go()
        if crew.fault is not None:
            crew.hand_over(_outcome(crew.run.found, crew.fault, crew.began))
    except BaseException:
        if crew.fault is None:
            raise
        traceback.print_exc()
        os._exit(1)
    return crew.told


class _Crew:
    """The run, which becomes that of one fault in each child."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.run = Run(SETUP)
        self.run.after = self._when_it_is_time
        self.fault: Fault | None = None
        self.began = 0.0
        self.told: list[Outcome] = []
        self._faults = faults
        self._pipe = -1
        self._changes: list[tuple[float, Any]] = []

    def hand_over(self, outcome: Outcome) -> None:
        """End this child, and let its parent know."""
        with os.fdopen(self._pipe, "w", encoding="utf-8") as pipe:
            json.dump(outcome, pipe)
        os._exit(0)  # without what is to be done once, at its parent's end

    def _when_it_is_time(self) -> None:
        if self.run.world.now < INJECTED_AT:
            return
        for fault in self._faults:
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                os.close(reading)
                self._begin(fault, writing)
                return
            os.close(writing)
            self.told.append(_take(child, reading))
        raise Finished

    def _begin(self, fault: Fault, pipe: int) -> None:
        """From here on this is the child of one fault."""
        self.fault, self._pipe, self.began = fault, pipe, self.run.world.now
        self.run.found.clear()
        self.run.after = self._follow
        self._changes = [(self.began + seconds, change) for seconds, change in fault.later]
        if fault.ends is not None:
            self._changes.append((self.began + fault.lasts, fault.ends))
        fault.begins(self.run)

    def _follow(self) -> None:
        now, fault = self.run.world.now, self.fault
        for due, change in [each for each in self._changes if now >= each[0]]:
            self._changes.remove((due, change))
            change(self.run)
        if fault is None or now < self.began + fault.lasts:
            return
        told = _outcome(self.run.found, fault, self.began)
        over = fault.ends is None or all(rule["resolved"] is not None for rule in told["rules"].values())
        if over or now >= self.began + fault.lasts + PATIENCE:
            raise Finished


def _take(child: int, reading: int) -> Outcome:
    """What a child found."""
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("a run of a fault came to grief")
    outcome: Outcome = json.loads(text)
    return outcome


def _outcome(found: Sequence[Found], fault: Fault, began: float) -> Outcome:
    """What the alerts made of a fault.

    Returns:
        Its ``title``; ``rules``: by the name of each that is to find it, after how many seconds it fired, and how many
        seconds after the fault's end it was ``resolved``; ``also``: by name, what else fired, after how many seconds, and
        on how many devices.
    """
    rules: dict[str, dict[str, float | None]] = {name: {"delay": None, "resolved": None} for name in fault.rules}
    also: dict[str, tuple[float, set[str]]] = {}
    for at, step in found:
        name, on = step.rule.name, step.subject.name
        if step.blind:
            continue
        if name in rules and on == fault.on:
            if step.state is State.FIRING and rules[name]["delay"] is None:
                rules[name]["delay"] = round(at - began, 1)
            elif step.state is State.RESOLVED:
                rules[name]["resolved"] = round(max(0.0, at - began - fault.lasts), 1)
            if step.state is State.FIRING:
                rules[name]["resolved"] = None
        elif step.state is State.FIRING:
            also.setdefault(name, (round(at - began, 1), set()))[1].add(on)
    told = {name: {"delay": delay, "devices": len(devices)} for name, (delay, devices) in also.items()}
    return {"title": fault.title, "rules": rules, "also": told}
