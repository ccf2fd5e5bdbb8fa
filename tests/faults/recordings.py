# SPDX-License-Identifier: Apache-2.0
"""The disk that a run is recorded on: full, read-only, locked by somebody, damaged, cleaned up, hanging."""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from faults.case import Case, Outcome
from faults.gpus import export, operated, settle, waited
from faults.training import Job
from otel_hwmetrics import instrumentor
from otel_hwmetrics._guard import faults

PLACE: Final = "writing a recording"
ERRORS: Final = "hwmetrics.internal.errors"


def _by_setting(refused: str, again: str) -> Callable[[Any], Callable[[], object]]:
    """By a setting of SQLite, which then says what it says where the disk refuses."""

    def refuse(file: Any) -> Callable[[], object]:
        connection = file.writer._connection
        connection.execute(f"PRAGMA {refused}")
        return lambda: connection.execute(f"PRAGMA {again}")

    return refuse


def _locked(file: Any) -> Callable[[], object]:
    other = sqlite3.connect(file.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other.close


def _damaged(file: Any) -> Callable[[], object]:
    connection = file.writer._connection
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(file.path, "r+b") as damaged:
        damaged.seek(4096)
        damaged.write(os.urandom(os.path.getsize(file.path) - 4096))
    connection.execute("PRAGMA shrink_memory")
    return lambda: None


def _removed(file: Any) -> Callable[[], object]:
    for each in Path(file.path).parent.iterdir():
        each.unlink()
    return lambda: None


def _hanging(file: Any) -> Callable[[], object]:
    file.writer.commit = lambda *_: threading.Event().wait()
    return lambda: None


REFUSALS: Final[dict[str, Callable[[Any], Callable[[], object]]]] = {
    "full": _by_setting("max_page_count = 1", "max_page_count = 1073741823"),
    "read-only": _by_setting("query_only = 1", "query_only = 0"),
    "locked": _locked,
    "damaged": _damaged,
    "removed": _removed,
    "hanging": _hanging,
}


def _recorder() -> Any:
    running = instrumentor._pipeline
    assert running is not None
    return running._judging._recorder


@contextmanager
def disk(job: Job) -> Iterator[None]:
    """In the middle of the run the disk refuses, and later it works again."""
    place = Path(tempfile.mkdtemp(), "ours")
    job.options |= {"record": True, "record_batch": 0.5, "directory": str(place)}
    known: dict[str, Any] = {}

    def operate() -> None:
        settle(job, count=0)
        recorder = known["recorder"] = _recorder()
        assert waited(lambda: recorder._taken and recorder._file.writer is not None)
        work_again = REFUSALS[job.argument](recorder._file)
        if job.argument != "hanging":
            assert waited(lambda: faults[PLACE])
        settle(job, "refused", count=0)
        work_again()
        if job.argument != "hanging":
            assert waited(lambda: not recorder._file.failing and not recorder._looks)
            export(job, "works again")

    def read() -> None:
        looks = [_looks_of(path) for path in place.glob("*.run.db")]
        job.told.line(given=known["recorder"]._given, looks=looks)

    if job.instrumented:
        atexit.register(read)  # before us, so it is called when we are done
    with operated(job, operate):
        yield


def _looks_of(path: Path) -> int | None:
    """How many looks a file has; None of one that is not whole."""
    connection = sqlite3.connect(path)
    with contextlib.closing(connection), contextlib.suppress(sqlite3.DatabaseError):
        if connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]:
            return int(connection.execute("SELECT coalesce(sum(looks), 0) FROM blocks").fetchone()[0])
    return None


def _told(outcome: Outcome) -> dict[str, Any]:
    return next(line for line in outcome.lines if "given" in line)


def _counted(outcome: Outcome) -> None:
    places = {attributes["hwmetrics.internal.place"]: value for attributes, value in outcome.last[ERRORS]}
    assert places.keys() == {PLACE}, outcome.words


def nothing_is_missing(outcome: Outcome) -> None:
    """Once it works again all is there; it was said once that it did not, and once that it does."""
    told = _told(outcome)
    assert told["looks"] == [told["given"]], outcome.words
    assert outcome.words.count("The run is not recorded at the moment, training is not affected: ") == 1
    assert outcome.words.count("The run is recorded again: ") == 1
    _counted(outcome)


def another_is_begun(outcome: Outcome) -> None:
    """What came later is in another file, which is whole."""
    told = _told(outcome)
    assert [looks for looks in told["looks"] if looks], outcome.words
    assert "The run is recorded in another file, training is not affected: " in outcome.words
    _counted(outcome)


def the_rest_is_missing(outcome: Outcome) -> None:
    """What was written before is whole; the end of the job waits for a moment and no more."""
    (looks,) = _told(outcome)["looks"]
    assert looks
    assert ERRORS not in outcome.points


def _case(argument: str, check: Callable[[Outcome], None], **more: Any) -> Case:
    return Case(
        name=f"recording_{argument.replace('-', '_')}",
        fault="faults.recordings:disk",
        argument=argument,
        check=check,
        added=4.0,
        felt=False,
        **more,
    )


_LINES: Final = "One line, and one when it works again; `hwmetrics.internal.errors`."
_NOTHING: Final = "Nothing, once it works again; what was recorded before stays readable."
CASES = (
    _case(
        "full",
        nothing_is_missing,
        happens="A recorded run's disk is full (ENOSPC) for a while.",
        missing=_NOTHING,
        said=_LINES,
    ),
    _case(
        "read-only",
        nothing_is_missing,
        happens="A recorded run's file system is read-only (EROFS) for a while.",
        missing=_NOTHING,
        said=_LINES,
    ),
    _case(
        "locked",
        nothing_is_missing,
        happens="Another program has a run's recording locked for a while.",
        missing=_NOTHING,
        said=_LINES,
    ),
    _case(
        "damaged",
        another_is_begun,
        happens="A run's recording is overwritten with garbage.",
        missing="What was in it, and the batch that was about to be written; the rest goes into another file.",
        said="Two lines; `hwmetrics.internal.errors`.",
    ),
    _case(
        "removed",
        another_is_begun,
        happens="A run's recording is removed while it is written.",
        missing="What was in it; the rest goes into another file.",
        said="One line; `hwmetrics.internal.errors`.",
    ),
    _case(
        "hanging",
        the_rest_is_missing,
        happens="The disk of a recorded run hangs for ever.",
        missing="What was not written yet. The end of the process waits a second for it.",
        said="Nothing.",
        added_at_end=2.5,
    ),
)
