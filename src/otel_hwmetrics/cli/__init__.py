# SPDX-License-Identifier: Apache-2.0
"""The command ``otel-hwmetrics``. What a command needs is loaded when it is called."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from otel_hwmetrics import __version__
from otel_hwmetrics.cli import compare, export, plot, report, run

INTERRUPTED = 130
"""The exit code of what Ctrl-C has ended, as shells have it: 128 and the signal's number."""
MODULES = (run, report, export, plot, compare)
"""Commands with a module of their own, which adds its parser and says what to call."""


def parser() -> argparse.ArgumentParser:
    """All commands and what they take."""
    top = argparse.ArgumentParser(prog="otel-hwmetrics", description="OpenTelemetry hardware metrics for training.")
    top.add_argument("--version", action="version", version=f"otel-hwmetrics {__version__}")
    commands = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    tables = commands.add_parser(
        "tables",
        help="print what the package knows as tables",
        description="Print a table: rules are those that the options of this directory and environment make.",
        epilog="for example: otel-hwmetrics tables rules 'gpu_*'",
    )
    tables.add_argument("table", choices=["rules"], help="which")
    tables.add_argument("names", nargs="*", metavar="NAME", help="of these rows alone, by name or pattern")
    tables.add_argument("--json", action="store_true", help="for programs")
    doctor = commands.add_parser(
        "doctor",
        help="look at this machine as a job would, and say what is wrong",
        description="Look at this machine as a job with the options of this directory and environment would: sources, their "
        "cost, versions, folders, and what is wrong with them. Nothing is exported or written.",
    )
    doctor.add_argument("--json", action="store_true", help="for programs")
    for each in MODULES:
        each.add_to(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Those of the command line if not given.

    Returns:
        The exit code: 0; 1 where options cannot be taken, something that they name is missing or broken, or the output
        cannot be written; 130 after Ctrl-C; 2 for what is asked for and is not there, as argparse itself.
    """
    given = parser().parse_args(arguments)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every terminal has a degree sign
            stream.reconfigure(errors="replace")
    try:
        code = _run(given)
        if sys.stdout is not None:  # whoever started us has closed it
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        code = 0
    except OSError as error:
        print(f"error: cannot write: {error}", file=sys.stderr)
        code = 1
    else:
        return code
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter tries again at its end
    return code


def _run(given: argparse.Namespace) -> int:
    if "call" in given:
        return int(given.call(given))
    if given.command == "doctor":
        from otel_hwmetrics.cli.doctor import doctor

        return doctor(sys.stdout, as_json=given.json)
    from otel_hwmetrics.cli import tables

    return tables.rules(sys.stdout, sys.stderr, given.names, as_json=given.json)
