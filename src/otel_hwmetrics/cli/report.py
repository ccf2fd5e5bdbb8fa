# SPDX-License-Identifier: Apache-2.0
"""``otel-hwmetrics report``: what recorded runs did, what was used against what was asked for, what to ask for next time."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from otel_hwmetrics.cli.runs import add_directory, folder_of, unreadable

if TYPE_CHECKING:
    from otel_hwmetrics.display.report.material import Material
    from otel_hwmetrics.recording import Run, RunFiles

FORMATS: Final = ("yaml", "sbatch", "kubernetes")
"""How what to ask for can be printed; `otel_hwmetrics.display.report.formats` has how."""

_EPILOG: Final = """for example:
  otel-hwmetrics report                          the latest run
  otel-hwmetrics report runs/ --list             which runs are in a folder
  otel-hwmetrics report train --check            what was used against what was asked for; exit code 1 where it was more
  otel-hwmetrics report A B C --recommend sbatch what to ask for next time, by the most that three runs used
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        help="say what recorded runs did, and check it against what was asked for",
        description="Say what recorded runs did: results of each job, training spans, alerts, energy.\n"
        "With --check: what was used against what was asked for.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="a file, a folder, a run's name or the beginning of its id; the latest if not given",
    )
    add_directory(parser)
    parser.add_argument("--list", action="store_true", help="list the runs that there are")
    parser.add_argument("--all-runs", action="store_true", help="all runs of the folder, not only the latest")
    parser.add_argument("--spans", action="store_true", help="all training spans, not only the first of the outermost")
    parser.add_argument(
        "--json", action="store_true", help="for programs, by the schema in docs/reference/report.schema.json"
    )
    parser.add_argument("--price-kwh", type=_price, metavar="PRICE", help="of a kilowatt-hour, in any currency")
    parser.add_argument("--price-gpu-hour", type=_price, metavar="PRICE", help="of a GPU for an hour")
    check = parser.add_argument_group("what was used against what was asked for")
    check.add_argument("--check", action="store_true", help="compare them; the exit code is 1 where more was used")
    check.add_argument("--all", action="store_true", help="with --check: show all comparisons, not only violations")
    check.add_argument(
        "--tolerance",
        type=_percent,
        metavar="PERCENT",
        help="with --check: what may be above before it is a violation; 0 by default, of CPU 2 at least, which measuring may "
        "be off by",
    )
    check.add_argument(
        "--recommend",
        nargs="?",
        choices=FORMATS,
        const=FORMATS[0],
        metavar="FORMAT",
        help=f"print what to ask for next time: {', '.join(FORMATS)}; {FORMATS[0]} if not given",
    )
    parser.set_defaults(call=call)


def call(given: argparse.Namespace) -> int:
    """Run the command; gives the exit code: 0; 1 for violations; 2 where there is no such run, or it cannot be read."""
    return report(given, sys.stdout, sys.stderr)


def report(given: argparse.Namespace, output: TextIO, errors: TextIO) -> int:
    """Likewise.

    Args:
        given: What was typed.
        output: Gets the report.
        errors: Gets what is wrong.
    """
    from otel_hwmetrics.recording import RecordingError

    if wrong := _wrong(given):
        print(f"error: {wrong}", file=errors)
        return 2
    try:
        folder = folder_of(given.directory)
        listed = _listed(given, folder)
        if listed is not None:
            return _list(listed, output, errors, as_json=given.json)
        materials = _materials(given, folder)
        _note(_passed_over(given), errors)
    except RecordingError as error:
        print(f"error: {error}", file=errors)
        where = [each for each in given.runs if os.path.isdir(each)] or [folder for _ in range(1) if not given.runs]
        _note((text for each in where if each for text in unreadable(each)), errors)
        return 2
    for each in materials:
        beside = os.path.dirname(each.paths[0])
        _note(unreadable(beside, each.paths, each.id), errors)
    if given.check or given.recommend:
        return _check(given, materials, output, errors)
    _report(given, materials, output)
    return 0


def _wrong(given: argparse.Namespace) -> str:
    """What is wrong with what was typed; empty for nothing."""
    for option in ("all", "tolerance"):
        if getattr(given, option) not in (None, False) and not given.check:
            return f"--{option} is a part of the check: say --check, too"
    shown = "" if given.check else "--list" if given.list else "--recommend" if given.recommend else ""
    for option in ("price_kwh", "price_gpu_hour"):
        if shown and getattr(given, option) is not None:
            return f"--{option.replace('_', '-')} is a part of the report and of --check: leave {shown} out"
    if given.spans and (given.check or shown):
        return f"--spans is a part of the report: leave {shown or '--check'} out"
    if given.list and (given.check or given.recommend):
        return "--list shows which runs there are: leave --check and --recommend out, or name runs"
    return ""


def _listed(given: argparse.Namespace, folder: str | None) -> list[tuple[str | None, list[RunFiles]]] | None:
    """The runs to be listed, by folder; None for none, since reports are wanted."""
    from otel_hwmetrics.recording import RecordingError, find_runs

    folders: list[str | None] = [each for each in given.runs if os.path.isdir(each)] or [folder]
    if given.list:
        if others := [each for each in given.runs if not os.path.isdir(each)]:
            raise RecordingError(f"There is no folder {others[0]}: --list takes folders.")
        return [(each, find_runs(each)) for each in folders]
    if len(given.runs) == 1 and os.path.isdir(given.runs[0]) and not (given.check or given.recommend or given.all_runs):
        found = find_runs(given.runs[0])
        return [(given.runs[0], found)] if len(found) > 1 else None
    return None


def _materials(given: argparse.Namespace, folder: str | None) -> list[Material]:
    """The runs that were named, each once, the latest or all of a folder where none was."""
    from otel_hwmetrics.display.report.material import gathered

    found: dict[tuple[str, int], Material] = {}  # torchrun may give several runs, one after the other, one id
    for name in given.runs or [folder if given.all_runs else "latest"]:
        for run in _opened(name, folder, everything=given.all_runs):
            with run:
                found.setdefault((run.id, run.started_ns), gathered(run))
    return list(found.values())


def _passed_over(given: argparse.Namespace) -> Iterator[str]:
    """Of folders of which the latest run alone is checked, how many more there are."""
    from otel_hwmetrics.recording import find_runs

    for folder in (each for each in given.runs if os.path.isdir(each) and not given.all_runs):
        if len(found := find_runs(folder)) > 1:
            yield f"{folder} has {len(found)} runs; this is the latest, {found[0].run}: --all-runs takes all"


def _opened(name: str | None, folder: str | None, *, everything: bool) -> Iterator[Run]:
    from otel_hwmetrics.recording import Run, find_runs, open_run

    if everything and (name is None or os.path.isdir(name)):
        files = find_runs(name)
        yield from (Run(each.paths) for each in files)
        if files:
            return
    yield open_run(name or "latest", folder)


def _note(texts: Iterable[str], errors: TextIO) -> None:
    for text in texts:
        print(f"note: {text}", file=errors)


def _list(
    listed: Iterable[tuple[str | None, Sequence[RunFiles]]], output: TextIO, errors: TextIO, *, as_json: bool
) -> int:
    from otel_hwmetrics.display.report import as_data, listing
    from otel_hwmetrics.display.table import terminal_width

    found = []
    for folder, files in listed:
        found += [(each, listing.looked_at(each)) for each in files]
        known = {path for each in files for path in each.paths}
        _note(unreadable(folder, known) if folder is not None else (), errors)
    if as_json:
        _dump(as_data.runs(found), output)
    else:
        _print(listing.lines(found, terminal_width(output)), output)
    return 0


def _report(given: argparse.Namespace, materials: Sequence[Material], output: TextIO) -> None:
    from otel_hwmetrics.display.report import as_data, as_text
    from otel_hwmetrics.display.report.totals import Prices
    from otel_hwmetrics.display.table import terminal_width

    prices = Prices(given.price_kwh, given.price_gpu_hour)
    if given.json:
        _dump(as_data.reports(materials, prices), output)
        return
    for place, material in enumerate(materials):
        lines = as_text.report(material, terminal_width(output), all_spans=given.spans, prices=prices)
        _print([*(["", ""] if place else []), *lines], output)


def _check(given: argparse.Namespace, materials: Sequence[Material], output: TextIO, errors: TextIO) -> int:
    from otel_hwmetrics.display.report import as_data, check_text
    from otel_hwmetrics.display.report.advice import advice
    from otel_hwmetrics.display.report.formats import FORMATS as PRINTED
    from otel_hwmetrics.display.report.totals import Prices
    from otel_hwmetrics.display.report.usage import comparisons
    from otel_hwmetrics.display.table import terminal_width

    checked = [(each, comparisons(each.jobs, each.interval, given.tolerance)) for each in materials]
    advised = advice((each.jobs, each.interval) for each in materials)
    failed = given.check and as_data.violated(checked)
    prices = Prices(given.price_kwh, given.price_gpu_hour)
    if given.json:
        _dump(as_data.check(checked, advised, everything=given.all, prices=prices), output)
        return 1 if failed else 0
    if given.check:
        told = () if given.recommend else advised
        width = terminal_width(output)
        _print(check_text.check(checked, told, width, everything=given.all, prices=prices), output)
    if given.recommend and advised:
        _print([*([""] if given.check else []), *PRINTED[given.recommend](advised)], output)
    elif given.recommend:
        print("note: nothing is known of what these jobs used, so there is nothing to ask for", file=errors)
    return 1 if failed else 0


def _dump(data: Any, output: TextIO) -> None:
    print(json.dumps(data, indent=2, allow_nan=False), file=output)


def _print(lines: Iterable[str], output: TextIO) -> None:
    print("\n".join(lines), file=output)


def _price(text: str) -> float:
    value = _number(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no price: a number from 0 on, as 0.30")
    return value


def _percent(text: str) -> float:
    value = _number(text.strip().removesuffix("%"))
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: percent from 0 on, as 5")
    return value / 100


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None
