# SPDX-License-Identifier: Apache-2.0
"""``otel-hwmetrics doctor``: what a job with these options would see of this machine, what it would cost, what is wrong.

It looks as the job would: the same options, sources, rules and threads, for some looks. It takes no part in the job's
own doings: nothing is exported, nobody is notified, no file is written, and no other process hears of it. Options that
may hold a password are not shown, and secrets in what is shown are not, either.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any, Final, TextIO

from otel_hwmetrics import __version__, redaction
from otel_hwmetrics.alerts.engine import Engine
from otel_hwmetrics.alerts.rulebook import rulebook
from otel_hwmetrics.catalog import own
from otel_hwmetrics.config import OPTIONS, Config, resolve
from otel_hwmetrics.folders import folder
from otel_hwmetrics.model import Reading, Snapshot
from otel_hwmetrics.pace import allowed
from otel_hwmetrics.pipeline import SOURCES
from otel_hwmetrics.runners import Runner, ThreadRunner
from otel_hwmetrics.sampler import Sampler
from otel_hwmetrics.sources.base import SourceUnavailable
from otel_hwmetrics.sources.gpu.nvidia import library
from otel_hwmetrics.starting import more_errors
from otel_hwmetrics.windows import Accumulator

OPENING: Final = 10.0
"""Seconds that sources may take to open, all together; without persistence mode a driver takes some."""
LOOKS: Final = 2
"""Looks that are timed, after one that loads what is loaded at first use."""
APART: Final = 0.3
"""Seconds between them: closer together there are no rates to be judged."""
LATE: Final = 5.0
"""Seconds after which a look that is not over will not be soon."""
PACKAGES: Final = (
    *("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation", "opentelemetry-semantic-conventions"),
    *("opentelemetry-exporter-otlp", "psutil", "nvidia-ml-py", "pynvml", "amdsmi", "torch", "jax", "apprise"),
)
"""Whose versions are told, where they are there."""
DRIVER: Final = "/proc/driver/nvidia/version"
"""Where the NVIDIA kernel module tells its version; to read it does not wait for the driver."""


@dataclass(frozen=True)
class Finding:
    """What was found of one source.

    Attributes:
        name: Of the source.
        state: ``up``; ``waits`` for the job to load what it reads; ``failing``; ``absent``.
        cause: Why it is not up.
        mend: What would help.
        readings: How many a look gives.
        lost: How many it could not have, by type of error.
        seconds: That a look takes.
        share: Of a CPU, at the interval of the options.
    """

    name: str
    state: str
    cause: str = ""
    mend: str = ""
    readings: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    share: float = 0.0


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        what: In words.
        mend: What would help.
        fails: Whether the command fails for it: what the user asked for by name is missing, or what is there is broken.
    """

    what: str
    mend: str = ""
    fails: bool = True


@dataclass
class Diagnosis:
    """All that was found; lengths of time in seconds, costs as shares of one CPU."""

    versions: dict[str, str]
    options: dict[str, Any]
    sources: list[Finding] = field(default_factory=list)
    interval: float = 0.0
    cpu_seconds_a_look: float = 0.0
    cpu_share: float = 0.0
    cpu_budget: float = 0.0
    cpu_allowed: float = 0.0
    threads: dict[str, bool] = field(default_factory=dict)
    sample_age: float = 0.0
    files: str = ""
    problems: list[Problem] = field(default_factory=list)


class _Judge:
    """Judges as the job would, and tells nobody."""

    def __init__(self, config: Config) -> None:
        self._engine = Engine(rulebook(config).rules)

    def judge(self, snapshot: Snapshot) -> None:
        self._engine.evaluate(snapshot)

    def readings(self, at: float) -> Iterable[Reading]:
        return self._engine.readings(at)

    def glance(self, snapshot: Callable[[], Snapshot]) -> None:
        del snapshot  # no span is open

    def tell(self) -> None:
        pass


def doctor(output: TextIO, *, as_json: bool) -> int:
    """Look at this machine, and print what was found; gives the exit code: 1 for what was named and is missing, or is broken."""
    if os.environ.get("OTEL_PYTHON_HWMETRICS_FAKE_NVML"):  # as in the job
        from otel_hwmetrics.testing import install_from_environment

        install_from_environment()
    config, errors = resolve()
    diagnosis = Diagnosis(_versions(), _options(config), cpu_budget=config.cpu_budget, interval=config.sample_interval)
    diagnosis.problems += [Problem(f"{error}") for error in (*errors, *more_errors(config))]
    _look_at_files(config, diagnosis)
    _look_at_binding(config, diagnosis)
    _look_at_switches(config, diagnosis)
    _try(config, diagnosis)
    if as_json:
        print(json.dumps(redaction.data(asdict(diagnosis)), indent=2), file=output)
    else:
        paint = _Paint(on=output.isatty() and not os.environ.get("NO_COLOR"))
        print(redaction.text("\n".join(_as_text(diagnosis, paint))), file=output)
    return 1 if any(problem.fails for problem in diagnosis.problems) else 0


def _versions() -> dict[str, str]:
    found = {"otel-hwmetrics": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    try:
        with open(DRIVER, encoding="utf-8", errors="replace") as told:
            version = re.search(r"\d+\.\d+(\.\d+)*", told.read())
        if version is not None:
            found["NVIDIA driver"] = version.group()
    except OSError:
        pass
    return found


def _options(config: Config) -> dict[str, Any]:
    """The options that are not as they come, without those that may hold a password."""
    changed = {name: getattr(config, name) for name in OPTIONS if getattr(config, name) != getattr(Config(), name)}
    return {
        name: "(not shown)" if OPTIONS[name].secret else f"{len(value)} settings" if name == "rules" else value
        for name, value in changed.items()
    }


def _look_at_files(config: Config, diagnosis: Diagnosis) -> None:
    found = folder(config.directory)
    diagnosis.files = found.path if found is not None else ""
    named = os.path.abspath(os.path.expanduser(config.directory)) if config.directory else ""
    if named and named != diagnosis.files:
        diagnosis.problems.append(
            Problem(f"the folder {named} cannot be written to", "set the option directory to another")
        )
    elif found is None:
        diagnosis.problems.append(
            Problem("there is no folder that files can be written to", "set the option directory", fails=False)
        )


def _look_at_binding(config: Config, diagnosis: Diagnosis) -> None:
    """Whether the module pynvml is NVIDIA's; where nvidia is named, the source itself says so."""
    try:
        library.load()
    except SourceUnavailable as error:
        if "nvidia" not in config.sources:
            diagnosis.problems.append(Problem(error.reason, error.remedy, fails=False))


def _look_at_switches(config: Config, diagnosis: Diagnosis) -> None:
    """What would have a job measure or export nothing, whatever there is to see."""
    disabled, exporter = (
        os.environ.get(name, "").strip().lower() for name in ("OTEL_SDK_DISABLED", "OTEL_METRICS_EXPORTER")
    )
    off = {
        "a job measures nothing: the option enabled is false": not config.enabled,
        "a job exports nothing: the option emit is never": config.emit == "never",
        "a job exports nothing: OTEL_SDK_DISABLED is true": disabled == "true",
        "under auto-instrumentation a job exports no metrics: OTEL_METRICS_EXPORTER is none": exporter == "none",
    }
    for what, holds in off.items():
        if holds:
            diagnosis.problems.append(Problem(what, "unset it where that is not meant", fails=False))


def _try(config: Config, diagnosis: Diagnosis) -> None:
    """Run the job's sampler for some looks."""
    names = tuple(SOURCES) if config.sources == ("auto",) else config.sources
    sampler = Sampler(
        [SOURCES[name](config, time) for name in names],
        _Judge(config),
        Accumulator(),
        interval=0,
        source_timeout=config.source_timeout,
    )
    sampler.start()
    try:
        deadline = time.monotonic() + OPENING
        opened = {
            runner.source.name: not isinstance(runner, ThreadRunner)
            or runner.wait_opened(max(0.0, deadline - time.monotonic()))
            for runner in sampler.runners
        }
        answered = sampler.fresh(LATE) is not None
        spent, before = _spent(sampler), {runner: (runner.read_time, runner.cpu_time) for runner in sampler.runners}
        for _ in range(LOOKS):
            time.sleep(APART)
            answered = sampler.fresh(LATE) is not None and answered
        every = config.sample_interval or 1.0
        diagnosis.cpu_seconds_a_look = (_spent(sampler) - spent) / LOOKS
        diagnosis.cpu_share = diagnosis.cpu_seconds_a_look / every
        diagnosis.cpu_allowed = allowed(config.cpu_budget, sum(runner.gpus for runner in sampler.runners))
        for runner in sampler.runners:
            read_time, cpu_time = (now - then for now, then in zip(_times(runner), before[runner], strict=True))
            costs = read_time / LOOKS, cpu_time / LOOKS / every
            diagnosis.sources.append(_finding(runner, *costs, opened=opened[runner.source.name]))
        _take_health(sampler, diagnosis)
    finally:
        sampler.stop(0.2)
    _conclude(config, diagnosis, answered=answered)


def _times(runner: Runner) -> tuple[float, float]:
    return runner.read_time, runner.cpu_time


def _spent(sampler: Sampler) -> float:
    return sampler.pace.cpu_time(time.monotonic())


def _finding(runner: Runner, seconds: float, share: float, *, opened: bool) -> Finding:
    name = runner.source.name
    if runner.unavailable is not None:
        return Finding(name, "absent", runner.unavailable.reason, runner.unavailable.remedy)
    if runner.source.dormant:
        return Finding(name, "waits", "read once the job itself uses it")
    if not opened:
        return Finding(
            name, "failing", f"it does not open within {OPENING:g} s", "does the driver answer other programs?"
        )
    lost = dict(runner.lost)
    if runner.up:
        return Finding(name, "up", readings=runner.expected, lost=lost, seconds=seconds, share=share)
    cause = ", ".join(lost) or "it gives no readings"
    mend = "does it hang? a longer source_timeout waits for what is only slow" if "timeout" in lost else ""
    return Finding(name, "failing", cause, mend, lost=lost, seconds=seconds, share=share)


def _take_health(sampler: Sampler, diagnosis: Diagnosis) -> None:
    for reading in sampler.health():
        if reading.metric is own.THREAD_UP:
            diagnosis.threads[str(reading.attributes[own.THREAD_NAME])] = bool(reading.value)
        elif reading.metric is own.SAMPLE_AGE:
            diagnosis.sample_age = reading.value


def _conclude(config: Config, diagnosis: Diagnosis, *, answered: bool) -> None:
    """What of all this is a problem."""
    named = config.sources != ("auto",)
    for source in diagnosis.sources:
        if source.state == "failing" or (named and source.state == "absent"):
            diagnosis.problems.append(
                Problem(f"{source.name}: {source.cause}", source.mend, fails=named or source.state == "failing")
            )
    if not answered or not all(diagnosis.threads.values()):
        diagnosis.problems.append(
            Problem("the sampler does not answer", "which source is late? name others in sources")
        )
    if 0 < diagnosis.cpu_allowed < diagnosis.cpu_share and config.sample_interval:
        diagnosis.problems.append(
            Problem(
                f"looks take {diagnosis.cpu_share:.2%} of a CPU, more than cpu_budget allows: they will become fewer",
                "a longer sample_interval, fewer sources or a greater cpu_budget",
                fails=False,
            )
        )
    if "opentelemetry-sdk" not in diagnosis.versions:
        diagnosis.problems.append(
            Problem(
                "nothing is exported without OpenTelemetry's SDK", "pip install 'otel-hwmetrics[otlp]'", fails=False
            )
        )


@dataclass(frozen=True)
class _Paint:
    """Colours, where there is a terminal that shows them."""

    on: bool

    def __call__(self, colour: int, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.on else text


_BOLD, _RED, _GREEN, _YELLOW, _GREY = 1, 31, 32, 33, 90
_COLOURS: Final = {"up": _GREEN, "waits": _GREY, "absent": _GREY, "failing": _RED}


def _as_text(diagnosis: Diagnosis, paint: _Paint) -> Iterator[str]:
    yield paint(_BOLD, "Versions")
    for name, version in diagnosis.versions.items():
        yield f"  {name} {version}"
    yield ""
    yield paint(_BOLD, "Options")
    for name, value in diagnosis.options.items():
        yield f"  {name} = {', '.join(map(str, value)) if isinstance(value, tuple) else value}"
    yield from () if diagnosis.options else ("  as they come",)
    yield ""
    yield paint(_BOLD, "Sources")
    for source in diagnosis.sources:
        yield from _as_lines(source, paint)
    yield ""
    yield paint(_BOLD, "Cost")
    often = {0.0: "if an export has it look once a second", 1.0: "at one look a second"}
    every = often.get(diagnosis.interval, f"at a look every {diagnosis.interval:g} s")
    budget = (
        f"cpu_budget allows {100 * diagnosis.cpu_allowed:.3g}%" if diagnosis.cpu_budget else "there is no cpu_budget"
    )
    budget = budget if diagnosis.interval else "cpu_budget is of regular looks"
    yield f"  {1000 * diagnosis.cpu_seconds_a_look:.1f} ms of CPU a look: {diagnosis.cpu_share:.2%} of a CPU {every}; {budget}"
    yield ""
    yield paint(_BOLD, "This check's threads")
    for name, alive in diagnosis.threads.items():
        yield f"  {name} {'is alive' if alive else paint(_RED, 'is dead')}"
    yield f"  its newest sample is {diagnosis.sample_age:.1f} s old"
    yield f"  of a job that runs, {own.THREAD_UP.name} and {own.SAMPLE_AGE.name} tell"
    yield ""
    yield paint(_BOLD, "Files")
    yield f"  files go to {diagnosis.files}" if diagnosis.files else "  no files are written"
    yield ""
    yield paint(_BOLD, "Problems" if diagnosis.problems else "No problems")
    for problem in diagnosis.problems:
        yield f"  {paint(_RED if problem.fails else _YELLOW, 'error' if problem.fails else 'note')}  {problem.what}"
        yield from (f"         {problem.mend}",) if problem.mend else ()


def _as_lines(source: Finding, paint: _Paint) -> Iterator[str]:
    label = f"  {paint(_COLOURS[source.state], f'{source.state:<8}')} {source.name:<11}"
    if source.state == "up":
        lost = f", {sum(source.lost.values())} lost ({', '.join(source.lost)})" if source.lost else ""
        yield f"{label} {source.readings} readings{lost}, {1000 * source.seconds:.2f} ms a look, {source.share:.2%} of a CPU"
    else:
        yield f"{label} {source.cause}" + (f"; {source.mend}" if source.mend else "")
