# SPDX-License-Identifier: Apache-2.0
"""What others may have prepared for us in places that they share with us, and secrets that a job has about it."""

from __future__ import annotations

import atexit
import json
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import otel_hwmetrics
from faults.case import Case, Outcome
from faults.training import Job

SECRET: Final = "Tr0ub4dor3CorrectHorse"  # noqa: S105 - it is planted everywhere
ITS_OWN: Final = "StapleOfTheJobsOwnWords"
"""A secret that the job itself prints, by the traceback of the exception that ends it; once, and we must not."""


@contextmanager
def planted(job: Job) -> Iterator[None]:
    """Let another user have been where our folder goes; the job ends by an exception, so that there is a file to write."""
    shared = Path(tempfile.gettempdir())
    precious = shared / "precious"
    precious.mkdir(mode=0o755)
    (precious / "file").write_text("precious")
    ours = shared / f"otel_hwmetrics-{os.geteuid()}"
    if job.argument == "link":
        ours.symlink_to(precious)
    else:
        ours.mkdir()
        ours.chmod(0o777)  # as anybody may have made it; that of another user only root could make here
        if os.geteuid() == 0:
            os.chown(ours, 1, -1)
    os.environ |= {"HOME": os.devnull, "XDG_STATE_HOME": "", "XDG_RUNTIME_DIR": str(shared)}
    atexit.register(_tell_what_lies_there, job, shared)
    job.ending = _fail
    yield


def _fail() -> None:
    raise ValueError("of the training's own")


def _tell_what_lies_there(job: Job, shared: Path) -> None:
    files = {
        path.relative_to(shared).as_posix(): (
            stat.S_IMODE(path.lstat().st_mode),
            stat.S_IMODE(path.parent.stat().st_mode),
        )
        for path in shared.rglob("*")
        if path.is_file() and "told" not in path.name
    }
    job.told.line(files=files)


def _it_went_elsewhere(outcome: Outcome) -> None:
    [files] = [line["files"] for line in outcome.lines if "files" in line]
    recordings = {name: modes for name, modes in files.items() if name.endswith(".flight.jsonl")}
    assert len(recordings) == 1, files
    for name, modes in recordings.items():
        assert name.startswith(f"otel_hwmetrics-{os.geteuid()}-"), name  # with what nobody could have guessed
        assert modes == [0o600, 0o700]
    assert files.keys() - recordings.keys() == {"precious/file"}
    assert "system.cpu.time" in outcome.last
    assert "WARNING" not in outcome.words


@contextmanager
def secrets(job: Job) -> Iterator[None]:
    """Have a secret wherever one can be: in the command line, the environment, options, addresses, rules, exceptions."""
    sys.argv += ["--api-key", SECRET, f"--token={SECRET}", f"https://me:{SECRET}@example.com"]
    folder = Path(tempfile.gettempdir(), "files")
    rule = {
        "metric": "process.memory.usage",
        "above": 0,
        "severity": "critical",
        "message": f"{{value}} are used: https://me:{SECRET}@example.com/?token={SECRET}",
        "advice": f"Authorization: Bearer {SECRET}",
    }
    said = {
        "notify": f"json://me:{SECRET}@127.0.0.1:9/{SECRET}?+X-Token={SECRET} nosuch://{SECRET}/{SECRET}",
        "rules": json.dumps({"mine": rule, "other": {"metric": "nosuch", "above": f"password={SECRET}"}}),
        "alert_channels": f"slack://{SECRET}/{SECRET}",
        "dataset_paths": f"s3://key:{SECRET}@bucket/data?sig={SECRET}",
        "directory": str(folder),
        "notify_group_wait": "0",
        "sample_interval": "0.2",
    }
    os.environ |= {f"OTEL_PYTHON_HWMETRICS_{name.upper()}": value for name, value in said.items()}
    os.environ |= {
        "HF_TOKEN": SECRET,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {SECRET}",
        "HTTPS_PROXY": f"http://me:{SECRET}@127.0.0.1:9",
        "SLURM_JOB_NAME": f"train --password={SECRET}",
    }
    otel_hwmetrics.on_alert(_fails_with_a_secret)
    job.provide = lambda: _provide_by_the_other_door(job)  # type: ignore[method-assign] # the case is about that door
    atexit.register(_tell_what_is_written, job, folder)
    job.ending = _fail_with_its_own
    yield


def _provide_by_the_other_door(job: Job) -> None:
    """As under ``opentelemetry-instrument``: what is wrong is logged and passed over."""
    instrumented, job.instrumented = job.instrumented, False
    Job.provide(job)
    job.instrumented = instrumented
    if instrumented:
        otel_hwmetrics.HardwareMetricsInstrumentor().instrument()


def _connect() -> None:
    raise ConnectionError(f"http://127.0.0.1:9/?token={SECRET} refused")


def _fails_with_a_secret(alert: otel_hwmetrics.Alert) -> None:
    del alert
    try:
        _connect()
    except ConnectionError as error:
        raise RuntimeError({"api_key": SECRET, "headers": {"Authorization": f"Bearer {SECRET}"}}) from error


def _fail_with_its_own() -> None:
    time.sleep(0.5)  # for the notification to be tried
    raise ValueError(f"password={ITS_OWN}")


def _tell_what_is_written(job: Job, folder: Path) -> None:
    for path in folder.glob("*"):
        job.told.line(file=path.name, text=path.read_text(encoding="utf-8"))


def _none_left(outcome: Outcome) -> None:
    told = json.dumps(outcome.lines)
    assert SECRET not in outcome.words, [line for line in outcome.words.splitlines() if SECRET in line]
    assert SECRET not in told, [line for line in outcome.lines if SECRET in json.dumps(line)]
    assert ITS_OWN not in told
    assert outcome.words.count(ITS_OWN) == 1  # by Python itself
    # And it is not that there was nothing to hide.
    texts = [line["text"] for line in outcome.lines if "file" in line]
    assert any('"reason":"mine"' in text for text in texts), [text[:200] for text in texts]
    assert any('"reason":"exception"' in text for text in texts)
    events = [attributes for _, attributes in outcome.spans["train"]["events"]]
    messages = [str(attributes.get("hwmetrics.alert.message")) for attributes in events]
    assert any("[redacted]" in message and "are used" in message for message in messages), messages
    for words in (
        "mine",
        "Traceback",
        "RuntimeError",
        "'alert_channels' is",
        "'notify'",
        "'above' is",
    ):
        assert words in outcome.words, words


@contextmanager
def hostile(job: Job) -> Iterator[None]:
    """Work in a directory that is everybody's, in which another user has left a configuration for us, and code."""
    folder = Path(tempfile.gettempdir(), "shared")
    folder.mkdir()
    folder.chmod(0o1777)
    trap = f"open({str(folder / 'ran')!r}, 'w')\n"
    for name in ("pynvml.py", "amdsmi.py", "apprise.py", "torch.py", "sitecustomize.py", "conftest.py"):
        (folder / name).write_text(trap)
    file = folder / "hwmetrics.toml"
    file.write_text(
        f'enabled = false\nnotify = "json://127.0.0.1:9"\ndirectory = "{folder}"\n' + "a." * 100_000 + "b = 1\n"
    )
    if os.geteuid() == 0:
        os.chown(file, 1, -1)
    else:
        file.chmod(0o666)
    os.chdir(folder)
    atexit.register(lambda: job.told.line(ran=(folder / "ran").exists(), left=sorted(os.listdir(folder))))
    yield


def _it_was_not_read(outcome: Outcome) -> None:
    assert "system.cpu.time" in outcome.last  # it is not switched off
    assert "hwmetrics.toml is not read" in outcome.words
    [line] = [line for line in outcome.lines if "ran" in line]
    assert not line["ran"]
    assert not any(name.endswith(".jsonl") for name in line["left"])


def _case(**what: Any) -> Case:
    return Case(**{"steps": 200, "added": 2.0, **what})


CASES = (
    _case(
        name="a link planted where our folder goes",
        happens="Another user of the machine has put a link to somebody's files where our folder in `/tmp` goes.",
        missing="Nothing: the file goes to a folder whose name nobody could guess, and nothing is written through the link.",
        said="The path of the file, in its alert.",
        fault="faults.security:planted",
        argument="link",
        check=_it_went_elsewhere,
    ),
    _case(
        name="our folder taken by another user",
        happens="Another user of the machine has made the folder that is to be ours.",
        missing="Nothing: the file goes to another folder, for this user alone. Ranks meet in another place.",
        said="The path of the file, in its alert.",
        fault="faults.security:planted",
        argument="folder",
        check=_it_went_elsewhere,
    ),
    _case(
        name="secrets everywhere",
        happens="There are passwords and keys in the command line, the environment, options, addresses and exceptions.",
        missing="They, in all that we write: lines of the log, alerts, files, notifications.",
        said="`[redacted]` in their place.",
        fault="faults.security:secrets",
        added=3.0,  # Apprise is loaded, and asked twice
        check=_none_left,
    ),
    _case(
        name="a hostile working directory",
        happens="The job runs in a directory that is everybody's, and another user has left a `hwmetrics.toml` there.",
        missing="Nothing: the file is not read, and nothing of it is run.",
        said="A WARNING: it is not read, since it belongs to another user, and how to have it read all the same.",
        fault="faults.security:hostile",
        felt=False,
        check=_it_was_not_read,
    ),
)
