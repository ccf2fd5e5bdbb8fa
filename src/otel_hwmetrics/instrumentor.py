# SPDX-License-Identifier: Apache-2.0
"""The doors: the one that OpenTelemetry knows, and the one line for a training script.

OpenTelemetry's door (`HardwareMetricsInstrumentor`, also under ``opentelemetry-instrument`` and the declarative
configuration file) never raises, since an instrumentor that does stops the loading of all others: what is wrong is
logged and passed over. Ours (`instrument`) raises before it starts anything.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator
from dataclasses import field, make_dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from opentelemetry._logs import LoggerProvider
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # no __all__
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_hwmetrics._guard import guard
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.rulebook import rulebook
from otel_hwmetrics.config import FAMILIES, OPTIONS, Config, ConfigError, flat_options, resolve, unknown_option
from otel_hwmetrics.pipeline import Pipeline
from otel_hwmetrics.sinks.profile import checked_steps
from otel_hwmetrics.sources.base import SourceUnavailable

if TYPE_CHECKING:
    from typing_extensions import Self

    from otel_hwmetrics.model import Snapshot

_logger = logging.getLogger("otel_hwmetrics")
_PASSED_OVER = "Passed over, training is not affected: %s"

_lock = threading.RLock()
_pipeline: Pipeline | None = None


class Providers(NamedTuple):
    """Where telemetry goes; the global provider where there is None."""

    meter_provider: MeterProvider | None = None
    tracer_provider: TracerProvider | None = None
    logger_provider: LoggerProvider | None = None


_DECLARABLE = (*OPTIONS, *(name for rule in RULES for name in flat_options(rule.name)), *FAMILIES)


class _Tolerant:
    """Says which options it does not know, rather than failing: SDKs instrument with the defaults after a failure."""

    def __init__(self, **options: Any) -> None:
        for name, value in options.items():
            if name in _DECLARABLE:
                setattr(self, name, value)
            else:
                _logger.error(_PASSED_OVER, unknown_option(name, "in the declarative configuration"))


Configuration = make_dataclass(
    "Configuration",
    [(name, Any, field(default=None)) for name in dict.fromkeys(_DECLARABLE)],
    bases=(_Tolerant,),
    init=False,
)
"""What the declarative configuration file may say below ``instrumentation/development: python: hwmetrics:``."""


class HardwareMetricsInstrumentor(BaseInstrumentor):  # type: ignore[misc] # it is not typed
    """Entry point ``hwmetrics`` of ``opentelemetry_instrumentor``.

    ``instrument()`` takes ``meter_provider``, ``tracer_provider``, ``logger_provider`` and every option of
    `otel_hwmetrics.config.Config`. The class is a singleton whose ``__init__`` runs again at each construction, so it
    holds no state.
    """

    configuration: ClassVar[type] = Configuration

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: it instruments the machine, not a library."""
        return ()

    def _instrument(self, *, strict_config: Config | None = None, **kwargs: Any) -> None:
        providers = Providers(**{name: kwargs.pop(name, None) for name in Providers._fields})
        if strict_config is not None:
            _start_or_say_why_not(strict_config, providers)
            return
        with guard("starting"):
            config, errors = resolve(kwargs)
            for error in (*errors, *more_errors(config)):
                _logger.error(_PASSED_OVER, error)
            _start_what_can_be(config, providers)

    def _uninstrument(self, **_: Any) -> None:
        with guard("stopping"):
            _stop()


def more_errors(config: Config) -> Iterator[ConfigError]:
    """What is wrong with options that only a floor above them can tell: rules, addresses."""
    yield from rulebook(config).errors
    if config.notify:
        from otel_hwmetrics.sinks.notify import check

        yield from map(ConfigError, check(config.notify))


def _start_or_say_why_not(config: Config, providers: Providers) -> None:
    """Start; what the user must know of is raised, a fault of ours is not."""
    missing: SourceUnavailable | None = None
    with guard("starting"):
        try:
            _start(config, providers)
        except SourceUnavailable as error:
            missing = error
    if missing is not None:
        raise missing


def _start_what_can_be(config: Config, providers: Providers) -> None:
    """Start without the named sources that are not to be had, one after the other."""
    while config.sources:
        try:
            return _start(config, providers)
        except SourceUnavailable as error:
            _logger.error(_PASSED_OVER, error)
            config = replace(config, sources=tuple(name for name in config.sources if name != error.source))
    return None


def _start(config: Config, providers: Providers) -> None:
    global _pipeline  # noqa: PLW0603 - what runs is one for the process, as the instrumentor is
    with _lock:
        if not config.enabled:
            _logger.info("otel_hwmetrics is switched off by its option 'enabled'.")
            return
        pipeline = Pipeline(config, **providers._asdict())
        pipeline.start()
        _pipeline = pipeline


def _stop() -> None:
    global _pipeline
    with _lock:
        pipeline, _pipeline = _pipeline, None
        if pipeline is not None:
            pipeline.stop()


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
    starts again with these.

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
    providers = Providers(meter_provider, tracer_provider, logger_provider)
    with _lock:
        if _pipeline is not None and _pipeline.running and not options and providers == Providers():
            return Instrumentation(_pipeline)
        config, errors = resolve(options)
        errors += tuple(more_errors(config))
        if errors:
            raise errors[0] if len(errors) == 1 else ConfigError("\n".join(map(str, errors)))
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
    steps = checked_steps(steps)
    running = _pipeline
    return running.profile(steps) if running is not None else None
