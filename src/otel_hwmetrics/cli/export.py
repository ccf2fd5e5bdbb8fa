# SPDX-License-Identifier: Apache-2.0
"""``otel-hwmetrics export``: a recorded run for other programs, as CSV, JSON lines or Parquet, or for a backend over OTLP."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from otel_hwmetrics.cli.runs import add_directory, folder_of

if TYPE_CHECKING:
    from otel_hwmetrics.display.export.choice import Choice
    from otel_hwmetrics.display.export.looks import Part
    from otel_hwmetrics.display.export.target import Progress
    from otel_hwmetrics.recording import Run

_TEMPORALITY: Final = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
SUMMARY: Final = "summary"
CSV: Final = "csv"
JSON_LINES: Final = "jsonl"
PARQUET: Final = "parquet"
OTLP: Final = "otlp"
FORMATS: Final = (CSV, JSON_LINES, PARQUET, OTLP)
_BY_NAME: Final = (
    (".otlp.jsonl", OTLP),
    (".otlp.json", OTLP),
    (".jsonl", JSON_LINES),
    (".parquet", PARQUET),
    (".csv", CSV),
)

_EPILOG: Final = """for example:
  otel-hwmetrics export -o run.csv                              the latest run: a row a look, a column a series
  otel-hwmetrics export train -o epochs/ --per-epoch            a file an epoch
  otel-hwmetrics export runs/ -o run.parquet --metrics 'hw.*'   of GPUs alone, for pandas, Polars or DuckDB
  otel-hwmetrics export train --format otlp --endpoint http://collector:4318
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        help="write a recorded run for other programs, or send it to a backend",
        description="Write a recorded run as CSV, JSON lines or Parquet, or replay it to a backend over OTLP\nas if it had been "
        "exported while it ran.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run",
        nargs="?",
        default="latest",
        metavar="RUN",
        help="a file, a folder, a run's name or the beginning of its id; the latest if not given",
    )
    add_directory(parser)
    parser.add_argument("--format", choices=FORMATS, help="if not given, by the name of the output, else csv")
    parser.add_argument("-o", "--output", metavar="PATH", help="where to; - or nothing is the standard output")
    parser.add_argument("--per-epoch", action="store_true", help="csv: a file epoch_N.csv an epoch, in the folder PATH")
    parser.add_argument(
        "--metrics",
        metavar="PATTERNS",
        help="names or patterns with commas between, a - before those that are not wanted: 'hw.*,-*.limit'; all if not "
        "given, for otlp 'default', which is what is exported live",
    )
    parser.add_argument(
        "--start", metavar="T", help="2026-03-01T14:05:09+01:00, or +10m after the beginning, end-1h before the end"
    )
    parser.add_argument("--end", metavar="T", help="likewise; with a - in front only as --end=-1m")
    parser.add_argument(
        "--every", metavar="SECONDS", type=_seconds, help="one row or point for so many; each look if not given"
    )
    backend = parser.add_argument_group(
        "otlp", "What is not said here is taken from OTEL_EXPORTER_OTLP_*, as in a job."
    )
    backend.add_argument("--endpoint", metavar="URL", help="base of the backend's address: http://collector:4318")
    backend.add_argument("--headers", metavar="K=V,...", help="sent with each request, as OTEL_EXPORTER_OTLP_HEADERS")
    backend.add_argument(
        "--protocol", choices=("http/protobuf", "grpc"), help="if not given and not set, http/protobuf"
    )
    parser.set_defaults(call=call)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def call(given: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0; 1 where there is nothing to be exported, it cannot be written, or a backend does not take it; 2 for what is wrong
        with the arguments, a run that is not there, and an extra that is missing.
    """
    from otel_hwmetrics.display.export.target import MissingExtra, NoEpochs, Refused
    from otel_hwmetrics.recording import RecordingError, open_run

    as_what = given.format or _format_by(given.output)
    if wrong := _wrong(given, as_what):
        return _fail(wrong, 2)
    try:
        with open_run(given.run, folder_of(given.directory)) as run:
            return _export(given, as_what, run)
    except (RecordingError, MissingExtra) as error:
        return _fail(f"{error}", 2)
    except (NoEpochs, Refused) as error:
        return _fail(f"{error}", 1)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _format_by(path: str | None) -> str:
    return next((each for ending, each in _BY_NAME if (path or "").lower().endswith(ending)), CSV)


def _wrong(given: argparse.Namespace, as_what: str) -> str:
    """What is wrong with what was typed, as far as the run does not matter; empty for nothing."""
    path, standard = given.output, given.output in (None, "-")
    of_otlp = [each for each in ("endpoint", "headers", "protocol") if getattr(given, each)]
    wrong = (
        (given.per_epoch and as_what != CSV, f"--per-epoch writes CSV alone, not {as_what}"),
        (given.per_epoch and standard, "--per-epoch writes a file an epoch: name their folder, -o FOLDER"),
        (
            as_what == PARQUET and (path is None or (standard and sys.stdout.isatty())),
            "Parquet is not text: name a file, -o run.parquet, or pipe -o -",
        ),
        (as_what != OTLP and of_otlp, f"--{of_otlp[0] if of_otlp else ''} is of --format otlp alone"),
        (path is not None and given.endpoint, "--endpoint sends it, -o writes it to a file: say one of them"),
        (not given.per_epoch and path and os.path.isdir(path), f"-o {path} is a folder: name a file in it"),
        (
            given.headers is not None and _headers(given.headers) is None,
            f"--headers {(given.headers or '').partition('=')[0]!r}: write key=value, with commas between",
        ),
    )
    return next((message for is_wrong, message in wrong if is_wrong), "")


def _headers(text: str | None) -> Mapping[str, str] | None:
    """The headers in an argument; None for no argument and for what has none."""
    from opentelemetry.util.re import parse_env_headers

    pairs = [each for each in (text or "").split(",") if each.strip()]
    found = parse_env_headers(text or "", liberal=True)
    return found if pairs and len(found) == len(pairs) else None


def _export(given: argparse.Namespace, as_what: str, run: Run) -> int:
    from otel_hwmetrics.display.export.choice import ALL, LIVE, Choice, moment, patterns_of, unmatched
    from otel_hwmetrics.display.export.looks import parts_of

    ended = run.ended_ns or run.heard_ns
    patterns = patterns_of(given.metrics, LIVE if as_what == OTLP else ALL)
    try:
        start, end = (
            None if text is None else moment(text, run.started_ns, ended) for text in (given.start, given.end)
        )
    except ValueError as error:
        return _fail(f"{error}", 2)
    if start is not None and end is not None and start > end:
        return _fail("--start is after --end", 2)
    choice = Choice(patterns, start, end, given.every)
    recorded = {column.metric for part in parts_of(run, Choice()) for column in part.columns}
    if wrong := unmatched(patterns, recorded):
        return _fail(wrong, 2)
    parts = parts_of(run, choice)
    count, what = _written(given, as_what, run, parts, choice)
    for note in _notes(parts, choice):
        print(f"note: {note}", file=sys.stderr)
    if not count:
        return _fail(_why_nothing(run, choice), 1)
    if given.output not in (None, "-"):
        print(f"{given.output}: {what}")
    elif as_what == OTLP and given.output is None:
        print(f"sent: {what}")
    return 0


def _notes(parts: Sequence[Part], choice: Choice) -> Iterator[str]:
    """What a reader of the export has to know of it."""
    from otel_hwmetrics.display.words import iso

    until = max((part.rolled_until for part in parts if part.rolled_until is not None and part.series), default=None)
    if until is not None and (choice.start_ns is None or choice.start_ns < until):
        yield f"before {iso(until)} only minutes were kept: means of gauges, the last of counters, one a minute"


def _why_nothing(run: Run, choice: Choice) -> str:
    if choice.start_ns is not None or choice.end_ns is not None:
        from otel_hwmetrics.display.words import iso

        return (
            f"nothing was recorded then: the run is from {iso(run.started_ns)} to {iso(run.ended_ns or run.heard_ns)}"
        )
    if all(about.granularity == SUMMARY for about in run.abouts):
        return "this run was recorded as a summary, without samples: `otel-hwmetrics report` shows it"
    return "nothing of it was recorded"


def _written(
    given: argparse.Namespace, as_what: str, run: Run, parts: Sequence[Part], choice: Choice
) -> tuple[int, str]:
    """Write it; gives how much there was, and that in words."""
    from otel_hwmetrics.display.export.csv_files import write_csv, write_epochs
    from otel_hwmetrics.display.export.json_lines import write_json_lines
    from otel_hwmetrics.display.export.parquet import write_parquet
    from otel_hwmetrics.display.export.target import Progress
    from otel_hwmetrics.display.words import counted

    path, ended = given.output or "-", run.ended_ns or run.heard_ns
    progress = Progress(sys.stderr, choice.start_ns or run.started_ns, choice.end_ns or ended)
    try:
        if as_what == OTLP:
            return _replayed(given, run, parts, choice, progress)
        if given.per_epoch:
            files = write_epochs(parts, choice, path, progress.at)
            rows = sum(files.values())
            return rows, f"{counted(rows, 'row')} in {counted(len(files), 'file')}"
        if as_what == JSON_LINES:
            samples = write_json_lines(run, parts, choice, path, progress.at)
            return samples, counted(samples, "sample")
        if as_what == PARQUET:
            rows = write_parquet(run, parts, choice, path, progress.at)
        else:
            rows = write_csv(parts, choice, path, progress.at)
        return rows, counted(rows, "row")
    finally:
        progress.over()


def _replayed(
    given: argparse.Namespace, run: Run, parts: Sequence[Part], choice: Choice, progress: Progress
) -> tuple[int, str]:
    """Replay it over OTLP, or into a file of its JSON."""
    from otel_hwmetrics.display.export.target import MissingExtra, target
    from otel_hwmetrics.display.words import counted

    try:
        from otel_hwmetrics.display.export.otlp import Manner, replay
        from otel_hwmetrics.display.export.otlp_receivers import Backend, File
    except ImportError as error:
        raise MissingExtra("OTLP", error.name or "opentelemetry-exporter-otlp", "otlp") from error
    delta = os.environ.get(_TEMPORALITY, "").strip().lower() == "delta"
    manner = Manner(os.environ.get("OTEL_SERVICE_NAME") or run.name, delta)
    if given.output is not None:
        with target(given.output) as file:
            sent = replay(parts, choice, File(file), progress.at, manner)
    else:
        backend = Backend(given.endpoint, _headers(given.headers), _protocol(given))
        try:
            sent = replay(parts, choice, backend, progress.at, manner)
        finally:
            backend.close()
    several = (counted(sent.points, "point"), counted(sent.spans, "span"), counted(sent.logs, "log record"))
    return sum(sent), f"{several[0]}, {several[1]} and {several[2]}"


def _protocol(given: argparse.Namespace) -> str:
    return given.protocol or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip().lower() or "http/protobuf"
