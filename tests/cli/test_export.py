# SPDX-License-Identifier: Apache-2.0
"""``otel-hwmetrics export`` as it is typed: where things go, what is said, and which exit code."""

from __future__ import annotations

import builtins
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import recorded
from otel_hwmetrics.catalog import gpu
from otel_hwmetrics.cli import main
from otel_hwmetrics.display.export.target import Progress
from otel_hwmetrics.model import Series
from otel_hwmetrics.recording.nouns import SUMMARY
from otlp_receiver import Receiver
from recorded import SECOND, START
from recorded_looks import write

HOT = Series(gpu.TEMPERATURE, {"hw.id": "GPU-1"})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a recording."""
    folder = tmp_path / "runs"
    folder.mkdir()
    recorded.run(folder, 70)
    return folder


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the environment says where to send."""
    for name in ("ENDPOINT", "HEADERS", "PROTOCOL", "METRICS_TEMPORALITY_PREFERENCE"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)


def typed(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    try:
        code = main(["export", *arguments])
    except SystemExit as ended:
        code = int(str(ended.code))
    told = capfd.readouterr()
    return code, told.out, told.err


def test_csv_goes_to_the_standard_output(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By default, and nothing else does."""
    code, output, errors = typed(capfd, str(runs))
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0].startswith("timestamp,hwmetrics.job.cpu/train.1,")
    assert len(lines) == 72
    assert typed(capfd, str(runs), "-o", "-")[1] == output


@pytest.mark.parametrize(
    ("name", "arguments", "said_and_begins"),
    [
        ("x.csv", [], ("71 rows", b"timestamp,")),
        ("x.anything", [], ("71 rows", b"timestamp,")),
        ("x.jsonl", [], ("71 samples", b'{"type":"run"')),
        ("X.PARQUET", [], ("1136 rows", b"PAR1")),
        ("x.otlp.jsonl", [], ("497 points, 3 spans and 2 log records", b'{"resourceMetrics"')),
        ("x.jsonl", ["--format", "csv"], ("71 rows", b"timestamp,")),
        (
            "x.csv",
            ["--every", "60", "--metrics", "hw.energy"],
            ("2 rows", b"timestamp,hw.energy/gpu_0,hw.energy/gpu_1\n"),
        ),
    ],
)
def test_the_name_of_the_output_says_the_format(
    name: str, arguments: list[str], said_and_begins: tuple[str, bytes], runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Unless --format does; what was written is said in a line."""
    if name.endswith("PARQUET"):
        pytest.importorskip("pyarrow")
    path, (said, begins) = runs.parent / name, said_and_begins
    assert typed(capfd, str(runs), "-o", str(path), *arguments) == (0, f"{path}: {said}\n", "")
    assert path.read_bytes().startswith(begins)
    assert sorted(each.name for each in runs.parent.iterdir()) == sorted(["runs", name])


def test_a_file_an_epoch(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In a folder that is made."""
    folder = runs.parent / "a" / "b"
    assert typed(capfd, str(runs), "--per-epoch", "-o", str(folder))[:2] == (0, f"{folder}: 70 rows in 2 files\n")
    assert sorted(each.name for each in folder.iterdir()) == ["epoch_0.csv", "epoch_1.csv"]


def test_it_is_sent_to_a_backend(
    runs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the endpoint that is named, else to that of the environment, as growth where that asks for it."""
    said = "sent: 497 points, 3 spans and 2 log records\n"
    with Receiver() as receiver:
        named = ("--endpoint", receiver.http_endpoint, "--headers", "authorization=Basic%20x,k=v")
        assert typed(capfd, str(runs), "--format", "otlp", *named) == (0, said, "")
        assert receiver.metrics()["hw.energy"].temporality == "cumulative"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "DELTA")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "llm")
        assert typed(capfd, str(runs), "--format", "otlp") == (0, said, "")
        assert receiver.metrics()["hw.energy"].temporality == "delta"
        assert {span.resource["service.name"] for span in receiver.spans()} == {"train", "llm"}


def test_a_backend_that_is_not_there(
    runs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence with its address and the reason, and exit code 1."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2.5")
    code, output, errors = typed(capfd, str(runs), "--format", "otlp", "--endpoint", "http://127.0.0.1:1")
    assert (code, output) == (1, "")
    assert errors.startswith("error: http://127.0.0.1:1 has not taken metrics: ")
    assert "refused" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--per-epoch"], "--per-epoch writes a file an epoch: name their folder, -o FOLDER"),
        (["--per-epoch", "-o", "x.jsonl"], "--per-epoch writes CSV alone, not jsonl"),
        (["--format", "parquet"], "Parquet is not text: name a file, -o run.parquet, or pipe -o -"),
        (["--endpoint", "http://x"], "--endpoint is of --format otlp alone"),
        (["--format", "otlp", "-o", "x", "--endpoint", "http://x"], "--endpoint sends it, -o writes it to a file"),
        (["--format", "otlp", "--headers", "nonsense"], "--headers 'nonsense': write key=value, with commas between"),
        (["-o", "."], "-o . is a folder: name a file in it"),
        (
            ["--start", "soon"],
            "'soon' is no moment: 2026-03-01T14:05:09+01:00 (UTC without a zone), +10m after the run's",
        ),
        (["--start", "+10s", "--end", "+5s"], "--start is after --end"),
        (["--metrics", "hw.tempratur"], "--metrics 'hw.tempratur': no metric of this run is called so"),
        (["--metrics", "system.uptime"], "--metrics 'system.uptime': nothing of it was recorded in this run."),
        (["--every", "0"], "argument --every: '0' is no number of seconds above 0"),
        (["--format", "xml"], "argument --format: invalid choice: 'xml'"),
    ],
)
def test_what_is_wrong_is_named(
    arguments: list[str], wrong: str, runs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do about it, and exit code 2; nothing is written."""
    monkeypatch.chdir(runs.parent)
    code, output, errors = typed(capfd, str(runs), *arguments)
    assert (code, output) == (2, "")
    assert wrong in errors
    assert [each.name for each in runs.parent.iterdir()] == ["runs"]


def test_a_run_that_is_not_there(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and where it was looked for."""
    code, _, errors = typed(capfd, "nobody", "--directory", str(runs))
    assert code == 2
    assert errors.startswith(f"error: There is no run 'nobody' in {runs}")


def test_nothing_in_that_time(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and when the run was."""
    code, _, errors = typed(capfd, str(runs), "--start", "+1d", "-o", str(runs.parent / "x.jsonl"))
    assert code == 1
    assert errors == (
        "error: nothing was recorded then: the run is from 2025-10-09T08:54:00.000000Z to 2025-10-09T08:55:10.000000Z\n"
    )


def test_a_summary_has_no_samples(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And it is said what shows it."""
    recorded.run(tmp_path, 70, who=recorded.about(granularity=SUMMARY))
    code, _, errors = typed(capfd, str(tmp_path))
    assert (code, errors) == (
        1,
        "error: this run was recorded as a summary, without samples: `otel-hwmetrics report` shows it\n",
    )


def test_minutes_are_told_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where a part of the export has a row a minute alone, the errors say so."""
    write(tmp_path / "a.run.db", [(START + n * SECOND, {HOT: 1.0}) for n in range(0, 1800, 10)], detail=900.0)
    code, output, errors = typed(capfd, str(tmp_path))
    assert code == 0
    assert errors.startswith("note: before 2025-10-09T09:")
    assert errors.endswith("only minutes were kept: means of gauges, the last of counters, one a minute\n")
    assert 12 < len(output.splitlines()) < 170
    assert typed(capfd, str(tmp_path), "--start", "end-1m")[2] == ""


@pytest.mark.parametrize(
    ("module", "arguments_and_said"),
    [
        (
            "pyarrow",
            (
                ["-o", "x.parquet"],
                "Parquet needs pyarrow, which is not installed: pip install 'otel-hwmetrics[parquet]'",
            ),
        ),
        ("opentelemetry.sdk", (["--format", "otlp"], "OTLP needs opentelemetry")),
    ],
)
def test_a_missing_extra_is_named(
    module: str,
    arguments_and_said: tuple[list[str], str],
    runs: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one sentence."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == module or name.startswith(f"{module}."):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    for part in ("otlp", "otlp_receivers", "otlp_json"):
        monkeypatch.delitem(sys.modules, f"otel_hwmetrics.display.export.{part}", raising=False)
    arguments, said = arguments_and_said
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.chdir(runs.parent)
    code, output, errors = typed(capfd, str(runs), *arguments)
    assert (code, output) == (2, "")
    assert errors.startswith(f"error: {said}")
    assert errors.count("\n") == 1


def test_a_disk_that_takes_nothing(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and why."""
    code, _, errors = typed(capfd, str(runs), "-o", "/dev/full")
    assert code == 1
    assert "No space left on device" in errors
    code, _, errors = typed(capfd, str(runs), "-o", str(runs / "no" / "x.csv"))
    assert (code, "No such file or directory" in errors) == (1, True)


def test_a_file_that_cannot_be_written_is_named_as_it_was_typed(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And not by the name that it has until it is whole."""
    path = runs / "no" / "x.csv"
    code, _, errors = typed(capfd, str(runs), "-o", str(path))
    assert (code, errors) == (1, f"error: cannot write: [Errno 2] No such file or directory: '{path}'\n")


def test_before_the_end_is_said_as_the_help_has_it(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What begins with a - is an argument of its own for argparse, unless there is a = before it."""
    assert len(typed(capfd, str(runs), "--end=-1m")[1].splitlines()) == 1 + 11
    assert typed(capfd, str(runs), "--end", "end-1m")[1] == typed(capfd, str(runs), "--end=-1m")[1]
    assert "only as --end=-1m" in " ".join(typed(capfd, "--help")[1].split())


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said there, and taken away at the end; a file gets nothing."""
    file, terminal = io.StringIO(), io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    for output in (file, terminal):
        progress = Progress(output, 0, 100)
        progress.at(50)
        progress.at(51)  # too soon after it
        progress.over()
    assert file.getvalue() == ""
    assert terminal.getvalue() == "\r 50%\r\033[K"


def test_every_line_of_json_lines_is_an_object(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With its type."""
    _, output, _ = typed(capfd, str(runs), "--format", "jsonl")
    assert {json.loads(line)["type"] for line in output.splitlines()} >= {"run", "sample", "alert"}
