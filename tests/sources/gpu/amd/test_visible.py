# SPDX-License-Identifier: Apache-2.0
"""Which GPUs ROCm leaves to a job, in every way in which its variables can be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.sources.gpu.amd.sysfs import Address
from otel_hwmetrics.sources.gpu.amd.visible import Node, nodes, visible

A, B, C, D = "GPU-5a1e000000000001", "GPU-5a1e111100000002", "GPU-77aabbcc00000003", ""
MACHINE = (A, B, C, D)
"""Four GPUs, the last of a model without a serial number."""

ROCR = [
    pytest.param("", [], id="empty leaves none"),
    pytest.param("0", [0], id="one"),
    pytest.param("2,0", [2, 0], id="in their order"),
    pytest.param(" 1 , 3 ", [1, 3], id="spaces"),
    pytest.param("0,1,2,3", [0, 1, 2, 3], id="all"),
    pytest.param("1,4,2", [1], id="ends at one out of range"),
    pytest.param("-1", [], id="minus one"),
    pytest.param("1,-1,2", [1], id="ends at minus one"),
    pytest.param("1,,2", [1], id="ends at an empty entry"),
    pytest.param("1,", [1], id="a comma at the end"),
    pytest.param("1,x,2", [1], id="ends at a word"),
    pytest.param("1.0", [], id="a fraction"),
    pytest.param("0x2,1", [2, 1], id="hexadecimal"),
    pytest.param("03", [3], id="octal"),
    pytest.param("08", [], id="no octal"),
    pytest.param("0,1,0,2", [0, 1], id="ends at one that was there"),
    pytest.param(C, [2], id="a UUID"),
    pytest.param(C.lower(), [2], id="in any case"),
    pytest.param("gpu-77", [2], id="cut short"),
    pytest.param("GPU-5a1e", [], id="cut short too far"),
    pytest.param("0,GPU-5a1e,2", [0], id="ends at an ambiguous one"),
    pytest.param("GPU-", [], id="no more than its beginning"),
    pytest.param("G", [], id="shorter still"),
    pytest.param(C + "0", [], id="too long"),
    pytest.param("GPU-99", [], id="another machine's"),
    pytest.param(f"{C},2,1", [2], id="a UUID and its own number"),
]
"""Values of ROCR_VISIBLE_DEVICES and what they leave."""

HIP = [
    pytest.param("", [0, 1, 2, 3], id="empty is not set"),
    pytest.param("0", [0], id="one"),
    pytest.param("2,0", [2, 0], id="in their order"),
    pytest.param("1, 3", [1], id="ends at a space"),
    pytest.param("-1", [], id="minus one leaves none"),
    pytest.param("1,4,2", [1], id="ends at one out of range"),
    pytest.param("1,,2", [1], id="ends at an empty entry"),
    pytest.param("0x1", [], id="no hexadecimal"),
    pytest.param("01", [], id="no leading zero"),
    pytest.param("0,1,0,2", [0, 1, 2], id="one that was there counts once"),
    pytest.param(C, [2], id="a UUID"),
    pytest.param("GPU-5a1e", [0], id="the first that it fits"),
    pytest.param("GPU-77AA", [], id="in its own case"),
    pytest.param("GPU-99", [], id="another machine's"),
]
"""Values of HIP_VISIBLE_DEVICES, or CUDA_VISIBLE_DEVICES, and what they leave."""


@pytest.mark.parametrize(("setting", "expected"), ROCR)
def test_the_runtimes_variable(setting: str, expected: list[int]) -> None:
    """What is left to the job is what ROCm's runtime would leave to it."""
    assert visible({"ROCR_VISIBLE_DEVICES": setting}, MACHINE) == expected


@pytest.mark.parametrize("variable", ["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"])
@pytest.mark.parametrize(("setting", "expected"), HIP)
def test_hips_variables(variable: str, setting: str, expected: list[int]) -> None:
    """What is left to the job is what HIP would leave to it."""
    assert visible({variable: setting}, MACHINE) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"ROCR_VISIBLE_DEVICES": "3,1,0", "HIP_VISIBLE_DEVICES": "1"}, [1]),
        ({"ROCR_VISIBLE_DEVICES": "3,1,0", "CUDA_VISIBLE_DEVICES": "2,0"}, [0, 3]),
        ({"ROCR_VISIBLE_DEVICES": "2", "HIP_VISIBLE_DEVICES": "2"}, []),
        ({"HIP_VISIBLE_DEVICES": "2", "CUDA_VISIBLE_DEVICES": "1"}, [2]),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "1"}, [1]),
        ({"GPU_DEVICE_ORDINAL": "1"}, [0, 1, 2, 3]),
    ],
)
def test_one_variable_counts_in_what_the_other_left(environ: dict[str, str], expected: list[int]) -> None:
    """The runtime's is taken first; of HIP's two the first that is not empty."""
    assert visible(environ, MACHINE) == expected


ENTRIES = st.one_of(
    st.integers(-2, 9).map(str),
    st.sampled_from([A, B, C, "GPU-", "G", "gpu-5", "0x1", "00", "+1", " "]),
    st.text(max_size=24),
)
SETTINGS = st.none() | st.lists(ENTRIES, max_size=6).map(",".join) | st.text(max_size=40)


@settings(deadline=None)
@given(rocr=SETTINGS, hip=SETTINGS, cuda=SETTINGS, uuids=st.lists(st.sampled_from(MACHINE), max_size=6))
def test_visible_is_always_possible(rocr: str | None, hip: str | None, cuda: str | None, uuids: list[str]) -> None:
    """Whatever is written there, no GPU is named twice and none that the machine has not got."""
    named = {"ROCR_VISIBLE_DEVICES": rocr, "HIP_VISIBLE_DEVICES": hip, "CUDA_VISIBLE_DEVICES": cuda}
    chosen = visible({name: value for name, value in named.items() if value is not None}, uuids)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(range(len(uuids)))


# The compute driver's list.


def _node(root: Path, number: int, properties: bytes | None) -> None:
    path = root / "class" / "kfd" / "kfd" / "topology" / "nodes" / str(number)
    path.mkdir(parents=True)
    if properties is not None:
        (path / "properties").write_bytes(properties)


def test_nodes(tmp_path: Path) -> None:
    """GPUs in the order of their numbers (10 comes after 9); CPUs and what may not be read are left out."""
    _node(tmp_path, 0, b"cpu_cores_count 64\nsimd_count 0\n")
    _node(tmp_path, 10, b"simd_count 416\ndomain 1\nlocation_id 33536\nunique_id 5690253049246929345\n")
    _node(tmp_path, 9, b"simd_count 416\nlocation_id 768\nunique_id 0\n")
    _node(tmp_path, 3, None)
    _node(tmp_path, 4, b"")
    _node(tmp_path, 5, b"\xff\xfe rubbish\nsimd_count\n")
    _node(tmp_path, 6, b"simd_count many\n")
    assert nodes(str(tmp_path)) == [
        Node(Address(0, 0x03, 0, 0), ""),
        Node(Address(1, 0x83, 0, 0), "GPU-4ef7d700027251c1"),
    ]


def test_without_the_compute_driver(tmp_path: Path) -> None:
    """No list is something else than an empty one."""
    assert nodes(str(tmp_path)) is None
    _node(tmp_path, 0, None)
    assert nodes(str(tmp_path)) == []
