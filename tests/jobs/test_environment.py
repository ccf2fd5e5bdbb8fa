# SPDX-License-Identifier: Apache-2.0
"""What a job is told of the run that it is a part of."""

from __future__ import annotations

from otel_hwmetrics.config import Config
from otel_hwmetrics.jobs.environment import environment

PREFIX = "OTEL_PYTHON_HWMETRICS_"


def test_what_a_job_sets_itself_is_kept_to() -> None:
    """But for the run and the job's name, by which what it records is known to be of it; what it inherits is not its own."""
    config = Config(sample_interval=1.0, directory="/runs")
    inherited = {f"{PREFIX}SAMPLE_INTERVAL": "7", f"{PREFIX}RECORD_GRANULARITY": "summary", "PATH": "/bin"}
    own = {f"{PREFIX}SAMPLE_INTERVAL": "5", f"{PREFIX}RECORD_NAME": "mine", f"{PREFIX}RECORD_RUN": "other"}
    own[f"{PREFIX}DIRECTORY"] = "/elsewhere"
    made = environment({**inherited, **own}, config, "run", "a", instrumented_by_us=True, own=own)
    told = {name.removeprefix(PREFIX): value for name, value in made.items() if name.startswith(PREFIX)}
    assert told == {
        "SAMPLE_INTERVAL": "5",
        "RECORD_GRANULARITY": "time_series",
        "RECORD_NAME": "a",
        "RECORD_RUN": "run",
        "RECORD": "true",
        "DIRECTORY": "/elsewhere",
    }
    assert environment(inherited, config, "run", "a", instrumented_by_us=False)[f"{PREFIX}SAMPLE_INTERVAL"] == "1"
