# SPDX-License-Identifier: Apache-2.0
"""The main job, end to end: an unchanged script under `opentelemetry-instrument`, a real OTLP receiver on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from opentelemetry.semconv.schemas import Schemas

from otel_hwmetrics.catalog import METRICS
from otel_hwmetrics.catalog.system import MEMORY_AVAILABLE  # its name changed between conventions
from otlp_receiver import ReceivedLog, ReceivedMetric, ReceivedSpan, Receiver

from .launch import HERE, instrumented, scenario
from .rotel import RotelUnavailable, running_rotel

JOB = str(HERE / "job.py")
ALERTS = {"OTEL_PYTHON_HWMETRICS_SAMPLE_INTERVAL": "0.2", "OTEL_PYTHON_HWMETRICS_ALERT_GPU_HOT_FOR": "0.4"}


class Expected(NamedTuple):
    """One metric as it must arrive: kind, unit, whether integer, attribute keys."""

    kind: str
    unit: str
    integer: bool
    attributes: set[str]


GPU = {
    "hw.id",
    "hw.name",
    "hw.type",
    "hw.vendor",
    "hw.model",
    "hw.driver_version",
    "hwmetrics.gpu.index",
    "hwmetrics.cuda.ordinal",
}
SENSOR = (GPU - {"hw.type"}) | {"hw.parent", "hw.sensor_location"}
ALERT = {"hwmetrics.alert.rule", "hwmetrics.alert.severity", "hwmetrics.alert.state"}

EXPECTED = {
    "system.cpu.time": Expected("counter", "s", False, {"cpu.mode"}),
    "system.cpu.utilization": Expected("gauge", "1", False, {"cpu.mode"}),
    "system.memory.usage": Expected("updowncounter", "By", True, {"system.memory.state"}),
    "system.memory.limit": Expected("updowncounter", "By", True, set()),
    "system.memory.utilization": Expected("gauge", "1", False, {"system.memory.state"}),
    MEMORY_AVAILABLE.name: Expected("updowncounter", "By", True, set()),
    "system.paging.usage": Expected("updowncounter", "By", True, {"system.paging.state"}),
    "system.disk.io": Expected("counter", "By", True, {"system.device", "disk.io.direction"}),
    "system.disk.operations": Expected("counter", "{operation}", True, {"system.device", "disk.io.direction"}),
    "system.network.io": Expected("counter", "By", True, {"network.interface.name", "network.io.direction"}),
    "hwmetrics.system.disk.io.rate": Expected("gauge", "By/s", False, {"system.device", "disk.io.direction"}),
    "hwmetrics.system.network.io.rate": Expected(
        "gauge", "By/s", False, {"network.interface.name", "network.io.direction"}
    ),
    "process.cpu.time": Expected("counter", "s", False, {"cpu.mode"}),
    "process.cpu.utilization": Expected("gauge", "1", False, {"cpu.mode"}),
    "process.memory.usage": Expected("updowncounter", "By", True, set()),
    "process.memory.virtual": Expected("updowncounter", "By", True, set()),
    "process.disk.io": Expected("counter", "By", True, {"disk.io.direction"}),
    "process.thread.count": Expected("updowncounter", "{thread}", True, set()),
    "hwmetrics.process.disk.io.rate": Expected("gauge", "By/s", False, {"disk.io.direction"}),
    "hwmetrics.process.cpu.limit": Expected("updowncounter", "{cpu}", False, set()),
    "hw.gpu.utilization": Expected("gauge", "1", False, GPU | {"hw.gpu.task"}),
    "hw.gpu.memory.usage": Expected("updowncounter", "By", True, GPU),
    "hw.gpu.memory.limit": Expected("updowncounter", "By", True, GPU),
    "hw.gpu.memory.utilization": Expected("gauge", "1", False, GPU),
    "hw.power": Expected("gauge", "W", False, GPU | {"hwmetrics.energy.method"}),
    "hw.energy": Expected("counter", "J", False, GPU | {"hwmetrics.energy.method"}),
    "hw.temperature": Expected("gauge", "Cel", False, SENSOR),
    "hwmetrics.gpu.power.limit": Expected("updowncounter", "W", False, GPU),
    "hwmetrics.alert.active": Expected("updowncounter", "{alert}", True, ALERT | {"hw.id", "hwmetrics.gpu.index"}),
    "hwmetrics.alert.transitions": Expected("counter", "{transition}", True, ALERT),
    "hwmetrics.source.up": Expected("updowncounter", "1", True, {"hwmetrics.source"}),
    "hwmetrics.source.read.time": Expected("counter", "s", False, {"hwmetrics.source"}),
    "hwmetrics.sampling.time": Expected("counter", "s", False, set()),
}
"""Everything that point 2 of the main job promises, bar what only a fault shows (readings lost, internal errors)."""


class Arrived(NamedTuple):
    """What one run of the job left in the receiver."""

    metrics: dict[str, ReceivedMetric]
    spans: list[ReceivedSpan]
    logs: list[ReceivedLog]
    printed: str


@pytest.fixture(scope="module", params=["grpc", "http/protobuf"])
def arrived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrived]:
    """One run of the job over each protocol."""
    with Receiver() as receiver:
        endpoint = receiver.grpc_endpoint if request.param == "grpc" else receiver.http_endpoint
        printed = instrumented(
            JOB,
            "7",
            endpoint=endpoint,
            protocol=request.param,
            OTEL_PYTHON_HWMETRICS_FAKE_NVML=scenario(tmp_path_factory.mktemp("scenario")),
            OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="hwmetrics",
            RANK="5",
            LOCAL_RANK="0",
            WORLD_SIZE="8",
            **ALERTS,
        )
        yield Arrived(receiver.metrics(), receiver.spans(), receiver.logs(), printed)


def ours(arrived: Arrived) -> dict[str, ReceivedMetric]:
    """The metrics of our scope."""
    return {name: metric for name, metric in arrived.metrics.items() if "otel_hwmetrics" in metric.scopes}


def test_all_that_was_promised_arrives(arrived: Arrived) -> None:
    """And nothing that is a detail, or no row of ours."""
    assert set(EXPECTED) <= set(ours(arrived)) <= {metric.name for metric in METRICS if not metric.detail}


def test_every_metric_is_what_its_row_says(arrived: Arrived) -> None:
    """Kind, unit, whether integer, and no attribute that its row does not name."""
    rows = {metric.name: metric for metric in METRICS}
    of_process = {"process.pid", "process.executable.name", "hwmetrics.rank"}
    for name, metric in ours(arrived).items():
        row = rows[name]
        assert (metric.kind, metric.unit) == (row.kind.value, row.unit.value), name
        for point in metric.points:
            assert set(point.attributes) <= set(row.attributes) | of_process, name
            assert point.is_int is row.integer, name


@pytest.mark.parametrize("name", EXPECTED)
def test_each_metric_has_its_unit_kind_type_and_attributes(arrived: Arrived, name: str) -> None:
    """Every point of every metric is what its row says."""
    metric, expected = ours(arrived)[name], EXPECTED[name]
    assert (metric.kind, metric.unit) == (expected.kind, expected.unit)
    assert metric.schema_url == list(Schemas)[-1].value
    assert metric.points
    for point in metric.points:
        host_wide = {"hw.id", "hwmetrics.gpu.index"} if name == "hwmetrics.alert.active" else set()
        assert set(point.attributes) | host_wide == expected.attributes
        assert point.is_int is expected.integer


def test_the_values_are_the_scripted_ones(arrived: Arrived) -> None:
    """What the receiver has is what the GPU did, in SI units."""
    metrics = ours(arrived)

    def first_gpu(name: str, **wanted: str) -> float:
        (value,) = (
            point.value
            for point in metrics[name].points
            if point.attributes["hwmetrics.gpu.index"] == 0
            and {key.replace("_", "."): value for key, value in wanted.items()}.items()
            <= {key.replace("_", "."): value for key, value in point.attributes.items()}.items()
        )
        return value

    assert first_gpu("hw.gpu.utilization", hw_gpu_task="general") == pytest.approx(0.93)
    assert first_gpu("hw.power") == pytest.approx(410, rel=0.02)
    assert first_gpu("hw.temperature", hw_sensor_location="gpu") == pytest.approx(84)
    assert first_gpu("hw.gpu.memory.limit") == 80 * 2**30
    assert first_gpu("hwmetrics.gpu.power.limit") == 700
    assert 410 * 3 < first_gpu("hw.energy") < 410 * 20  # since instrument(), not since the driver was loaded


def test_the_alert_is_on_the_epoch_in_which_it_happened(arrived: Arrived) -> None:
    """One event, on the second epoch's span, with rule, state, device and the rest; none on the others."""
    events = {(span.attributes.get("epoch"), span.name): span.events for span in arrived.spans}
    assert events[None, "train"] == []
    assert events[0, "epoch"] == []
    ((name, attributes, _),) = events[1, "epoch"]
    assert name == "hwmetrics.alert"
    assert attributes["hwmetrics.alert.rule"] == "gpu_hot"
    assert attributes["hwmetrics.alert.state"] == "firing"
    assert attributes["hwmetrics.alert.severity"] == "warning"
    assert attributes["hwmetrics.alert.value"] == pytest.approx(84)
    assert attributes["hwmetrics.alert.threshold"] == 80
    assert attributes["hwmetrics.alert.unit"] == "Cel"
    assert attributes["hwmetrics.alert.duration"] == pytest.approx(0.4, abs=0.3)
    assert attributes["hwmetrics.alert.message"].startswith("GPU 0 is at 84 °C (above 80 °C)")
    assert attributes["hw.id"].startswith("GPU-")
    assert attributes["hw.name"] == "GPU 0"
    assert attributes["hw.model"] == "NVIDIA H100 80GB HBM3"
    assert attributes["hwmetrics.gpu.index"] == 0
    assert {key for key in attributes if not key.startswith("hwmetrics.alert.")} == GPU


def test_the_log_record_is_the_same_alert_in_the_same_span(arrived: Arrived) -> None:
    """It has the span's ids, the event's name and attributes, and a severity number."""
    (log,) = (log for log in arrived.logs if log.event_name == "hwmetrics.alert")
    (span,) = (span for span in arrived.spans if span.attributes.get("epoch") == 1)
    ((_, attributes, moment),) = span.events
    assert (log.trace_id, log.span_id) == (span.trace_id, span.span_id)
    assert log.attributes == attributes
    assert log.severity_number == 13
    assert log.body == attributes["hwmetrics.alert.message"]
    assert log.time_unix_nano == moment


def test_the_resource_says_which_process_it_was(arrived: Arrived) -> None:
    """With the detector switched on, host, pid, executable and ranks are on the Resource of everything."""
    for resource in [*(metric.resource for metric in ours(arrived).values()), arrived.spans[0].resource]:
        assert resource["process.pid"] > 0
        assert resource["process.executable.name"].startswith("python")
        assert resource["host.name"]
        assert (resource["hwmetrics.rank"], resource["hwmetrics.local_rank"], resource["hwmetrics.world_size"]) == (
            5,
            0,
            8,
        )


def test_the_screen_is_the_users(arrived: Arrived) -> None:
    """The job prints what it prints; of us there is the word that the GPUs are scripted, and a line for each alert."""
    lines = [line for line in arrived.printed.splitlines() if line.strip()]
    ours_alone = [line for line in lines if line != "trained"]
    assert len(ours_alone) == len(lines) - 1
    assert all("scripted" in line or " alert=gpu_hot state=firing " in line for line in ours_alone)


def test_without_the_detector_the_process_metrics_say_which_process(tmp_path: Path) -> None:
    """Nothing is exported without its process: pid and executable are attributes where the Resource lacks them."""
    with Receiver() as receiver:
        instrumented(JOB, "0.5", endpoint=receiver.grpc_endpoint, protocol="grpc")
        metrics = receiver.metrics()
    assert "process.pid" not in metrics["process.memory.usage"].resource
    for name in ("process.memory.usage", "process.cpu.time", "hwmetrics.process.cpu.limit"):
        for point in metrics[name].points:
            assert {"process.pid", "process.executable.name"} <= set(point.attributes)
    assert "process.pid" not in metrics["system.memory.usage"].points[0].attributes


def test_a_job_shorter_than_an_export_has_everything_but_its_alerts(tmp_path: Path) -> None:
    """The collection at exit has rates over the whole job, so that short jobs are not blank."""
    with Receiver() as receiver:
        instrumented(
            JOB,
            "1",
            endpoint=receiver.grpc_endpoint,
            protocol="grpc",
            OTEL_PYTHON_HWMETRICS_FAKE_NVML=scenario(tmp_path),
            OTEL_METRIC_EXPORT_INTERVAL="60000",
        )
        metrics = receiver.metrics()
    assert {name for name in EXPECTED if not name.startswith("hwmetrics.alert.")} <= set(metrics)
    assert 0 < sum(point.value for point in metrics["process.cpu.utilization"].points) <= 1.05


def test_a_driver_that_hangs_does_not_keep_the_job(tmp_path: Path) -> None:
    """A call that never returns: host metrics arrive, and the process ends when the script does."""
    text = '[[gpu]]\nutilization = 0.5\n[[hang]]\nfunction = "nvmlDeviceGetMemoryInfo_v2"\nafter = 0.5\n'
    with Receiver() as receiver:
        started = time.monotonic()
        instrumented(
            JOB,
            "2.5",
            endpoint=receiver.grpc_endpoint,
            protocol="grpc",
            OTEL_PYTHON_HWMETRICS_FAKE_NVML=scenario(tmp_path, text),
        )
        elapsed = time.monotonic() - started
        metrics = receiver.metrics()
        moments = len({point.time_unix_nano // 10**9 for point in receiver.history("system.memory.limit")})
    assert elapsed < 25  # a hang that held exit would run into the 60 s of `instrumented`
    assert moments >= 2  # export cycles went on
    up = {point.attributes["hwmetrics.source"]: point.value for point in metrics["hwmetrics.source.up"].points}
    assert up["nvidia"] == 0
    assert up["system"] == up["process"] == 1


def test_without_a_driver_nothing_is_said() -> None:
    """In production, where the guard is quiet: the job's own lines, and not one of ours, let alone a traceback."""
    with Receiver() as receiver:
        printed = instrumented(
            JOB, "0.5", endpoint=receiver.grpc_endpoint, protocol="grpc", OTEL_PYTHON_HWMETRICS_LOUD="0"
        )
        metrics = receiver.metrics()
    assert printed == "trained\n"
    assert "hwmetrics.internal.errors" not in metrics
    assert "system.cpu.time" in metrics


def test_a_wrong_option_and_no_driver_leave_the_job_alone() -> None:
    """Training goes on, the option is named on the screen, and host metrics arrive."""
    with Receiver() as receiver:
        printed = instrumented(
            JOB, "0.5", endpoint=receiver.http_endpoint, protocol="http/protobuf", OTEL_PYTHON_HWMETRICS_GPUS="mine"
        )
        metrics = receiver.metrics()
    assert "trained" in printed
    assert "'gpus' is 'mine'" in printed
    assert "visible or all" in printed
    assert "system.cpu.time" in metrics
    assert "hw.energy" not in metrics


def test_the_declarative_configuration_file_is_obeyed(tmp_path: Path) -> None:
    """Options below `instrumentation/development: python: hwmetrics:` count; one that does not exist is named."""
    if find_spec("opentelemetry.configuration") is None:
        pytest.skip("opentelemetry-configuration is not installed (it needs the SDK 1.44)")
    with Receiver() as receiver:
        configuration = tmp_path / "otel.yaml"
        configuration.write_text(
            f"""
file_format: "1.0"
meter_provider:
  readers:
    - periodic:
        interval: 500
        exporter:
          otlp_http:
            endpoint: {receiver.http_endpoint}/v1/metrics
instrumentation/development:
  python:
    hwmetrics:
      sources: [process]
      sampel_interval: 1
"""
        )
        printed = instrumented(JOB, "1.5", endpoint="", protocol="http/protobuf", OTEL_CONFIG_FILE=str(configuration))
        metrics = receiver.metrics()
    assert "process.cpu.time" in metrics
    assert "system.cpu.time" not in metrics
    assert "no option 'sampel_interval' (in the declarative configuration); did you mean 'sample_interval'?" in printed


def test_an_independent_receiver_understands_it(tmp_path: Path) -> None:
    """Rotel, which shares no code with us or the Python SDK, decodes every metric, the span event and the log event."""
    try:
        with running_rotel() as rotel:
            instrumented(
                JOB,
                "7",
                endpoint=rotel.grpc_endpoint,
                protocol="grpc",
                OTEL_PYTHON_HWMETRICS_FAKE_NVML=scenario(tmp_path),
                **ALERTS,
            )
            assert rotel.wait_for_text("SpanEvent #0", 10), rotel.text()[-3000:]
            text = rotel.text()
    except RotelUnavailable as reason:
        pytest.skip(str(reason))
    assert not [name for name in EXPECTED if f"Name: {name}\n" not in text]
    assert "EventName: hwmetrics.alert" in text
