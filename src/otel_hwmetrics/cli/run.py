# SPDX-License-Identifier: Apache-2.0
"""``otel-hwmetrics run``: runs a command, or the jobs of a file, and records what they use."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_hwmetrics.config import Config
    from otel_hwmetrics.jobs.launcher import Launcher
    from otel_hwmetrics.jobs.spec import Plan
    from otel_hwmetrics.recording.nouns import Request

WRONG_USAGE: Final = 2
"""As argparse has it."""
BY_SIGNAL: Final = 128
"""And the signal's number: the exit code that shells have for what a signal has ended."""
AMOUNTS: Final = ("cpus", "memory", "runtime", "gpus", "gpu_memory")

_EPILOG: Final = """for example:
  otel-hwmetrics run -- python train.py --epochs 3
  otel-hwmetrics run --name resnet --memory 8g --cpus 8 --gpus 1 --runtime 2h -- torchrun --nproc-per-node 2 train.py
  otel-hwmetrics run --file jobs.yaml --max-parallel 2

Python is run under opentelemetry-instrument, anything else as it is; input, output and the exit code are the command's own.
Afterwards: otel-hwmetrics report, otel-hwmetrics plot."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run a command and record what it uses: CPU, memory, GPUs, of all its processes",
        description="Run a command, or the jobs of a file, and record what all their processes use.",
        usage="otel-hwmetrics run [options] -- COMMAND [ARGUMENT ...]\n       otel-hwmetrics run [options] --file JOBS.yaml",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("--name", type=_name, help="what the run is called; as its script or program if not given")
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        type=_tag,
        metavar="KEY=VALUE",
        help="a word of yours; several times for more",
    )
    parser.add_argument("--file", metavar="JOBS.yaml", help="run the jobs of a file instead of a command")
    parser.add_argument(
        "--max-parallel",
        type=_count,
        metavar="N",
        help="jobs of a file that run at once; as many as there are CPUs if not given",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing of our own")
    recorded = parser.add_argument_group("what is recorded")
    recorded.add_argument("--interval", type=_interval, metavar="SECONDS", help="between two looks; 1 if not given")
    recorded.add_argument(
        "--granularity", choices=("time_series", "summary"), help="every look, or a row a job; time_series if not given"
    )
    recorded.add_argument(
        "--directory", metavar="DIR", help="where the recording goes; if not given, as the option directory says"
    )
    recorded.add_argument(
        "--no-resource-monitoring",
        action="store_true",
        help="run it as if it were typed by itself; nothing is recorded",
    )
    asked = parser.add_argument_group(
        "what was asked for",
        "What is not given is what SLURM, the container or the cgroup grants. `report --check` compares it with what was used.",
    )
    asked.add_argument("--cpus", type=_amount("cpus"), metavar="N")
    asked.add_argument("--memory", type=_amount("memory"), metavar="SIZE", help="as 8g or 512MiB")
    asked.add_argument("--runtime", type=_amount("runtime"), metavar="TIME", help="as 2h, PT2H or 01:30:00")
    asked.add_argument("--gpus", type=_amount("gpus"), metavar="N")
    asked.add_argument("--gpu-memory", type=_amount("gpu_memory"), metavar="SIZE", help="of each GPU")
    parser.set_defaults(call=call, fail=parser.error)


def call(given: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        The exit code of what was run, and 128 and the signal's number for what a signal ended where this process cannot end by
        it, too; 126 and 127 for what cannot be run; of several jobs 1 where one has failed; 2 for what is wrong with the
        arguments or the file.
    """
    words = given.words[1:] if given.words[:1] == ["--"] else given.words
    if bool(words) == (given.file is not None):
        given.fail(
            "it takes a command after --, or --file, and not both" if words else "there is no command: put it after --"
        )
    if not sys.platform.startswith("linux"):
        print("error: `run` needs Linux, where the kernel shows the processes of others.", file=sys.stderr)
        return WRONG_USAGE
    plan = _plan(given, words)
    return WRONG_USAGE if plan is None else _code(plan, given)


def _plan(given: argparse.Namespace, words: list[str]) -> Plan | None:
    """What is to be run; None where that cannot be told, which is said."""
    from dataclasses import replace

    from otel_hwmetrics.jobs.spec import JobSpec, Plan

    request, tags = _request(given), dict(given.tag)
    if given.file is None:
        from otel_hwmetrics.jobs.command import name_of

        name = given.name or _as_name(name_of(words))
        return Plan((JobSpec(name, tuple(words), request=request, tags=tags),), name=name, tags=tags)
    from otel_hwmetrics.jobs.file import FileError, read

    typed = [f"--{name.replace('_', '-')}" for name in AMOUNTS if getattr(given, name) is not None]
    if typed:
        print(f"error: {', '.join(typed)}: with --file, each job says that by itself.", file=sys.stderr)
        return None
    try:
        plan = read(given.file)
    except FileError as error:
        print(f"error: {error}", file=sys.stderr)
        return None
    stem = os.path.basename(given.file).rpartition(".")[0] or os.path.basename(given.file)
    return replace(
        plan,
        name=given.name or plan.name or _as_name(stem),
        jobs=tuple(replace(job, tags={**plan.tags, **tags, **job.tags}) for job in plan.jobs),
    )


def _request(given: argparse.Namespace) -> Request:
    from otel_hwmetrics.recording.nouns import Request

    said = {name: getattr(given, name) for name in AMOUNTS if getattr(given, name) is not None}
    return Request(**said, by=dict.fromkeys(said, "argument"))


def _code(plan: Plan, given: argparse.Namespace) -> int:
    """Run it, sum it up, and give the exit code."""
    from otel_hwmetrics.folders import folder
    from otel_hwmetrics.jobs.launcher import Launcher, Settings
    from otel_hwmetrics.recording.ids import run_id

    config = _config(plan, given)
    say: Callable[[str], object] = (lambda _: None) if given.quiet else _say
    logs = None
    if given.file is not None:
        logs = folder(os.path.abspath(os.path.expanduser(given.directory)) if given.directory else _directory(config))
        if logs is None:
            print("error: there is no folder for the jobs' output; name one with --directory.", file=sys.stderr)
            return 1
    run = run_id(os.environ) if config is None else config.record_run
    settings = Settings(config, run, given.max_parallel or _cpus(), logs, say)
    launcher = Launcher(plan.jobs, settings, _environ())
    launcher.run()
    if config is not None:
        _sum_up(launcher, plan, quiet=given.quiet)
    return _exit(launcher, several=given.file is not None)


def _config(plan: Plan, given: argparse.Namespace) -> Config | None:
    """Every option; None where nothing is to be watched."""
    if given.no_resource_monitoring or not plan.enabled:
        return None
    from dataclasses import replace

    from otel_hwmetrics.config import resolve
    from otel_hwmetrics.recording.ids import run_id

    config, errors = resolve(
        {
            "sample_interval": given.interval or plan.interval,
            "record_granularity": given.granularity or plan.granularity,
            "directory": given.directory,
        }
    )
    for error in errors if not given.quiet else ():
        _say(f"passed over: {error}")
    if not config.enabled:
        return None
    if os.environ.get("OTEL_PYTHON_HWMETRICS_FAKE_NVML"):  # as in the job
        from otel_hwmetrics.testing import install_from_environment

        install_from_environment()
    return replace(
        config,
        sample_interval=config.sample_interval or 1.0,
        record_run=config.record_run or run_id(os.environ),
        record_name=given.name or config.record_name or plan.name,
    )


def _directory(config: Config | None) -> str:
    return config.directory if config is not None else ""


def _cpus() -> int:
    from otel_hwmetrics.sources.linux.cgroup import effective_cpus

    try:
        return max(1, int(effective_cpus()))
    except (OSError, ValueError):
        return os.cpu_count() or 1


def _sum_up(launcher: Launcher, plan: Plan, *, quiet: bool) -> None:
    """Say in a few lines what it came to; of several tasks that a batch system runs side by side, the first does."""
    from otel_hwmetrics._guard import guard
    from otel_hwmetrics.ranks import RANK, ranks

    first = ranks(os.environ).get(RANK, 0) in (0, None)
    with guard("summing the run up"):
        path = launcher.recording
        if not path:
            if not quiet:
                _say("the run was not recorded")
            return
        if not quiet and first:
            from otel_hwmetrics.display.report import short_summary
            from otel_hwmetrics.recording import open_run

            with open_run(path) as run:
                _tell(short_summary(run))
        if plan.plots:
            _draw(path, quiet=quiet)


def _draw(path: str, *, quiet: bool) -> None:
    from otel_hwmetrics.cli import parser
    from otel_hwmetrics.cli.plot import plot

    beside = ["--output", os.path.dirname(path), "--prefix", os.path.basename(path).partition(".")[0]]
    told = io.StringIO() if quiet else sys.stderr  # standard output is the jobs'
    plot(parser().parse_args(["plot", path, *beside]), told, told)


def _exit(launcher: Launcher, *, several: bool) -> int:
    from otel_hwmetrics.jobs.signals import end_by

    codes = [outcome.code for outcome in launcher.outcomes.values()]
    code = codes[0] if not several and codes else (1 if any(codes) or None in codes else 0)
    if launcher.ended_by:
        code = -launcher.ended_by
    if code is None:
        return 1
    if code < 0:
        end_by(-code)
        return BY_SIGNAL - code
    return code


def _say(text: str) -> None:
    _tell(f"otel-hwmetrics: {text}")


def _tell(text: str) -> None:
    """Print to the errors; who does not take that any more has no say in how the jobs end."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def _environ() -> dict[str, str]:
    """The environment as it was before this interpreter began, which sets LC_CTYPE in the C locale (PEP 538)."""
    environ = dict(os.environ)
    with suppress(OSError), open("/proc/self/environ", "rb") as file:
        if not any(each.startswith(b"LC_CTYPE=") for each in file.read().split(b"\0")):
            environ.pop("LC_CTYPE", None)
    return environ


def _as_name(text: str) -> str:
    """A name as the option `record_name` takes it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()[:128] or "run"


def _amount(name: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        from otel_hwmetrics.jobs.amounts import AMOUNTS as KNOWN

        try:
            return KNOWN[name].parse(text)
        except (ValueError, TypeError, KeyError):
            raise argparse.ArgumentTypeError(f"it takes {KNOWN[name].allowed}, not {text!r}") from None

    return parse


def _option(name: str, text: str) -> Any:
    from otel_hwmetrics.config import OPTIONS

    try:
        return OPTIONS[name].parse(text)
    except (ValueError, TypeError, KeyError):
        raise argparse.ArgumentTypeError(f"it takes {OPTIONS[name].allowed}, not {text!r}") from None


def _name(text: str) -> Any:
    if not text.strip():
        raise argparse.ArgumentTypeError("it takes a text of one line, not an empty one")
    return _option("record_name", text)


def _interval(text: str) -> Any:
    seconds = _option("sample_interval", text)
    if not seconds:
        raise argparse.ArgumentTypeError("it takes seconds, a number >= 0.2, or as 5m")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it takes a whole number above 0, not {text!r}")
    return int(text)


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"it takes KEY=VALUE, not {text!r}")
    return key.strip(), value
