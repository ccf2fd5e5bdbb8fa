# SPDX-License-Identifier: Apache-2.0
"""``otel-hwmetrics compare``: two recorded runs side by side, and what got worse, in words."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Final

from otel_hwmetrics.cli.runs import add_directory, folder_of

_EPILOG: Final = """for example:
  otel-hwmetrics compare before after                     runs by their names, or the beginnings of their ids
  otel-hwmetrics compare old.run.db new.run.db --json     for programs
  otel-hwmetrics compare main latest --fail-on-worse 10   exit code 1 where anything got more than 10% worse

A difference is told where it is more than the runs themselves vary, by the spread of their epochs and of parts of their time.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compare",
        help="show two recorded runs side by side, and say what got worse",
        description="Show two recorded runs side by side, and say in words what got worse and what got\nbetter from A to B.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "a file, a folder, a run's name or the beginning of its id, latest"
    parser.add_argument("a", metavar="A", help=what)
    parser.add_argument("b", metavar="B", help="likewise; what got worse is worse in this one")
    add_directory(parser)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--fail-on-worse",
        type=_percent,
        metavar="PERCENT",
        help="exit code 1 where something got worse by more than that, a job fails that did not, or there is an alert that was not",
    )
    parser.set_defaults(call=call)


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage: a number from 0 on")
    return value


def call(given: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0; 1 with ``--fail-on-worse`` where something is that much worse; 2 where a run is not there or cannot be read.
    """
    from otel_hwmetrics.display.compare.figures import measured
    from otel_hwmetrics.display.compare.judging import compared
    from otel_hwmetrics.display.compare.showing import as_data, as_text
    from otel_hwmetrics.display.finite import finite
    from otel_hwmetrics.display.table import plain, terminal_width
    from otel_hwmetrics.recording import RecordingError, open_run

    runs = []
    try:
        folder = folder_of(given.directory)
        for which in (given.a, given.b):
            with open_run(which, folder) as run:
                runs.append(measured(run))
    except RecordingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    comparison = compared(*runs)
    if runs[0].id == runs[1].id:
        print("note: A and B are the same run", file=sys.stderr)
    if given.json:
        data = finite(as_data(comparison, given.fail_on_worse))
        print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        for line in as_text(comparison, terminal_width(sys.stdout)):
            print(plain(line))
    failing = [] if given.fail_on_worse is None else comparison.beyond(given.fail_on_worse)
    for each in failing:
        print(f"error: worse by more than {given.fail_on_worse:g}%: {plain(each.text)}", file=sys.stderr)
    return 1 if failing else 0
