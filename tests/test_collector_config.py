# SPDX-License-Identifier: Apache-2.0
"""What the collector configuration promises, read from the YAML alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parents[1] / "collector-config" / "otel-collector.yaml"
CORE = {
    "receivers": {"otlp", "nop"},
    "processors": {"memory_limiter", "batch"},
    "exporters": {"otlp_grpc", "otlp_http", "debug", "nop"},
}
SIGNALS = ("metrics", "traces", "logs")
VARIABLE = re.compile(r"\$\{env:(\w+)(?::-([^}]*))?\}")


def settings(environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the configuration as the collector reads it in an environment, by default an empty one."""
    given = environment or {}
    text = VARIABLE.sub(lambda match: given.get(match[1], match[2] or ""), FILE.read_text(encoding="utf-8"))
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def pipelines() -> dict[str, dict[str, list[str]]]:
    """Return the pipelines by signal."""
    found: dict[str, dict[str, list[str]]] = settings()["service"]["pipelines"]
    return found


def test_every_signal_has_a_pipeline() -> None:
    """There is one pipeline for each of metrics, traces and logs, and no other."""
    assert set(pipelines()) == set(SIGNALS)


@pytest.mark.parametrize("name", SIGNALS)
def test_memory_limiter_is_first_and_batch_last(name: str) -> None:
    """Every pipeline refuses before it works and batches right before it sends."""
    processors = pipelines()[name]["processors"]
    assert processors[0] == "memory_limiter"
    assert processors[-1] == "batch"


@pytest.mark.parametrize("name", SIGNALS)
def test_pipelines_go_from_otlp_to_the_backend(name: str) -> None:
    """Every pipeline takes OTLP and sends to the one backend."""
    assert pipelines()[name]["receivers"] == ["otlp"]
    assert "otlp_grpc" in pipelines()[name]["exporters"]


@pytest.mark.parametrize("kind", sorted(CORE))
def test_components_are_core(kind: str) -> None:
    """Only components of the core distribution are used, under their current names."""
    assert {name.partition("/")[0] for name in settings()[kind]} <= CORE[kind]


@pytest.mark.parametrize("kind", sorted(CORE))
def test_components_are_defined_and_used(kind: str) -> None:
    """Every component that a pipeline names is defined, and every defined one is named."""
    used = {name for pipeline in pipelines().values() for name in pipeline[kind]}
    assert used == set(settings()[kind])


def test_there_is_nothing_besides() -> None:
    """No extension, connector or other section escapes the checks above."""
    assert set(settings()) == {*CORE, "service"}
    assert set(settings()["service"]) == {"telemetry", "pipelines"}


def addresses(config: dict[str, Any]) -> dict[str, str]:
    """Return every address that the collector listens on or sends to."""
    protocols = config["receivers"]["otlp"]["protocols"]
    found = {f"otlp {name}": protocol["endpoint"] for name, protocol in protocols.items()}
    found["backend"] = config["exporters"]["otlp_grpc"]["endpoint"]
    for reader in config["service"]["telemetry"]["metrics"]["readers"]:
        own = reader["pull"]["exporter"]["prometheus"]
        found["own metrics"] = f"{own['host']}:{own['port']}"
    return found


def test_addresses_are_loopback_by_default() -> None:
    """Nothing listens on the network or sends to it until it is told to, and the ports are OTLP's usual ones."""
    assert addresses(settings()) == {
        "otlp grpc": "127.0.0.1:4317",
        "otlp http": "127.0.0.1:4318",
        "backend": "127.0.0.1:14317",
        "own metrics": "127.0.0.1:18888",
    }


def test_environment_overrides_the_defaults() -> None:
    """The endpoints, the backend and its TLS follow the environment."""
    config = settings(
        {
            "OTELCOL_GRPC_ENDPOINT": "10.0.0.1:1",
            "OTELCOL_HTTP_ENDPOINT": "10.0.0.1:2",
            "OTLP_BACKEND_ENDPOINT": "otlp.example.com:4317",
            "OTLP_BACKEND_INSECURE": "false",
        }
    )
    assert list(addresses(config).values())[:3] == ["10.0.0.1:1", "10.0.0.1:2", "otlp.example.com:4317"]
    assert config["exporters"]["otlp_grpc"]["tls"]["insecure"] is False
    assert settings()["exporters"]["otlp_grpc"]["tls"]["insecure"] is True


def test_variables_have_documented_defaults() -> None:
    """Every variable that is in use has a default, and the head of the file lists exactly these with theirs."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    used = {
        match[1]: match[2] for line in lines if not line.lstrip().startswith("#") for match in VARIABLE.finditer(line)
    }
    head = lines[: lines.index("receivers:")]
    listed = dict(re.findall(r"^#   ([A-Z_]+) +(\S+)", "\n".join(head), re.MULTILINE))
    assert listed == used


def test_data_waits_for_a_backend_that_is_away() -> None:
    """Sending is retried, and a bounded queue holds what waits."""
    backend = settings()["exporters"]["otlp_grpc"]
    assert backend["retry_on_failure"]["enabled"] is True
    assert backend["retry_on_failure"]["max_elapsed_time"] not in (0, "0", "0s")
    assert backend["sending_queue"]["enabled"] is True
    assert backend["sending_queue"]["queue_size"] > 0


def test_memory_limit_is_absolute_and_above_its_spike() -> None:
    """The limit is a number of MiB, not a share of a large node's memory, and leaves room under the spike."""
    limiter = settings()["processors"]["memory_limiter"]
    assert not [key for key in limiter if key.endswith("percentage")]
    assert 0 < limiter["spike_limit_mib"] < limiter["limit_mib"]
