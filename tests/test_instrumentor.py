# SPDX-License-Identifier: Apache-2.0
"""The doors, through the real SDK and the real NVML binding over scripted GPUs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
from opentelemetry.configuration._conversion import _dict_to_dataclass
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.util._importlib_metadata import entry_points

import otel_hwmetrics
from otel_hwmetrics import ConfigError, HardwareMetricsInstrumentor, SourceUnavailable
from otel_hwmetrics.catalog import METRICS, PER_PROCESS
from otel_hwmetrics.config import SOURCES
from otel_hwmetrics.testing import FakeGpu, FakeNvml

Points = dict[str, list[NumberDataPoint]]

PATIENT: dict[str, Any] = {"snapshot_timeout": 20.0, "source_timeout": 10.0}
"""For tests of what is read and not of how long it may take: a loaded machine may let a thread wait for long."""


@pytest.fixture
def gpus() -> Iterator[FakeNvml]:
    """Two scripted GPUs."""
    with FakeNvml([FakeGpu(utilization=0.9, memory_used=8e9, temperature=60.0, power=300.0), FakeGpu()]) as nvml:
        yield nvml


def collect(reader: InMemoryMetricReader) -> Points:
    """What one collection gives from our scope, by name; no name twice."""
    data = reader.get_metrics_data()
    found: Points = {}
    for resource_metrics in data.resource_metrics if data else ():
        for scope_metrics in resource_metrics.scope_metrics:
            if scope_metrics.scope.name == "otel_hwmetrics":
                for metric in scope_metrics.metrics:
                    assert metric.name not in found
                    found[metric.name] = list(metric.data.data_points)  # type: ignore[arg-type]
    return found


def provider() -> tuple[MeterProvider, InMemoryMetricReader]:
    """A provider with a reader, whose Resource says nothing of the process."""
    reader = InMemoryMetricReader()
    return MeterProvider([reader], resource=Resource({})), reader


_others: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def begin() -> None:
    """Remember what other tests have left running."""
    _others.clear()
    _others.update(threading.enumerate())


def left_running() -> list[str]:
    """Our threads that do not end. One that waits for events in the driver can only end when its wait does."""
    deadline = time.monotonic() + 10
    while True:
        ours = [thread for thread in threading.enumerate() if thread not in _others]
        names = [thread.name for thread in ours if thread.name.startswith("hwmetrics")]
        if not names or time.monotonic() > deadline:
            return names
        time.sleep(0.02)


NOT_ON_EVERY_MACHINE = (
    *(
        "container.",
        "hwmetrics.container.",
        "hwmetrics.pressure.",
    ),  # a cgroup of its own; a kernel that counts pressure
    *("hwmetrics.torch.", "hwmetrics.jax.", "hwmetrics.dataset."),  # a framework at work on a device; a data set
    "hwmetrics.training.",  # a job that tells its steps
    *("system.disk.", "hwmetrics.system.disk.", "system.network.", "hwmetrics.system.network."),  # disks and interfaces
    *("system.cpu.frequency", "hw.fan.", "process.unix.", "process.open_file", "hwmetrics.process.memory."),
    *("hwmetrics.gpu.process.sm.", "hwmetrics.gpu.memory.remap", "hwmetrics.tree.memory.pss", "system.paging."),
)
"""What may be absent for reasons of the machine, by how the names begin."""


def test_instrument_needs_no_arguments_and_gives_every_metric_of_the_machine(gpus: FakeNvml) -> None:
    """With GPUs there, one call shows host, process, GPUs and ourselves: all but details, and all with `metrics=all`."""
    for options, wanted in (
        ({}, {m.name for m in METRICS if not m.detail}),
        ({"metrics": "all"}, {m.name for m in METRICS}),
    ):
        meter_provider, reader = provider()
        with otel_hwmetrics.instrument(meter_provider=meter_provider, **PATIENT, **options):  # type: ignore[arg-type]
            deadline = time.monotonic() + 20
            found: dict[str, object] = {}
            while "hwmetrics.gpu.sm.activity" not in found and time.monotonic() < deadline:
                time.sleep(0.3)
                found |= collect(reader)
        assert set(found) <= wanted
        absent = {name for name in wanted - set(found) if not name.startswith(NOT_ON_EVERY_MACHINE)}
        nothing_went_wrong = ("hwmetrics.source.readings.lost", "hwmetrics.internal.", "hwmetrics.alert.")
        assert {name for name in absent if not name.startswith(nothing_went_wrong)} == set()


def test_uninstrument_shows_nothing_and_instrument_shows_one_set_again(gpus: FakeNvml) -> None:
    """instrument, uninstrument, instrument: one set of data, none in between, one set; and no counter falls."""
    meter_provider, reader = provider()
    otel_hwmetrics.instrument(meter_provider=meter_provider, **PATIENT)
    before = collect(reader)
    otel_hwmetrics.uninstrument()
    assert collect(reader) == {}
    otel_hwmetrics.instrument(meter_provider=meter_provider, **PATIENT)
    after = collect(reader)
    assert {"system.cpu.time", "process.cpu.time", "hw.energy", "hwmetrics.source.read.time"} <= set(before)
    for name in ("system.cpu.time", "process.cpu.time", "hw.energy", "hwmetrics.source.read.time"):
        first = {tuple(sorted(point.attributes.items())): point.value for point in before[name] if point.attributes}
        second = {tuple(sorted(point.attributes.items())): point.value for point in after[name] if point.attributes}
        assert first.keys() == second.keys()
        assert all(second[key] >= value for key, value in first.items()), name


def test_a_second_provider_is_served_and_the_first_is_silent() -> None:
    """Instrumenting another provider moves the data there; the first shows none of it."""
    first_provider, first = provider()
    second_provider, second = provider()
    otel_hwmetrics.instrument(meter_provider=first_provider)
    otel_hwmetrics.instrument(meter_provider=second_provider, **PATIENT)
    assert collect(first) == {}
    assert "system.cpu.time" in collect(second)


def test_the_handle_ends_its_own_instrumentation_and_no_later_one() -> None:
    """`shutdown()` of an old handle leaves what was started since alone."""
    first_provider, _ = provider()
    second_provider, second = provider()
    old = otel_hwmetrics.instrument(meter_provider=first_provider)
    new = otel_hwmetrics.instrument(meter_provider=second_provider, **PATIENT)
    old.shutdown()
    assert "system.cpu.time" in collect(second)
    new.shutdown()
    new.shutdown()
    assert collect(second) == {}


def test_without_arguments_what_runs_goes_on() -> None:
    """A script with `instrument()` under auto-instrumentation keeps the counters that run, and gets a handle on them."""
    meter_provider, reader = provider()
    HardwareMetricsInstrumentor().instrument(skip_dep_check=True, meter_provider=meter_provider, **PATIENT)
    handle = otel_hwmetrics.instrument()
    assert "system.cpu.time" in collect(reader)
    handle.shutdown()
    assert collect(reader) == {}


def test_no_thread_is_left_after_uninstrument(gpus: FakeNvml) -> None:
    """Close closes."""
    meter_provider, _ = provider()
    otel_hwmetrics.instrument(meter_provider=meter_provider)
    assert {thread.name for thread in threading.enumerate()} >= {"hwmetrics-sampler", "hwmetrics-nvidia"}
    otel_hwmetrics.uninstrument()
    assert not left_running()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"sample_interval": "fast"},
            ["'sample_interval'", "'fast'", "as an argument", "0, or seconds, a number >= 0.2"],
        ),
        ({"sources": ["nvidiaa"]}, ["'sources'", "nvidiaa", ", ".join(SOURCES)]),
        ({"sample_intervall": 1}, ["'sample_intervall'", "did you mean 'sample_interval'"]),
        ({"gpus": "mine", "alerts": "perhaps"}, ["'gpus'", "visible or all", "'alerts'", "true or false"]),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_what_is_allowed(
    options: dict[str, object], words: list[str]
) -> None:
    """`instrument()` raises before it starts anything."""
    with pytest.raises(ConfigError) as raised:
        otel_hwmetrics.instrument(**options)  # type: ignore[arg-type]
    assert all(word in str(raised.value) for word in words)
    assert otel_hwmetrics.snapshot() is None
    assert not left_running()


def test_under_auto_instrumentation_a_wrong_option_is_logged_and_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry's door never raises: the option has its default, everything else works."""
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL", "fast")
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_ALERT_GPU_HOT_THRESHOLD", "70")
    meter_provider, reader = provider()
    with caplog.at_level(logging.ERROR):
        HardwareMetricsInstrumentor().instrument(skip_dep_check=True, meter_provider=meter_provider, **PATIENT)
    assert "'sample_interval' is 'fast' (in the environment, as OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL)" in caplog.text
    assert "Passed over" in caplog.text
    assert "system.cpu.time" in collect(reader)


def test_declarative_configuration_hands_its_options_over(caplog: pytest.LogCaptureFixture) -> None:
    """What the SDK makes of the YAML reaches us as arguments; a key that we do not know is logged, not fatal."""
    with caplog.at_level(logging.ERROR):
        declarable: Any = HardwareMetricsInstrumentor.configuration
        made: Any = _dict_to_dataclass({"sample_interval": 0.5, "gpus": "all", "sampel_interval": 3}, declarable)
    assert made.sample_interval == 0.5
    assert made.gpus == "all"
    assert made.alerts is None
    assert "no option 'sampel_interval'" in caplog.text
    assert "did you mean 'sample_interval'" in caplog.text


def test_the_file_in_the_working_directory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hwmetrics.toml` switches everything off for every process started beside it."""
    (tmp_path / "hwmetrics.toml").write_text("enabled = false\n")
    monkeypatch.chdir(tmp_path)
    meter_provider, reader = provider()
    with otel_hwmetrics.instrument(meter_provider=meter_provider) as handle:
        assert collect(reader) == {}
        assert handle.snapshot() is None


@pytest.mark.parametrize("loud", [True, False])
def test_no_gpu_is_one_info_line_and_no_zeros(
    loud: bool,  # noqa: FBT001 - the two values of the guard's switch
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Host metrics flow, no GPU metric exists, and one line says what is missing and why."""
    monkeypatch.setattr("otel_hwmetrics._guard.LOUD", loud)
    meter_provider, reader = provider()
    with caplog.at_level(logging.INFO), otel_hwmetrics.instrument(meter_provider=meter_provider, **PATIENT):
        found = collect(reader)
    assert "system.cpu.time" in found
    assert not [name for name in found if name.startswith(("hw.", "hwmetrics.gpu"))]
    lines = [record for record in caplog.records if "nvidia" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].levelno == logging.INFO
    assert "no NVIDIA driver here" in lines[0].getMessage()
    assert lines[0].exc_info is None


def test_a_source_that_is_named_must_be_there() -> None:
    """`sources=["nvidia"]` without a driver raises, says why, and leaves nothing running."""
    with pytest.raises(SourceUnavailable, match="no NVIDIA driver here"):
        otel_hwmetrics.instrument(sources=["system", "nvidia"])
    assert otel_hwmetrics.snapshot() is None
    assert not left_running()


def test_a_fault_of_ours_in_starting_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through either door: what nobody foresaw is passed over in production, and leaves no thread behind."""
    monkeypatch.setattr("otel_hwmetrics._guard.LOUD", False)
    monkeypatch.setattr("otel_hwmetrics.pipeline.instruments_of", lambda _: 1 / 0)
    otel_hwmetrics.instrument().shutdown()
    otel_hwmetrics.uninstrument()
    HardwareMetricsInstrumentor().instrument(skip_dep_check=True)
    assert otel_hwmetrics.snapshot() is None
    assert not left_running()


def test_what_ran_runs_on_when_a_new_instrumentation_cannot_start() -> None:
    """A call of `instrument()` that raises leaves the job as well watched as before."""
    meter_provider, reader = provider()
    otel_hwmetrics.instrument(meter_provider=meter_provider, sources=["process"], **PATIENT)
    with pytest.raises(SourceUnavailable):
        otel_hwmetrics.instrument(sources=["nvidia"])
    assert "process.cpu.time" in collect(reader)


def test_a_named_source_that_is_missing_takes_nothing_along_under_auto_instrumentation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There it is logged, and the other sources work."""
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_SOURCES", "nvidia,process")
    meter_provider, reader = provider()
    with caplog.at_level(logging.ERROR):
        HardwareMetricsInstrumentor().instrument(skip_dep_check=True, meter_provider=meter_provider, **PATIENT)
    found = collect(reader)
    assert "process.cpu.time" in found
    assert "system.cpu.time" not in found
    assert "no NVIDIA driver here" in caplog.text


def test_not_supported_fields_are_absent_and_nothing_else_is() -> None:
    """A driver that lacks some fields costs those fields."""
    meter_provider, reader = provider()
    unsupported = {
        *("nvmlDeviceGetSamples", "nvmlDeviceGetUtilizationRates"),
        *("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"),
    }
    with (
        FakeNvml([FakeGpu(unsupported=unsupported)]),
        otel_hwmetrics.instrument(meter_provider=meter_provider, **PATIENT),
    ):
        found = collect(reader)
    sensors = {point.attributes["hw.sensor_location"] for point in found["hw.temperature"]}  # type: ignore[index]
    assert sensors == {"memory"}
    tasks = {point.attributes["hw.gpu.task"] for point in found["hw.gpu.utilization"]}  # type: ignore[index]
    assert "general" not in tasks
    assert {"hw.energy", "hw.gpu.memory.usage", "hwmetrics.gpu.power.limit"} <= set(found)
    assert "hwmetrics.source.readings.lost" not in found


def test_one_nvml_call_sequence_a_device_and_cycle(gpus: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many instruments and readers there are, an export cycle asks each GPU each thing once."""
    readers = [InMemoryMetricReader() for _ in range(4)]

    def cycle() -> None:
        """All readers collect together: within `SHARED_FOR` of the first, however slow this machine is."""
        monkeypatch.setattr("otel_hwmetrics.pipeline.SHARED_FOR", 0.0)
        for reader in readers:
            assert "hw.temperature" in collect(reader)
            monkeypatch.setattr("otel_hwmetrics.pipeline.SHARED_FOR", 3600.0)

    with otel_hwmetrics.instrument(meter_provider=MeterProvider(readers), sample_interval=0, **PATIENT):
        cycle()  # handles, names, and which functions there are: asked here
        gpus.reset_calls()
        cycle()
        # But for what the thread calls that hears of events, in its own time; that of the test before may be at it still.
        once = {key: count for key, count in gpus.calls.items() if not key[0].startswith("nvmlEventSet")}
        cycle()
    functions = {function for function, _ in once}
    assert once == {(function, gpu): 1 for function in functions for gpu in (0, 1)}
    # The figure of the moment is asked for where the driver's ring has nothing new: not if the cycle was slow.
    again = {key: count for key, count in gpus.calls.items() if count != 2 and key in once}
    assert set(again) <= {("nvmlDeviceGetUtilizationRates", gpu) for gpu in (0, 1)}
    assert set(again.values()) <= {1}


def test_a_gpu_that_hangs_leaves_the_export_on_time_and_the_host_in_it(gpus: FakeNvml) -> None:
    """While a driver call hangs, cycles complete within the snapshot timeout with everything but the GPUs."""
    meter_provider, reader = provider()
    with otel_hwmetrics.instrument(meter_provider=meter_provider, sample_interval=0) as handle:
        deadline = time.monotonic() + 20
        while "hw.temperature" not in collect(reader) and time.monotonic() < deadline:
            time.sleep(0.06)
        hang = gpus.hang("nvmlDeviceGetTemperatureV")
        while not hang.entered.is_set() and time.monotonic() < deadline:  # the look before may have been late
            time.sleep(0.06)
            collect(reader)
        for cycle in range(3):
            time.sleep(0.06)
            started = time.monotonic()
            found = collect(reader)
            elapsed = time.monotonic() - started
            assert elapsed < 5, cycle  # 30 s and more if it waited for the driver
            assert "system.cpu.time" in found
            assert not [name for name in found if name.startswith("hw.")], cycle
        up = {point.attributes["hwmetrics.source"]: point.value for point in found["hwmetrics.source.up"]}  # type: ignore[index]
        assert up["nvidia"] == 0
        assert up["system"] == up["process"] == 1
        lost = found["hwmetrics.source.readings.lost"]
        assert [point.attributes["error.type"] for point in lost] == ["timeout"]  # type: ignore[index]
        started = time.monotonic()
        handle.shutdown()
        assert time.monotonic() - started < 5
        hang.release()


def test_process_identity_is_told_once(gpus: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """pid, executable and ranks are attributes of what is of the process where the Resource lacks them, and only there."""
    monkeypatch.setenv("RANK", "3")
    reader, told_reader = InMemoryMetricReader(), InMemoryMetricReader()
    keys = {"process.pid", "process.executable.name", "hwmetrics.rank"}
    bare = MeterProvider([reader], resource=Resource({"process.pid": 1}))
    with otel_hwmetrics.instrument(meter_provider=bare, **PATIENT):
        found = collect(reader)
    for name, points in found.items():
        expected = keys - {"process.pid"} if name in PER_PROCESS else set()
        for point in points:
            assert keys & set(point.attributes or ()) == expected, name
    resource = Resource({"process.pid": 1, "process.executable.name": "python", "hwmetrics.rank": 3})
    with otel_hwmetrics.instrument(meter_provider=MeterProvider([told_reader], resource=resource), **PATIENT):
        told = collect(told_reader)
    assert not [name for name, points in told.items() for point in points if keys & set(point.attributes or ())]


def test_every_attribute_is_declared_by_its_row(gpus: FakeNvml) -> None:
    """No point carries an attribute that its row does not name, and integers are integers."""
    meter_provider, reader = provider()
    identity = {"process.pid", "process.executable.name"}
    rows = {metric.name: metric for metric in METRICS}
    with otel_hwmetrics.instrument(meter_provider=meter_provider, **PATIENT):
        time.sleep(0.15)
        for name, points in collect(reader).items():
            row = rows[name]
            for point in points:
                assert set(point.attributes or ()) - identity <= set(row.attributes), name
                assert isinstance(point.value, int if row.integer else float), name


def test_the_entry_points_are_ours() -> None:
    """OpenTelemetry finds the instrumentor, the resource detector and the hook of the scripted GPUs by their names."""
    for group, name, attribute in (
        ("opentelemetry_instrumentor", "hwmetrics", "HardwareMetricsInstrumentor"),
        ("opentelemetry_resource_detector", "hwmetrics", "HardwareResourceDetector"),
        ("opentelemetry_pre_instrument", "hwmetrics_scripted_gpus", "install_from_environment"),
    ):
        (entry_point,) = entry_points(group=group, name=name)
        assert entry_point.load().__name__ == attribute


def test_readers_have_windows_of_their_own(gpus: FakeNvml) -> None:
    """Each reader's rates reach back to its own last collection, told by its thread."""
    fast, slow = InMemoryMetricReader(), InMemoryMetricReader()
    steps: list[tuple[float, float]] = [(0.0, 100.0), (1e6, 100.0)]
    with (
        FakeNvml([FakeGpu(power=steps)]) as nvml,
        otel_hwmetrics.instrument(meter_provider=MeterProvider([fast, slow]), sample_interval=0, **PATIENT),
    ):
        collect(slow)
        on_thread(fast)
        time.sleep(0.2)
        first = on_thread(fast)["hw.power"][0].value
        second = collect(slow)["hw.power"][0].value
    assert nvml.calls
    assert first == pytest.approx(100.0, rel=0.05)
    assert second == pytest.approx(100.0, rel=0.05)


def on_thread(reader: InMemoryMetricReader) -> Points:
    """Collect on a thread of its own, as a scrape does."""
    found: list[Points] = []
    thread = threading.Thread(target=lambda: found.append(collect(reader)))
    thread.start()
    thread.join()
    return found[0]


def test_snapshot_is_the_newest_look(gpus: FakeNvml) -> None:
    """`snapshot()` and the handle show the same snapshot, with the GPUs in it; without instrumentation there is none."""
    assert otel_hwmetrics.snapshot() is None
    meter_provider, reader = provider()
    with otel_hwmetrics.instrument(meter_provider=meter_provider, **PATIENT) as handle:
        collect(reader)
        snapshot = handle.snapshot()
        assert snapshot is not None
        assert {reading.metric.name for reading in snapshot} >= {"system.cpu.time", "hw.temperature"}
        assert otel_hwmetrics.snapshot() is not None


def test_nvml_is_the_real_binding() -> None:
    """What these tests run is NVIDIA's own module, not a double of it."""
    assert hasattr(pynvml, "nvmlDeviceGetFieldValues")
