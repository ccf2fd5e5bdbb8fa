# SPDX-License-Identifier: Apache-2.0
"""A fault in one thing that is recorded keeps nothing else from being recorded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from alarms import alert
from otel_hwmetrics import _guard
from otel_hwmetrics.folders import Folder
from otel_hwmetrics.model import Snapshot, Window
from otel_hwmetrics.recording import open_run
from otel_hwmetrics.recording.nouns import About, Job, JobSample, Totals
from otel_hwmetrics.sinks.recorder import Recorder
from otel_hwmetrics.sinks.recorder_file import RecordingFile
from otel_hwmetrics.sinks.recorder_jobs import JobLook
from otel_hwmetrics.windows.samples import Sample


class Watch:
    """One job, and one whose samples nobody can read."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails

    def looked(self, snapshot: Snapshot) -> Iterable[JobLook]:  # noqa: ARG002 - of `JobWatch`
        """What cannot be recorded comes first."""
        return [(None, None, None)]  # type: ignore[list-item] # what nobody foresaw

    def ended(self, time_unix_nano: int, exit_code: int | None) -> Iterable[JobLook]:
        """It has failed, or this does."""
        if self.fails:
            raise ValueError("of the watch")
        yield (
            Job(1, "train", state="failed", started_ns=1, ended_ns=time_unix_nano, exit_code=exit_code),
            JobSample(time_unix_nano),
            Totals(),
        )


@pytest.mark.parametrize("fails", [False, True])
def test_what_cannot_be_recorded_costs_no_more_than_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """Alerts behind it, how the job ended, and that it ended in good order, are in the file."""
    monkeypatch.setattr(_guard, "LOUD", False)
    file = RecordingFile(
        Folder(str(tmp_path)),
        lambda now: About("run-1", "train", started_ns=now, heard_ns=now),
        detail=86400.0,
        size=2**30,
    )
    recorder = Recorder(file, Watch(fails=fails), choice=None)
    recorder.start()
    recorder.on_look(Sample(1, 1.0, 1, {}), Snapshot((), Window(0.0, 1.0), 1))
    recorder._others.append(lambda _: 1 / 0)
    recorder.on_alert(alert())
    recorder.close()
    recorder.join(60)
    with open_run(str(tmp_path)) as found:
        assert [told.rule for told in found.alerts()] == ["gpu_hot"]
        assert [job.state for job in found.jobs()] == ([] if fails else ["failed"])
        assert found.ended_ns is not None
    assert [each.name.endswith(".run.db") for each in tmp_path.iterdir()] == [True]
