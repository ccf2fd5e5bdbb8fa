# SPDX-License-Identifier: Apache-2.0
"""From options to what runs. Loaded by the doors in processes that are measured, and in no others.

It joins nothing itself: `otel_hwmetrics.pipeline` does. Here is what is said of options that cannot be taken and of
sources that are not there, by either door in its own way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import field, make_dataclass, replace
from typing import Any, NamedTuple

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_hwmetrics import forks, redaction
from otel_hwmetrics._guard import guard
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.alerts.rulebook import rulebook
from otel_hwmetrics.config import FAMILIES, OPTIONS, Config, ConfigError, flat_options, resolve, unknown_option
from otel_hwmetrics.integrations import following
from otel_hwmetrics.pipeline import Pipeline
from otel_hwmetrics.sources.base import SourceUnavailable

_logger = redaction.logger()
_PASSED_OVER = "Passed over, training is not affected: %s"


lock = threading.RLock()
"""Of whoever starts or stops something: there is one instrumentation a process."""


@forks.in_child
def _renew() -> None:
    """Begin with a lock that nobody has: another thread may have been about to start something, which takes its time."""
    global lock  # noqa: PLW0603 - the child has its own
    lock = threading.RLock()


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


def checked(options: Mapping[str, Any]) -> Config:
    """The configuration that the options make, with those of the environment and of files.

    Raises:
        ConfigError: One of them is wrong, or several are.
    """
    config, errors = resolve(options)
    errors += tuple(more_errors(config))
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigError("\n".join(map(str, errors)))
    return config


def more_errors(config: Config) -> Iterator[ConfigError]:
    """What is wrong with options that only a floor above them can tell: rules, addresses."""
    yield from rulebook(config).errors
    if config.notify:
        from otel_hwmetrics.sinks.notify import check

        yield from map(ConfigError, check(config.notify))


def start(config: Config, providers: Providers) -> Pipeline | None:
    """Start; None where it is switched off, or where a fault of ours was passed over.

    Raises:
        SourceUnavailable: A source that the user named cannot be read.
    """
    missing: SourceUnavailable | None = None
    with guard("starting"):
        try:
            return _start(config, providers)
        except SourceUnavailable as error:
            missing = error
    if missing is not None:
        raise missing
    return None


def start_what_can_be(options: Mapping[str, Any], providers: Providers) -> Pipeline | None:
    """Start without options that cannot be taken, and without named sources that are not to be had; raises nothing."""
    with guard("starting"):
        config, errors = resolve(options)
        for error in (*errors, *more_errors(config)):
            _logger.error(_PASSED_OVER, error)
        while config.sources:
            try:
                return _start(config, providers)
            except SourceUnavailable as error:
                _logger.error(_PASSED_OVER, error)
                config = replace(config, sources=tuple(name for name in config.sources if name != error.source))
    return None


def _start(config: Config, providers: Providers) -> Pipeline | None:
    if not config.enabled:
        _logger.info("otel_hwmetrics is switched off by its option 'enabled'.")
        return None
    pipeline = Pipeline(config, **providers._asdict())
    pipeline.start()
    following.follow(config)
    return pipeline


def stop(pipeline: Pipeline) -> None:
    """Stop what runs; raises nothing."""
    following.leave()
    with guard("stopping"):
        pipeline.stop()
