# SPDX-License-Identifier: Apache-2.0
"""Scripts in TOML, from a file and from the environment."""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter
from pathlib import Path

import pynvml
import pytest

from otel_hwmetrics import _guard, testing
from otel_hwmetrics.testing import (
    FakeGpu,
    FakeMig,
    FakeNvml,
    FakeProcess,
    ManualClock,
    ScenarioError,
    install_from_environment,
    load_scenario,
)

from .scripted import (
    binding_state,
    field_values,
    handle,
    in_thread,
    mig_handle,
    run_python,
)

# Scenario files.


def scenario(tmp_path: Path, text: str) -> Path:
    """Write a scenario file."""
    path = tmp_path / "gpus.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_documented_example_is_a_scenario_and_complete(tmp_path: Path, clock: ManualClock) -> None:
    """The example in the docs loads, sets every setting there is, and does what its comments say."""
    assert testing.__doc__ is not None
    example = testing.__doc__.split("```toml")[1].split("```")[0]
    for made in (FakeGpu, FakeMig, FakeProcess):
        assert [
            name
            for name in made.__dataclass_fields__
            if not re.search(rf"^({name} = |\[\[gpu\.{name}]])", example, re.MULTILINE)
        ] == []
    with load_scenario(scenario(tmp_path, example), clock=clock) as fake:
        pynvml.nvmlInit()
        first, second = handle(0), handle(1)
        assert pynvml.nvmlDeviceGetUUID(first) == "GPU-5a1e0000-0000-4000-8000-000000000000"
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetTotalEnergyConsumption(second)
        clock.advance(20)
        assert pynvml.nvmlDeviceGetTemperature(first, pynvml.NVML_TEMPERATURE_GPU) == 86
        clock.advance(40)
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            pynvml.nvmlDeviceGetName(second)
        clock.advance(30)
        assert pynvml.nvmlDeviceGetName(second) == fake.gpus[1].name
        clock.advance(30)
        thread, results = in_thread(lambda: pynvml.nvmlDeviceGetUtilizationRates(first).gpu)
        assert field_values(first, 176, 82) == [(0, 3), (pynvml.NVML_ERROR_NOT_SUPPORTED, -1)]
        assert field_values(second, 186) == [(pynvml.NVML_ERROR_UNKNOWN, -1)]
        assert pynvml.nvmlDeviceGetMemoryInfo(second, version=pynvml.nvmlMemory_v2).total == 2**64 - 1
        assert pynvml.nvmlDeviceGetName(mig_handle(handle(2))) == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
        fake.recover()
        thread.join(10)
        assert results == [97]


@pytest.mark.parametrize(("text", "gpus"), [("", 1), ("gpu = []", 0), ("[[gpu]]\n[[gpu]]", 2)])
def test_scenario_defaults(tmp_path: Path, text: str, gpus: int) -> None:
    """No [[gpu]] at all is one default GPU; an empty list is none."""
    fake = load_scenario(str(scenario(tmp_path, text)))
    assert [gpu.name for gpu in fake.gpus] == ["NVIDIA H100 80GB HBM3"] * gpus
    assert fake.driver_version == "580.95.05"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("power = ", "not a TOML file: "),
        ("gpus = 3", "gpus = 3: allowed is one of the keys boottime_offset, delay, driver_version, fail, fail_field,"),
        ("driver_version = 580", "driver_version = 580: allowed is a string"),
        ("gpu = 3", "gpu = 3: allowed is tables under [[gpu]]"),
        ("gpu = [3]", "gpu = [3]: allowed is tables under [[gpu]]"),
        ("[gpu]", "gpu = {}: allowed is tables under [[gpu]]"),
        ("[[gpu]]\npwoer = 3", "gpu[0].pwoer = 3: allowed is one of the keys architecture, bar1_total, "),
        ("[[gpu]]\n[[gpu]]\npower = '3'", "gpu[1].power = '3': allowed is a number from 0 to 1000000, keyframes"),
        ("[[gpu]]\npower = true", "gpu[0].power = True: allowed is a number"),
        ("[[gpu]]\npower = nan", "gpu[0].power = nan: allowed is a number"),
        ("[[gpu]]\npower = [[20, 1], [10, 1]]", "gpu[0].power[1] = [10, 1]: allowed is a keyframe at 20 s or later"),
        ("[[gpu]]\npower = [[20, 1, 3]]", "gpu[0].power[0] = [20, 1, 3]: allowed is a pair [seconds, number]"),
        ("[[gpu]]\npower = [20, 1]", "gpu[0].power[0] = 20: allowed is a pair [seconds, number]"),
        ("[[gpu]]\nutilization = 97", "gpu[0].utilization = 97: allowed is a number from 0 to 1,"),
        ("[[gpu]]\nmemory_total = 8e10", "gpu[0].memory_total = 80000000000.0: allowed is a whole number"),
        ("[[gpu]]\nname = 3", "gpu[0].name = 3: allowed is a string"),
        ("[[gpu]]\nunsupported = ['x']", "gpu[0].unsupported = 'x': allowed is one of nvmlDevice"),
        ("[[gpu]]\nuuid = 'a'\n[[gpu]]\nuuid = 'a'", "gpu[1].uuid = 'a': allowed is a UUID no other GPU has"),
        ("[[gpu]]\n[[gpu.mig]]\nsm_activity = 3", "gpu[0].mig[0].sm_activity = 3: allowed is a number from 0 to 1,"),
        ("[[gpu]]\n[[gpu.mig]]\npower = 3", "gpu[0].mig[0].power = 3: allowed is one of the keys compute_instance_id,"),
        ("[[gpu]]\n[[gpu.processes]]\npid = -1", "gpu[0].processes[0].pid = -1: allowed is a whole number from 0 to"),
        ("[[gpu]]\nmig = 3", "gpu[0].mig = 3: allowed is tables under [[mig]]"),
        ("[[gpu]]\nfields = { X = 1 }", "gpu[0].fields = 'X': allowed is one of NVML_FI_DEV_"),
        ("[[gpu]]\nfields = 1", "gpu[0].fields = 1: allowed is a table of NVML fields"),
        (
            "[[gpu]]\nfields = { NVML_FI_DEV_ENERGY = '1' }",
            "gpu[0].fields.NVML_FI_DEV_ENERGY = '1': allowed is a number",
        ),
        ("[[gpu]]\nunsupported_fields = [0]", "gpu[0].unsupported_fields = 0: allowed is one of NVML_FI_DEV_"),
        (
            "[[gpu]]\nunsupported_gpm_metrics = ['X']",
            "gpu[0].unsupported_gpm_metrics = 'X': allowed is one of NVML_GPM_",
        ),
        ("[[gpu]]\nremap_histogram = [1, 2]", "gpu[0].remap_histogram = [1, 2]: allowed is 5 whole numbers from 0 to"),
        ("[[gpu]]\nnvlinks_down = [18]", "gpu[0].nvlinks_down = [18]: allowed is whole numbers from 0 to 17"),
        ("[[gpu]]\narchitecture = 'x'", "gpu[0].architecture = 'x': allowed is one of kepler, maxwell,"),
        ("[[gpu]]\ngpm = 1", "gpu[0].gpm = 1: allowed is true or false"),
        ("boottime_offset = '1'", "boottime_offset = '1': allowed is a number of seconds"),
        ("[[fail_field]]\nfield = 'X'\ncode = 3", "fail_field[0].field = 'X': allowed is one of NVML_FI_DEV_"),
        ("[[fail_gpm_metric]]\nmetric = 'X'\ncode = 3", "fail_gpm_metric[0].metric = 'X': allowed is one of NVML_GPM_"),
        ("[[garble]]\nfunction = 'X'", "garble[0].function = 'X': allowed is one of *, nvml"),
        ("[[fail]]\nfunction = '*'", "fail[0].code = None: allowed is any value it can have: this key is required"),
        ("[[fail]]\nfunction = 3\ncode = 3", "fail[0].function = 3: allowed is one of *, nvml"),
        ("[[fail]]\nfunction = ['*']\ncode = 3", "fail[0].function = ['*']: allowed is one of *, nvml"),
        (
            "[[fail]]\nfunction = '*'\ncode = 'LOST'",
            "fail[0].code = 'LOST': allowed is a number above 0 or one of NVML_",
        ),
        ("[[fail]]\nfunction = '*'\ncode = 3\ngpu = 1", "fail[0].gpu = 1: allowed is an index below 1"),
        ("[[fail]]\nfunction = '*'\ncode = 3\nfrom = 1", "fail[0].from = 1: allowed is one of the keys after, code,"),
        ("[[fail]]\nfunction = '*'\ncode = 3\nafter = '1'", "fail[0].after = '1': allowed is a number of seconds >= 0"),
        ("[[delay]]\nfunction = '*'", "delay[0].seconds = None: allowed is any value it can have"),
        ("[[delay]]\nfunction = '*'\nseconds = -1", "delay[0].seconds = -1: allowed is a number >= 0"),
        ("[[hang]]\nfunction = '*'\ncode = 3", "hang[0].code = 3: allowed is one of the keys after, function, gpu"),
        ("[[hang]]\nfunction = '*'\nuntil = 0", "hang[0].until = 0: allowed is a number of seconds above after"),
    ],
)
def test_wrong_scenario_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """A mistake in the file is a ScenarioError that names the file, the key, the value and what is allowed."""
    path = scenario(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_scenario_that_is_not_text(tmp_path: Path) -> None:
    """A file that is not UTF-8 is a ScenarioError, one that is not there an OSError."""
    path = tmp_path / "gpus.toml"
    with pytest.raises(FileNotFoundError):
        load_scenario(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ScenarioError, match="not a TOML file"):
        load_scenario(path)


# The environment.


@pytest.mark.parametrize("value", [None, ""])
def test_no_scenario_in_the_environment(
    value: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Unset or empty, the variable changes nothing and logs nothing."""
    monkeypatch.delenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", raising=False)
    if value is not None:
        monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", value)
    before = binding_state()
    assert install_from_environment() is None
    assert binding_state() == before
    assert caplog.records == []


def test_scenario_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The file's GPUs are installed, and one warning says that they are not real and where they are from."""
    path = scenario(tmp_path, "[[gpu]]\n[[gpu]]\n[[gpu]]")
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", str(path))
    fake = install_from_environment()
    assert fake is not None
    with contextlib.ExitStack() as stack:
        stack.callback(fake.uninstall)
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCount() == 3
    assert caplog.record_tuples == [
        ("otel_hwmetrics.testing", logging.WARNING, f"NVML is scripted: 3 GPU(s) from {path} are not real")
    ]


@pytest.mark.parametrize("text", [None, "power = ", "[[gpu]]\npower = -1"])
def test_bad_scenario_in_the_environment_is_logged_not_raised(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is absent or wrong leaves NVML alone and logs one error that names the variable and the file."""
    path = tmp_path / "absent.toml" if text is None else scenario(tmp_path, text)
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", str(path))
    before = binding_state()
    assert install_from_environment() is None
    assert binding_state() == before
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("otel_hwmetrics.testing", logging.ERROR)
    assert "OTEL_PYTHON_HWMETRICS_FAKE_NVML" in record.getMessage()
    assert str(path) in record.getMessage()


def test_no_mistake_of_ours_escapes_the_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault that nobody foresaw is logged, not raised, because nothing may stop the user's program."""
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", str(scenario(tmp_path, "")))

    def broken(_: FakeNvml) -> None:
        raise KeyError

    monkeypatch.setattr(FakeNvml, "install", broken)
    monkeypatch.setattr(_guard, "LOUD", False)
    monkeypatch.setattr(_guard, "faults", Counter())
    assert install_from_environment() is None
    (record,) = caplog.records
    assert "installing scripted GPUs" in record.getMessage()


# Imports.


def test_import_is_light() -> None:
    """Importing the module, and asking for a scenario that is not set, loads nothing heavy."""
    code = """
import sys
before = set(sys.modules)  # coverage, where it measures this, has some already
import otel_hwmetrics.testing
otel_hwmetrics.testing.install_from_environment()
loaded = set(sys.modules) - before
print(sorted({"pynvml", "ctypes", "psutil", "opentelemetry", "tomllib", "tomli"} & loaded))
"""
    assert run_python(code) == "[]\n"


def test_the_environment_may_name_a_capture(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What was recorded on another machine stands in for this one's GPUs, and the log says that they are not real."""
    capture = Path(__file__).parents[1] / "data" / "captures" / "a100_mig.json"
    monkeypatch.setenv("OTEL_PYTHON_HWMETRICS_FAKE_NVML", str(capture))
    nvml = install_from_environment()
    assert nvml is not None
    try:
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCount() >= 1
        pynvml.nvmlShutdown()
    finally:
        nvml.uninstall()
    assert "are not real" in caplog.text
