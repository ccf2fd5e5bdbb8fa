# SPDX-License-Identifier: Apache-2.0
"""Every row of the catalog against the conventions that are installed."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, NamedTuple, cast

import pytest
from opentelemetry.metrics import Meter
from opentelemetry.semconv import attributes as stable_attributes
from opentelemetry.semconv import metrics as stable_metrics
from opentelemetry.semconv._incubating import attributes as incubating_attributes
from opentelemetry.semconv._incubating import metrics as incubating_metrics
from opentelemetry.semconv.schemas import Schemas

from otel_hwmetrics import catalog
from otel_hwmetrics.catalog import METRICS, SCHEMA_URL, own, selected
from otel_hwmetrics.model import Kind, Metric, Origin, Peak, Rate, Ratio, Unit

CONVENTIONAL = [metric for metric in METRICS if not metric.name.startswith("hwmetrics.")]
OUR_OWN = [metric for metric in METRICS if metric.name.startswith("hwmetrics.")]

PREFIXES = {
    "gpu": ("hw.", "hwmetrics.gpu.", "hwmetrics.temperature."),
    "gpu_activity": ("hwmetrics.gpu.",),
    "gpu_links": ("hw.gpu.", "hwmetrics.gpu."),
    "gpu_health": ("hw.", "hwmetrics.gpu."),
    "system": ("system.", "hwmetrics.system."),
    "pressure": ("hwmetrics.pressure.",),
    "container": ("container.", "hwmetrics.container."),
    "process": ("process.", "hwmetrics.process."),
    "tree": ("hwmetrics.tree.",),
    "dataset": ("hwmetrics.dataset.",),
    "framework": ("hwmetrics.torch.", "hwmetrics.jax."),
    "training": ("hwmetrics.training.",),
    "distributed": ("hwmetrics.torch.ddp.",),
    "own": (
        *("hwmetrics.source.", "hwmetrics.sampling.", "hwmetrics.internal.", "hwmetrics.alert."),
        *("hwmetrics.sample.", "hwmetrics.thread.", "hwmetrics.emitter"),
    ),
}
"""How the names of each file's metrics begin. Sensors and energy of any hardware are ``hw.<what>`` by convention."""

NO_ROWS = {"sensors", "summary", "xid"}
"""Files of the catalog that describe something else than metrics."""

ASKED_FOR = {
    *("system.cpu.time", "system.cpu.utilization"),
    *("system.memory.usage", "system.memory.limit", "system.memory.utilization"),
    *("system.paging.usage", "system.disk.io", "system.disk.operations", "system.network.io"),
    *("process.cpu.time", "process.cpu.utilization", "process.memory.usage", "process.memory.virtual"),
    *("process.disk.io", "process.thread.count"),
    *("hw.gpu.utilization", "hw.gpu.memory.usage", "hw.gpu.memory.limit", "hw.gpu.memory.utilization"),
    *("hw.power", "hw.energy", "hw.temperature"),
    *("hwmetrics.system.disk.io.rate", "hwmetrics.system.network.io.rate", "hwmetrics.process.disk.io.rate"),
    *("hwmetrics.gpu.power.limit", "hwmetrics.alert.active", "hwmetrics.alert.transitions"),
    *("hwmetrics.sampling.time", "hwmetrics.source.readings.lost", "hwmetrics.source.up"),
}
"""What the first walk was asked to show; the host's available memory is below, under two names."""


class Convention(NamedTuple):
    """What the conventions' own helper makes."""

    kind: str
    unit: str
    description: str


class RecordingMeter:
    """Takes note of what would be created."""

    def __init__(self) -> None:
        self.made: dict[str, Convention] = {}

    def __getattr__(self, method: str) -> Any:
        kind = method.removeprefix("create_").removeprefix("observable_").replace("_", "")

        def create(name: str, callbacks: object = None, unit: str = "", description: str = "") -> None:
            self.made[name] = Convention(kind, unit, description)

        return create


def modules_of(*packages: ModuleType) -> list[ModuleType]:
    """Every module of the packages; deprecated ones, which warn, are left out by their names."""
    return [
        import_module(f"{package.__name__}.{module.name}")
        for package in packages
        for module in iter_modules(package.__path__)
    ]


@pytest.fixture(scope="module")
def conventions() -> dict[str, Convention]:
    """Every metric that the installed conventions have a helper for, by name."""
    meter = RecordingMeter()
    for module in modules_of(incubating_metrics, stable_metrics):
        for name, create in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("create_"):
                takes_callbacks = "callbacks" in inspect.signature(create).parameters
                create(cast("Meter", meter), *([[]] if takes_callbacks else []))
    return meter.made


@pytest.fixture(scope="module")
def attribute_keys() -> set[str]:
    """Every attribute key of the installed conventions."""
    return {
        value
        for module in modules_of(incubating_attributes, stable_attributes)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }


def by_name(metric: Metric) -> str:
    """A test's name."""
    return metric.name


@pytest.mark.parametrize("metric", CONVENTIONAL, ids=by_name)
def test_a_conventional_row_is_the_convention_s(metric: Metric, conventions: dict[str, Convention]) -> None:
    """Name, kind, unit and description are what the conventions' own helper makes, to the letter."""
    assert Convention(metric.kind.value, metric.unit.value, metric.description) == conventions[metric.name]


@pytest.mark.parametrize("metric", OUR_OWN, ids=by_name)
def test_a_row_of_our_own_is_none_of_the_conventions(metric: Metric, conventions: dict[str, Convention]) -> None:
    """Below `hwmetrics.`, and not what the conventions have a name for."""
    assert metric.name not in conventions
    assert metric.name.removeprefix("hwmetrics.") not in conventions


@pytest.mark.parametrize("metric", METRICS, ids=by_name)
def test_attribute_keys_are_the_conventions_or_below_ours(metric: Metric, attribute_keys: set[str]) -> None:
    """No key is invented in somebody else's namespace."""
    strange = {key for key in metric.attributes if key not in attribute_keys and not key.startswith("hwmetrics.")}
    assert not strange
    assert not {key for key in metric.attributes if key.startswith("hwmetrics.")} & attribute_keys


@pytest.mark.parametrize("name", PREFIXES)
def test_the_first_words_of_a_name_are_its_file_s(name: str) -> None:
    """Who knows a metric's name knows where its row is."""
    rows: tuple[Metric, ...] = getattr(catalog, name).METRICS
    assert rows
    assert [metric.name for metric in rows if not metric.name.startswith(PREFIXES[name])] == []


def test_every_file_s_rows_are_in_the_catalog() -> None:
    """Each file's every row once, in its order; and no row is defined that its file does not list."""
    files = {path.stem for path in Path(next(iter(catalog.__path__))).glob("*.py")} - {"__init__"} - NO_ROWS
    assert files == set(PREFIXES)
    assert len(METRICS) == sum(len(getattr(catalog, name).METRICS) for name in files)
    for name in files:
        module = getattr(catalog, name)
        others = {metric for other in files - {name} for metric in getattr(catalog, other).METRICS}
        defined = {value for value in vars(module).values() if isinstance(value, Metric)} - others
        assert defined == set(module.METRICS), name
        assert set(module.METRICS) <= set(METRICS)


def test_names_are_unique() -> None:
    """Two rows of one name would be one instrument."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_what_was_asked_for_is_there() -> None:
    """Every metric of the first walk has its row."""
    names = {metric.name for metric in METRICS}
    assert names >= ASKED_FOR
    assert names & {"system.linux.memory.available", "system.memory.linux.available"}


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric.kind is Kind.COUNTER], ids=by_name)
def test_counters_begin_where_their_subject_does(metric: Metric) -> None:
    """The machine's at `instrument()`, for it has been counting since boot; this process's at zero; a pipeline's too."""
    if metric.name.startswith(
        (
            "process.",
            "hwmetrics.process.",
            "hwmetrics.tree.",
            "hwmetrics.torch.",
            "hwmetrics.training.",
            "hwmetrics.internal.",
            "hwmetrics.alert.dropped",
            "hw.errors",
        )
    ):
        assert metric.origin is Origin.ZERO
    elif metric in own.METRICS:
        assert metric.origin is Origin.PIPELINE
    else:
        assert metric.origin is Origin.INSTRUMENT


WHOLE_NUMBERS = {
    *("hwmetrics.source.up", "hw.status", "hwmetrics.gpu.memory.remap.pending", "hwmetrics.gpu.memory.remap.failed"),
    *("hwmetrics.gpu.recovery.action", "hwmetrics.gpu.performance.state", "hwmetrics.dataset.info"),
    *("hwmetrics.gpu.pcie.generation", "hwmetrics.gpu.pcie.generation.limit", "hw.fan.speed"),
    *("hwmetrics.training.phase", "hwmetrics.thread.up", "hwmetrics.emitter"),
}
"""Yes or no, and numbers of things."""


@pytest.mark.parametrize("metric", METRICS, ids=by_name)
def test_values_are_integers_where_the_unit_counts(metric: Metric) -> None:
    """Bytes and things are counted in whole numbers; rates, means of them, ratios, seconds and joules are not."""
    counted = metric.unit is Unit.BYTE or metric.unit.value.startswith("{")
    # A cgroup's quota may be one CPU and a half.
    fraction = metric.unit is Unit.CPU or isinstance(metric.derivation, Rate | Ratio)
    assert metric.integer == (counted or metric.name in WHOLE_NUMBERS) or (fraction and not metric.integer)


@pytest.mark.parametrize("metric", METRICS, ids=by_name)
def test_what_a_row_follows_from_has_a_row(metric: Metric) -> None:
    """A derived metric's parts are read, too, and what is written of them can be: no attribute appears from nowhere."""
    derivation = metric.derivation
    if derivation is None:
        return
    parts = [derivation.of, getattr(derivation, "by", None), getattr(derivation, "over", None)]
    assert all(part in METRICS for part in parts if part is not None)
    assert set(derivation.of.attributes) <= set(metric.attributes)


@pytest.mark.parametrize("metric", METRICS, ids=by_name)
def test_a_rate_s_unit_follows_from_its_counter_s(metric: Metric) -> None:
    """Bytes give bytes a second, joules watts, seconds a ratio; a share of like things is a ratio, a peak what it peaks."""
    derivation = metric.derivation
    if isinstance(derivation, Rate):
        per_second = {
            Unit.BYTE: {Unit.BYTE_PER_SECOND},
            Unit.JOULE: {Unit.WATT},
            Unit.SECOND: {Unit.RATIO, Unit.CPU},  # a second of CPU time in a second is a CPU at work
            Unit.OPERATION: {Unit.OPERATION_PER_SECOND},
        }
        assert metric.unit in per_second[derivation.of.unit]
    elif isinstance(derivation, Peak):
        assert metric.unit is derivation.of.unit
    elif isinstance(derivation, Ratio):
        alike = derivation.of.unit is derivation.by.unit
        assert metric.unit is (Unit.RATIO if alike else derivation.of.unit)
    elif derivation is not None:
        assert metric.unit is Unit.RATIO


def test_the_schema_is_the_installed_conventions_newest() -> None:
    """By version and not by the order in which they happen to be listed."""
    newest = max(Schemas, key=lambda schema: tuple(map(int, schema.value.rsplit("/", 1)[1].split("."))))
    assert newest.value == SCHEMA_URL
    assert SCHEMA_URL.startswith("https://opentelemetry.io/schemas/1.")


def test_details_are_left_out_unless_they_are_asked_for() -> None:
    """By default a user sees what most need; everything, one part or all but one part can be asked for."""
    default = {metric.name for metric in METRICS if not metric.detail}
    assert selected(["default"]) == default
    assert selected(["all"]) == {metric.name for metric in METRICS}
    assert selected(["default", "hwmetrics.gpu.pcie.*"]) - default == {
        metric.name for metric in METRICS if metric.detail and metric.name.startswith("hwmetrics.gpu.pcie.")
    }
    assert selected(["default", "-hw.*"]) == {name for name in default if not name.startswith("hw.")}
    assert selected(["hw.power"]) == {"hw.power"}
    assert selected(["-hw.power"]) == set()
    assert selected(["all", "-*"]) == set()
