# SPDX-License-Identifier: Apache-2.0
"""Every run, each in a process of its own, as many at a time as there are CPUs; and the file that keeps what was found.

Without coverage, which would make hours of a soak out of its minutes; and the runs of faults fork, which is for processes
of one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from alerts.simulation.faults import FAULTS
from alerts.simulation.fingerprint import fingerprint
from alerts.simulation.injections import INJECTED_AT, outcomes
from alerts.simulation.runs import HEALTHY, SEED, Found, Run
from alerts.simulation.world import Finished
from otel_hwmetrics.alerts.rule import State

TESTS: Final = Path(__file__).parents[2]
FILE: Final = TESTS.parent / "docs" / "reference" / "detection.json"
"""Where the page of detection has its figures from."""

FEW: Final = 6
"""One of so many faults is injected anew where the whole would take too long."""

_LONGEST: Final = 3600.0  # seconds of one process


def healthy(name: str, *, whole: bool) -> dict[str, Any]:
    """One healthy run.

    Args:
        name: Which of `HEALTHY`.
        whole: All of it, or only its beginning.

    Returns:
        Its ``title``; of the whole ``snapshots``, simulated ``hours``, and what ``fired`` how often, by severity and rule;
        of its ``beginning`` likewise. And what is not for the file: ``alarms``, those above info, in words; rules that were
        ``never_judged``; metrics that were asked for and ``never_told``.
    """
    chosen = HEALTHY[name]
    run = Run(chosen.setup, notes=True)
    told: dict[str, Any] = {"title": chosen.title}

    def after() -> None:
        if run.snapshots == chosen.beginning:
            told["beginning"] = _counted(run)
            run.notes = False
        if run.snapshots >= (chosen.snapshots if whole else chosen.beginning):
            raise Finished

    run.after = after
    run.go()
    if whole:
        told |= _counted(run)
    told["alarms"] = [in_words(each) for each in run.found if each.transition.rule.severity.rank]
    told["never_judged"] = sorted(run.rules - run.judged)
    told["never_told"] = sorted(metric for metric, was_told in run.asked.items() if not was_told)
    return told


def _counted(run: Run) -> dict[str, Any]:
    fired: dict[str, Counter[str]] = {}
    for _, step in run.found:
        if step.state is State.FIRING and not step.blind:
            fired.setdefault(step.rule.severity.value, Counter())[step.rule.name] += 1
    counts = {severity: dict(sorted(rules.items())) for severity, rules in fired.items()}
    return {"snapshots": run.snapshots, "hours": round(run.world.now / 3600, 1), "fired": counts}


def in_words(found: Found) -> str:
    """An alert, for whoever has to judge it."""
    at, step = found
    hours, seconds = divmod(round(at), 3600)
    when = f"{hours}:{seconds // 60:02}:{seconds % 60:02}"
    return f"{when} {step.rule.name} {step.state.value} on {step.subject.name or 'the host'}: {step.message}"


def measure(*, whole: bool) -> dict[str, Any]:
    """All there is to be found out.

    Args:
        whole: Healthy runs in their whole length, and all faults; else their beginnings, and one of `FEW` faults.

    Returns:
        ``seed``; ``injected_at``; ``healthy``, by name; ``faults``, those of `FAULTS`, in its order, with the seconds after
        which what one fills up is ``full``.

    Raises:
        subprocess.CalledProcessError: A run came to grief; it has said why.
    """
    cpus = os.cpu_count() or 1
    every = 1 if whole else FEW
    with ThreadPoolExecutor(cpus) as pool:
        # The longest come first.
        parts = [pool.submit(_in_a_process, "faults", str(first * every), str(cpus * every)) for first in range(cpus)]
        runs = {name: pool.submit(_in_a_process, "healthy", name, *(["whole"] if whole else [])) for name in HEALTHY}
    faults = {fault["title"]: fault for part in parts for fault in part.result()}
    return {
        "seed": SEED,
        "injected_at": INJECTED_AT,
        "healthy": {name: run.result() for name, run in runs.items()},
        "faults": [faults[fault.title] | ({"full": fault.full} if fault.full else {}) for fault in FAULTS[::every]],
    }


def _in_a_process(*arguments: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "alerts.simulation", *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=_LONGEST, check=True)
    return json.loads(done.stdout)


def kept(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What of all that was found out is for the file."""
    words = {"alarms", "never_judged", "never_told"}
    runs = {
        name: {key: value for key, value in run.items() if key not in words}
        for name, run in measured["healthy"].items()
    }
    return {"of": fingerprint(), **measured, "healthy": runs}


def main(arguments: Sequence[str]) -> None:
    """What the processes do, and ``write``, which writes the file."""
    match arguments:
        case ["healthy", name, *rest]:
            json.dump(healthy(name, whole=bool(rest)), sys.stdout)
        case ["faults", first, step]:
            json.dump(outcomes(FAULTS[int(first) :: int(step)]), sys.stdout)
        case ["write"]:
            text = json.dumps(kept(measure(whole=True)), indent=1, ensure_ascii=False)
            FILE.write_text(text + "\n", encoding="utf-8")
        case _:
            raise SystemExit("one of: healthy NAME [whole], faults FIRST STEP, write")
