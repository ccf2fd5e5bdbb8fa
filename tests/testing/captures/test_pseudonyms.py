# SPDX-License-Identifier: Apache-2.0
"""What identifies is replaced by what only tells apart; what does not is kept."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.testing.captures.pseudonyms import Pseudonyms

UUID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"

TEXTS = {
    # function, field, text, pseudonym
    "uuid of a GPU": ("nvmlDeviceGetUUID", None, f"GPU-{UUID}", "GPU-00000000-0000-4000-8000-000000000001"),
    "uuid of an instance": ("nvmlDeviceGetUUID", None, f"MIG-{UUID}", "MIG-00000000-0000-4000-8000-000000000001"),
    "old uuid of an instance": (
        "nvmlDeviceGetUUID",
        None,
        f"MIG-GPU-{UUID}/7/0",
        "MIG-GPU-00000000-0000-4000-8000-000000000001/7/0",
    ),
    "pci address": ("nvmlDeviceGetPciInfo_v3", "busId", "00000000:C7:00.0", "00000000:01:00.0"),
    "short pci address": ("nvmlDeviceGetPciInfo_v3", "busIdLegacy", "0000:C7:00.0", "0000:01:00.0"),
    "serial number": ("nvmlDeviceGetSerial", None, "1650123456789", "anonymous-1"),
    "process name": ("nvmlSystemGetProcessName", None, "/home/jane/train.py", "anonymous-1"),
    "host name": ("nvmlDeviceGetHostname_v1", "value", "node17.example.org", "anonymous-1"),
    "cluster": ("nvmlDeviceGetGpuFabricInfoV", "clusterUuid", "8a2f00c1", "00000001"),
    "a text of a later driver": ("nvmlDeviceGetOwner_v9", None, "jane", "anonymous-1"),
    "product": ("nvmlDeviceGetName", None, "NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
    "driver": ("nvmlSystemGetDriverVersion", None, "580.95.05", "580.95.05"),
    "nothing": ("nvmlDeviceGetSerial", None, "", ""),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_text_becomes_a_pseudonym_unless_it_is_public(case: str) -> None:
    """By its form where it has one, else by number; a function that is not known to be public is not."""
    function, field, text, pseudonym = TEXTS[case]
    assert Pseudonyms().text(function, field, text) == pseudonym
    assert Pseudonyms(keep=True).text(function, field, text) == text


@given(texts=st.lists(st.text(), max_size=20))
def test_pseudonyms_tell_apart_what_differs_and_nothing_else(texts: list[str]) -> None:
    """Equal texts have equal pseudonyms, different ones different, and none contains a longer text."""
    names = Pseudonyms()
    given_names = [names.text("nvmlDeviceGetSerial", None, text) for text in texts]
    assert len(set(given_names)) == len(set(texts))
    assert [names.text("nvmlDeviceGetSerial", None, text) for text in texts] == given_names
    assert not [
        text for text in texts if len(text) > 1 and any(text in name for name in given_names) and not text.isascii()
    ]


def test_numbers_that_identify() -> None:
    """Process ids are numbered, our own is `self`, no process stays none; other numbers are readings."""
    names = Pseudonyms()
    assert [names.number("nvmlX", "pid", pid) for pid in (777, 888, 777, 0, 2**32 - 1)] == [
        1001,
        1002,
        1001,
        0,
        2**32 - 1,
    ]
    assert names.number("nvmlX", "pid", os.getpid()) == "self"
    assert names.number("nvmlDeviceGetBoardId", None, 0xC700) == 1
    assert names.number("nvmlDeviceGetPlatformInfo", "slotNumber", 12) == 0
    assert names.number("nvmlDeviceGetPowerUsage", None, 777) == 777
    assert names.inputs("nvmlSystemGetProcessName", [888]) == [1002]
    assert names.inputs("nvmlDeviceGetClockInfo", [888]) == [888]


def test_a_pci_address_has_one_pseudonym_in_both_ways() -> None:
    """Written as numbers and written as text, it is the same place."""
    names = Pseudonyms()
    names.text("nvmlDeviceGetPciInfo_v3", "busId", "00000000:01:00.0")
    text = names.text("nvmlDeviceGetPciInfo_v3", "busId", "0000000A:C7:00.0")
    struct = names.struct({"domain": 0xA, "bus": 0xC7, "device": 0, "pciDeviceId": 5})
    assert text == "00000000:02:00.0"
    assert struct == {"domain": 0, "bus": 2, "device": 0, "pciDeviceId": 5}
    assert Pseudonyms(keep=True).struct({"domain": 0xA, "bus": 0xC7, "device": 0}) == {
        "domain": 0xA,
        "bus": 0xC7,
        "device": 0,
    }
