# SPDX-License-Identifier: Apache-2.0
"""What the tests of captures share: the shipped files, and asking a machine through the binding."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from otel_hwmetrics.testing import ManualClock
from otel_hwmetrics.testing.captures import ReplayNvml, load_capture
from otel_hwmetrics.testing.captures.layouts import VALUE_MEMBERS

Ask = Callable[[Callable[..., Any]], object]
Replay = Callable[..., ReplayNvml]


def plain(value: Any, value_type: int = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT) -> object:
    """Return what the binding gave as values that can be compared."""
    if isinstance(value, ctypes.Union):
        # What lies beyond the member that is meant is nobody's business.
        return getattr(value, VALUE_MEMBERS[value_type])
    if isinstance(value, pynvml.c_nvmlFieldValue_t):
        value_type = value.valueType
    if isinstance(value, ctypes.Structure):
        return {name: plain(getattr(value, name), value_type) for name, *_ in value._fields_}
    if isinstance(value, (list, tuple, ctypes.Array)):
        return [plain(each) for each in value]
    if isinstance(value, pynvml.nvmlFriendlyObject):
        return dict(vars(value))
    return value


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def ask() -> Ask:
    """Return a function that calls the binding, and gives its answer or the code of its error."""

    def call(function: Callable[..., Any], *arguments: Any) -> object:
        try:
            return plain(function(*arguments))
        except pynvml.NVMLError as error:
            return error.value

    return call


@pytest.fixture
def replay(tmp_path: Path, clock: ManualClock) -> Replay:
    """Return a function that makes a replay of entries under `answers`, with more of the file's keys as keywords."""

    def make(
        *answers: dict[str, Any], seconds: float = 60.0, at_end: Any = "hold", latencies: bool = False, **head: Any
    ) -> ReplayNvml:
        path = tmp_path / "made.json"
        document = {"format": 1, "origin": "scripted", "seconds": seconds, "answers": [*ONE_GPU, *answers], **head}
        path.write_text(json.dumps(document), encoding="utf-8")
        return load_capture(path, clock=clock, at_end=at_end, latencies=latencies)

    return make


ONE_GPU: list[dict[str, Any]] = [
    {"call": "nvmlDeviceGetCount_v2", "told": [[0, [1]]]},
    {"call": "nvmlDeviceGetHandleByIndex_v2", "asked": [[0]], "told": [[0, ["gpu0"]]]},
]


@pytest.fixture(autouse=True)
def binding_untouched() -> Iterator[None]:
    """No test leaves anything in the binding."""

    def state() -> list[object]:
        cache, texts = pynvml._nvmlGetFunctionPointer_cache, pynvml.NVMLError._errcode_to_string
        return [pynvml.nvmlLib, pynvml._LoadNvmlLibrary, pynvml._nvmlLib_refcount, id(cache), dict(cache), dict(texts)]

    before = state()
    yield
    assert state() == before
