# SPDX-License-Identifier: Apache-2.0
"""The doors: the one that OpenTelemetry knows, and the one line for a training script.

OpenTelemetry's door (`HardwareMetricsInstrumentor`, also under ``opentelemetry-instrument`` and the declarative
configuration file) never raises, since an instrumentor that does stops the loading of all others: what is wrong is
logged and passed over. Ours (`instrument`) raises before it starts anything.

OpenTelemetry opens its door in every process that a training starts, too. So behind it nothing is loaded before it is
known that this process is to be measured (`otel_hwmetrics.roles`); `otel_hwmetrics.starting` is the rest.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # no __all__

from otel_hwmetrics.roles import Role, imports_main_again, role_of

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from typing_extensions import Self

    from otel_hwmetrics.config import Config
    from otel_hwmetrics.model import Snapshot
    from otel_hwmetrics.pipeline import Pipeline

# Not from `otel_hwmetrics.redaction`, which takes longer to load than all of this: no line of the door has anything in it
# that could be secret. Where something starts, the same logger is given its filter.
_logger = logging.getLogger("otel_hwmetrics")

OFF = ("false", "0", "no", "off")
"""Words of the environment that switch everything off, as the table of options reads them, too."""

_pipeline: Pipeline | None = None


class _Declarable:
    """The attribute ``configuration``: made when somebody asks for it, since it names every option of every rule."""

    def __get__(self, instance: object, owner: type) -> type | None:
        """The dataclass of what may be declared; None in a process that starts nothing, which needs no options."""
        if _said("enabled", {}) in OFF or _bystander({}) is not None:
            return None
        from otel_hwmetrics.starting import Configuration

        return Configuration


class HardwareMetricsInstrumentor(BaseInstrumentor):  # type: ignore[misc] # it is not typed
    """Entry point ``hwmetrics`` of ``opentelemetry_instrumentor``.

    ``instrument()`` takes ``meter_provider``, ``tracer_provider``, ``logger_provider`` and every option of
    `otel_hwmetrics.config.Config`. It starts nothing in processes beside the training (`otel_hwmetrics.roles`). The class
    is a singleton whose ``__init__`` runs again at each construction, so it holds no state.
    """

    configuration = _Declarable()

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: it instruments the machine, not a library."""
        return ()

    def _instrument(self, *, strict_config: Config | None = None, **options: Any) -> None:
        global _pipeline  # noqa: PLW0603 - what runs is one for the process, as the instrumentor is
        if strict_config is None and _is_nothing_to_start(options):
            return
        from otel_hwmetrics import starting

        providers = starting.Providers(**{name: options.pop(name, None) for name in starting.Providers._fields})
        with starting.lock:
            if strict_config is None:
                _pipeline = starting.start_what_can_be(options, providers)
            else:
                _pipeline = starting.start(strict_config, providers)

    def _uninstrument(self, **_: Any) -> None:
        global _pipeline
        if _pipeline is None:
            return
        from otel_hwmetrics import starting

        with starting.lock:
            pipeline, _pipeline = _pipeline, None
            if pipeline is not None:
                starting.stop(pipeline)


def _is_nothing_to_start(options: Mapping[str, Any]) -> bool:
    """Whether OpenTelemetry's door stays closed here; says so."""
    if _is_switched_off(options):
        return True
    role = _bystander(options)
    if role is None:
        return False
    way = "; a training that runs here calls otel_hwmetrics.instrument()" if role.may_train else ""
    _logger.debug("Nothing is measured in process %d: this is %s%s", os.getpid(), role.name, way)
    return True


def _bystander(options: Mapping[str, Any]) -> Role | None:
    """The kind of process that this is, where nothing is to be started in it unless its own code asks for that."""
    role = role_of(sys.orig_argv)
    return None if role is not None and role.may_train and _is_wanted_everywhere(options) else role


def _is_wanted_everywhere(options: Mapping[str, Any]) -> bool:
    """Whether the user's word is that every process is to be measured that may train."""
    return _said("emit", options) == "always"


def _is_switched_off(options: Mapping[str, Any]) -> bool:
    """Whether that can be told before anything is loaded; what files say is known only afterwards."""
    if _said("enabled", options) not in OFF:
        return False
    _logger.info("otel_hwmetrics is switched off by its option 'enabled'.")
    return True


def _said(option: str, options: Mapping[str, Any]) -> str:
    """What an argument says, else the environment, as the table of options has it; empty where neither does."""
    given = options.get(option)
    told = os.environ.get(f"OTEL_PYTHON_HWMETRICS_{option.upper()}", "") if given is None else str(given)
    return told.strip().lower()


class Instrumentation:
    """What `instrument` returns: a handle on what it started, and a context manager that ends it."""

    def __init__(self, pipeline: Pipeline | None) -> None:
        self._pipeline = pipeline

    def shutdown(self) -> None:
        """Show nothing more and end the threads; as `uninstrument`, unless something else was started since."""
        if self._pipeline is not None and self._pipeline is _pipeline:
            uninstrument()

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot of this instrumentation; None before its first sample and after its end."""
        return self._pipeline.snapshot if self._pipeline is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


def instrument(
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    **options: Any,
) -> Instrumentation:
    """Start to measure and to judge; one line in a training script, no argument needed.

    Runs already (say, by ``opentelemetry-instrument``): without arguments it goes on as it is, with arguments it
    starts again with these. A process that multiprocessing spawns imports the script's main module again, before it
    does anything: the call in there starts nothing, one in the function that the process is to run does. Switched off,
    it looks at nothing, other options included.

    Args:
        meter_provider: Where metrics go; the global one by default, which may be set later.
        tracer_provider: Whose spans alerts are put onto; likewise.
        logger_provider: Where alert records go; likewise.
        **options: Any option of `otel_hwmetrics.config.Config`, and ``config_file``.

    Returns:
        A handle with ``shutdown()``; also a context manager.

    Raises:
        ConfigError: An option is wrong, wherever it was given; nothing was changed.
        SourceUnavailable: A source that ``sources`` names cannot be read here; what ran before runs again.
    """
    if imports_main_again() and not _is_wanted_everywhere(options):
        _logger.debug("Nothing is measured in process %d: it only imports the main module of its parent", os.getpid())
        return Instrumentation(None)
    if _pipeline is None and _is_switched_off(options):
        return Instrumentation(None)
    from otel_hwmetrics import starting
    from otel_hwmetrics.sources.base import SourceUnavailable

    providers = starting.Providers(meter_provider, tracer_provider, logger_provider)
    with starting.lock:
        if _pipeline is not None and _pipeline.running and not options and providers == starting.Providers():
            return Instrumentation(_pipeline)
        config = starting.checked(options)
        before = _pipeline if _pipeline is not None and _pipeline.running else None
        instrumentor = HardwareMetricsInstrumentor()
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()
        try:
            instrumentor.instrument(strict_config=config, **providers._asdict())
        except SourceUnavailable:
            if before is not None:
                instrumentor.instrument(strict_config=before.config, **before.providers)
            raise
        return Instrumentation(_pipeline)


def uninstrument() -> None:
    """End what `instrument` or ``opentelemetry-instrument`` started; nothing is exported from then on."""
    instrumentor = HardwareMetricsInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def snapshot() -> Snapshot | None:
    """The newest look at the machine, by the instrumentation that runs; None when none does or before its first."""
    running = _pipeline
    return running.snapshot if running is not None else None


def profile(steps: int = 5) -> str | None:
    """Have PyTorch profile the next steps of training, once the one that is under way has ended.

    The job has to tell its steps (`otel_hwmetrics.steps`, `otel_hwmetrics.step`). Beside the trace lies a snapshot of the
    GPU's memory, where the job uses CUDA.

    Args:
        steps: How many, 1 to 1000; fewer where the loop ends, a checkpoint or an evaluation begins, or after five minutes.

    Returns:
        Where the trace will be, for https://ui.perfetto.dev; None where there will be none: nothing runs, another
        profile is under way, PyTorch is not loaded, no step was told yet, or nothing can be written.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less than 1 or more than 1000.
    """
    from otel_hwmetrics.sinks.profile import checked_steps

    steps = checked_steps(steps)
    running = _pipeline
    return running.profile(steps) if running is not None else None
