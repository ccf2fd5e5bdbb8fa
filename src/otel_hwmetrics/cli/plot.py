# SPDX-License-Identifier: Apache-2.0
"""``otel-hwmetrics plot``: recorded runs as pages for a browser, or as PNG or SVG."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, TextIO

from otel_hwmetrics.cli.runs import add_directory, folder_of

if TYPE_CHECKING:
    from otel_hwmetrics.display.plots.draw import Drawn, Subject, Wish
    from otel_hwmetrics.recording import Run

FORMATS: Final = ("html", "png", "svg")
PREFIX: Final = "resource_plot"
OUTPUT: Final = "plots"
WIDTH: Final = 1600
NARROWEST, WIDEST = 400, 20_000
_EXTRA: Final = frozenset({"plotly", "matplotlib", "numpy"})
"""What the extra installs."""

_EPILOG: Final = """for example:
  otel-hwmetrics plot                                    the latest run, into plots/
  otel-hwmetrics plot train -o figures --job-ids 1,3     two of its jobs
  otel-hwmetrics plot A B --prefix both                  two runs, their jobs side by side
  otel-hwmetrics plot --start +10m --end=-5m --format png
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plot",
        help="draw recorded runs as pages for a browser",
        description="Draw recorded runs: each job on one timeline, CPU and memory of all jobs, and a summary.\n"
        "A page needs nothing beside itself, and asks nobody for anything.",
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
    parser.add_argument(
        "-o", "--output", metavar="DIR", default=OUTPUT, help=f"the folder for the files; {OUTPUT} if not given"
    )
    parser.add_argument("--job-ids", metavar="IDS", type=_ids, default=(), help="these jobs alone: 1,3")
    parser.add_argument(
        "--prefix", metavar="P", type=_prefix, default=PREFIX, help=f"what names begin with; {PREFIX} if not given"
    )
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help=f"{FORMATS[0]} if not given")
    parser.add_argument(
        "--width",
        metavar="PIXELS",
        type=_width,
        default=WIDTH,
        help=f"of a png or svg; of html how finely long runs are drawn; {WIDTH} if not given",
    )
    parser.add_argument(
        "--start",
        metavar="T",
        help="2026-03-01T14:05:09+01:00, or +10m after the beginning; --start=-1h is before the end",
    )
    parser.add_argument("--end", metavar="T", help="likewise")
    parser.set_defaults(call=call)


def call(given: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0; 1 where there is nothing to draw, or it cannot be written; 2 for what is wrong with the arguments, a run or a job that
        is not there, and an extra that is missing.
    """
    return plot(given, sys.stdout, sys.stderr)


def plot(given: argparse.Namespace, output: TextIO, errors: TextIO) -> int:
    """Likewise.

    Args:
        given: What was typed.
        output: Gets the names of files.
        errors: Gets what is wrong, and how far it is.
    """
    from otel_hwmetrics.recording import RecordingError

    try:
        with ExitStack() as stack:
            runs = [stack.enter_context(run) for run in _opened(given.runs, folder_of(given.directory))]
            return _drawn(given, runs, output, errors)
    except (RecordingError, ValueError) as error:
        print(f"error: {error}", file=errors)
    except OSError as error:
        print(f"error: cannot write: {error}", file=errors)
        return 1
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        print(f"error: plots need {missing}: pip install 'otel-hwmetrics[plot]'", file=errors)
    return 2


def _opened(names: Sequence[str], folder: str | None) -> Iterator[Run]:
    """The runs that were named, each once."""
    from otel_hwmetrics.recording import open_run

    known = set()
    for name in names or ["latest"]:
        run = open_run(name, folder)
        if run.id in known:
            run.close()
            continue
        known.add(run.id)
        yield run


def _drawn(given: argparse.Namespace, runs: Sequence[Run], output: TextIO, errors: TextIO) -> int:
    from otel_hwmetrics.display.plots.draw import Wish, draw

    subjects = [_subject(run, given.start, given.end) for run in runs]
    wish = Wish(given.output, given.prefix, given.format, given.width, tuple(given.job_ids))
    if os.path.exists(wish.folder) and not os.path.isdir(wish.folder):
        raise ValueError(f"{wish.folder} is no folder: -o names the folder for the files")
    told = list(_followed(draw(subjects, wish), wish, errors))
    _print(told, runs, output)
    for each in told:
        if not each.path:
            print(f"note: not drawn: {each.what}", file=errors)
    return 0 if any(each.path for each in told) else 1


def _subject(run: Run, start: str | None, end: str | None) -> Subject:
    from otel_hwmetrics.display.export.choice import moment
    from otel_hwmetrics.display.plots.draw import Subject

    ended = run.ended_ns or run.heard_ns
    first, last = (None if text is None else moment(text, run.started_ns, ended) for text in (start, end))
    if first is not None and last is not None and first >= last:
        raise ValueError("--start is not before --end")
    return Subject(run, first, last)


def _followed(drawn: Iterable[Drawn], wish: Wish, errors: TextIO) -> Iterator[Drawn]:
    """The same; a person who waits at a terminal sees how far it is."""
    for number, each in enumerate(drawn, 1):
        if errors.isatty():
            print(f"\r{number} files in {wish.folder} …\x1b[K", end="", file=errors, flush=True)
        yield each
    if errors.isatty():
        print("\r\x1b[K", end="", file=errors, flush=True)


def _print(told: Sequence[Drawn], runs: Sequence[Run], output: TextIO) -> None:
    from otel_hwmetrics.display.table import plain
    from otel_hwmetrics.display.words import when

    for run in runs:
        print(plain(f"run {run.name} ({run.id}), {when(run.started_ns)}"), file=output)
    widest = max((len(each.path) for each in told), default=0)
    for each in told:
        if each.path:
            print(f"  {each.path:<{widest}}  {plain(each.what)}", file=output)


def _ids(text: str) -> tuple[int, ...]:
    parts = [each.strip() for each in text.split(",") if each.strip()]
    if not parts or not all(each.isascii() and each.isdigit() for each in parts):
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers of jobs: as 1,3")
    return tuple(dict.fromkeys(map(int, parts)))


def _prefix(text: str) -> str:
    if not text or "/" in text or os.sep in text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no beginning of a file's name; -o names the folder")
    return text


def _width(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < len(str(WIDEST)) + 1 else 0
    if not NARROWEST <= value <= WIDEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no width: {NARROWEST} to {WIDEST} pixels")
    return value
