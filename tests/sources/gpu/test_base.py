# SPDX-License-Identifier: Apache-2.0
"""Which GPUs are the job's, in every way in which ``CUDA_VISIBLE_DEVICES`` can be written, and what they are called."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.sources.gpu.base import Identity, visible

A, B, C, D = (
    "GPU-5a1e0000-0000-4000-8000-000000000000",
    "GPU-5a1e1111-0000-4000-8000-000000000000",
    "GPU-77777777-0000-4000-8000-000000000000",
    "GPU-99999999-0000-4000-8000-000000000000",
)
MACHINE = (A, B, C, D)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        pytest.param(None, [0, 1, 2, 3], id="not set"),
        pytest.param("", [], id="empty"),
        pytest.param("  ", [], id="blank"),
        pytest.param("-1", [], id="minus one"),
        pytest.param("NoDevFiles", [], id="NoDevFiles"),
        pytest.param("none", [], id="none"),
        pytest.param("void", [], id="void"),
        pytest.param("0", [0], id="one ordinal"),
        pytest.param("2,0", [2, 0], id="ordinals, in their order"),
        pytest.param(" 1 , 3 ", [1, 3], id="spaces"),
        pytest.param("0,1,2,3", [0, 1, 2, 3], id="all"),
        pytest.param("1,4,2", [1], id="ends at an ordinal out of range"),
        pytest.param("4", [], id="out of range at once"),
        pytest.param("1,-1,2", [1], id="ends at minus one"),
        pytest.param("1,,2", [1], id="ends at an empty entry"),
        pytest.param("1,", [1], id="a comma at the end"),
        pytest.param("1,x,2", [1], id="ends at a word"),
        pytest.param("1.0", [], id="a fraction"),
        pytest.param("1,1", [], id="an ordinal twice leaves nothing"),
        pytest.param("0,1,0", [], id="twice, further on"),
        pytest.param("1,9,1", [1], id="what follows the end is not looked at"),
        pytest.param(C, [2], id="a UUID"),
        pytest.param(f"{D},{A}", [3, 0], id="UUIDs, in their order"),
        pytest.param("GPU-7", [2], id="cut short"),
        pytest.param("GPU-5a1e1,GPU-9", [1, 3], id="cut short, two"),
        pytest.param("GPU-5a1e", [], id="cut short too far"),
        pytest.param("GPU-7,GPU-5a1e,GPU-9", [2], id="ends at an ambiguous one"),
        pytest.param("GPU-", [], id="cut short to nothing"),
        pytest.param("GPU-8", [], id="another machine's"),
        pytest.param(C.lower(), [], id="another case is another name"),
        pytest.param("7777", [], id="without its GPU-"),
        pytest.param(f"{C},2", [], id="a UUID and an ordinal of the same GPU"),
        pytest.param(f"0,{C}", [0, 2], id="a UUID and an ordinal"),
        pytest.param(f"MIG-{B}/1/0", [1], id="MIG by its GPU"),
        pytest.param(f"MIG-{B}/1/0,MIG-{B}/2/0", [1], id="two MIG instances of one GPU"),
        pytest.param(f"MIG-{B}/1/0,MIG-{D}/1/0", [1, 3], id="MIG instances of two GPUs"),
        pytest.param("MIG-GPU-77777777/1/0", [2], id="MIG by its GPU, cut short"),
        pytest.param("MIG-GPU-8/1/0", [], id="MIG of another machine's"),
        pytest.param("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", [0, 1, 2, 3], id="MIG by its own UUID: may be any"),
        pytest.param("MIG-c6d4f1ef", [0, 1, 2, 3], id="MIG by its own UUID, cut short"),
    ],
)
def test_visible(setting: str | None, expected: list[int]) -> None:
    """The GPUs that are left to the job are those that CUDA would leave to it."""
    assert visible(setting, MACHINE) == expected


@pytest.mark.parametrize(("setting", "expected"), [("0", [0]), ("2", [2]), ("GPU-7", [2]), ("GPU-5", [0]), ("1", [1])])
def test_a_gpu_that_could_not_be_opened_keeps_its_place(setting: str, expected: list[int]) -> None:
    """An unknown UUID is found under no name, and the ordinals after it stay what they are."""
    assert visible(setting, [A, "", C, D]) == expected


@pytest.mark.parametrize("setting", [None, "0", "GPU-", "MIG-x"])
def test_a_machine_without_gpus_leaves_none(setting: str | None) -> None:
    """Nothing comes from nothing."""
    assert visible(setting, []) == []


ENTRIES = st.one_of(
    st.integers(-2, 9).map(str),
    st.sampled_from([A, B, C, "GPU-", "GPU-5a1e", "GPU-7", f"MIG-{A}/1/0", f"MIG-{B}/0", "MIG-77", "", " 1", "none"]),
    st.text(max_size=12),
)


@settings(deadline=None)
@given(
    setting=st.lists(ENTRIES, max_size=6).map(",".join) | st.text(max_size=40),
    uuids=st.lists(st.sampled_from([*MACHINE, ""]), max_size=6),
)
def test_visible_is_always_possible(setting: str, uuids: list[str]) -> None:
    """Whatever is written there, no GPU is named twice and none that the machine has not got."""
    chosen = visible(setting, uuids)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(range(len(uuids)))


@pytest.mark.parametrize("driver", ["580.95.05", None])
def test_attributes_are_those_of_the_rows(driver: str | None) -> None:
    """A device and its sensors carry what their rows allow; what the driver does not tell is left out, not empty."""
    identity = Identity(A, 3, "NVIDIA H100", "NVIDIA", driver)
    device, sensor = identity.device(), identity.sensor("temperature", "gpu")
    assert set(device) <= set(rows.ENERGY.attributes)
    assert set(sensor) == set(rows.TEMPERATURE.attributes) - ({"hw.driver_version"} if driver is None else set())
    assert ("hw.driver_version" in device) is (driver is not None)
    assert (device["hw.id"], device["hwmetrics.gpu.index"], device["hw.type"]) == (A, 3, "gpu")
    assert (sensor["hw.id"], sensor["hw.parent"]) == (f"{A}/temperature/gpu", A)
