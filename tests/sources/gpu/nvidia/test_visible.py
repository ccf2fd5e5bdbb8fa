# SPDX-License-Identifier: Apache-2.0
"""Which devices are the job's, in every way in which ``CUDA_VISIBLE_DEVICES`` can be written."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.sources.gpu.nvidia.visible import Card, Choice, Instance, visible

A, B, C, D = (
    "GPU-5a1e0000-0000-4000-8000-000000000000",
    "GPU-5a1e1111-0000-4000-8000-000000000000",
    "GPU-77777777-0000-4000-8000-000000000000",
    "GPU-99999999-0000-4000-8000-000000000000",
)
MACHINE = (A, B, C, D)


def cards_of(setting: str | None, uuids: Sequence[str]) -> list[int]:
    """The GPUs of a machine of one model, without MIG, by their numbers."""
    environ = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    chosen = visible(environ, [Card(uuid, "H100") for uuid in uuids])
    assert [choice.ordinal for choice in chosen] == list(range(len(chosen)))
    assert all(choice.instance is None for choice in chosen)
    return [choice.card for choice in chosen]


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
        pytest.param(f"MIG-{B}/1/0", [], id="MIG where there is none"),
        pytest.param("0,MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f,2", [0], id="ends at MIG where there is none"),
    ],
)
def test_visible(setting: str | None, expected: list[int]) -> None:
    """The GPUs that are left to the job are those that CUDA would leave to it."""
    assert cards_of(setting, MACHINE) == expected


@pytest.mark.parametrize(("setting", "expected"), [("0", [0]), ("2", [2]), ("GPU-7", [2]), ("GPU-5", [0]), ("1", [1])])
def test_a_gpu_that_could_not_be_opened_keeps_its_place(setting: str, expected: list[int]) -> None:
    """An unknown UUID is found under no name, and the ordinals after it stay what they are."""
    assert cards_of(setting, [A, "", C, D]) == expected


@pytest.mark.parametrize("setting", [None, "0", "GPU-", "MIG-x"])
def test_a_machine_without_gpus_leaves_none(setting: str | None) -> None:
    """Nothing comes from nothing."""
    assert cards_of(setting, []) == []


ENTRIES = st.one_of(
    st.integers(-2, 9).map(str),
    st.sampled_from([A, B, C, "GPU-", "GPU-5a1e", "GPU-7", f"MIG-{A}/1/0", f"MIG-{B}/0", "MIG-77", "", " 1", "none"]),
    st.text(max_size=12),
)


@settings(deadline=None)
@given(
    setting=st.lists(ENTRIES, max_size=6).map(",".join) | st.text(max_size=40),
    order=st.sampled_from([{}, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}]),
    cards=st.lists(
        st.builds(
            Card,
            st.sampled_from([*MACHINE, ""]),
            st.sampled_from(["H100", "A100"]),
            st.booleans(),
            st.lists(
                st.builds(Instance, st.sampled_from(["MIG-77", "MIG-78"]), st.just(1), st.just(0)), max_size=2
            ).map(tuple),
        ),
        max_size=6,
    ),
)
def test_visible_is_always_possible(setting: str, order: dict[str, str], cards: list[Card]) -> None:
    """Whatever is written there, no device is named twice and none that the machine has not got."""
    chosen = visible({"CUDA_VISIBLE_DEVICES": setting, **order}, cards)
    devices = [(choice.card, choice.instance) for choice in chosen]
    assert len(set(devices)) == len(devices)
    for card, instance in devices:
        assert 0 <= card < len(cards)
        assert instance is None or 0 <= instance < len(cards[card].instances)


MIXED = [Card(A, "H100"), Card(B, "T4"), Card(C, "H100")]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, [Choice(0), Choice(1), Choice(2)]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, [Choice(0), Choice(1), Choice(2)]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-77"}, [Choice(2, ordinal=0)]),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [Choice(1, ordinal=0)]),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [Choice(0, None, 0), Choice(1, None, 1), Choice(2, None, 2)]),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, [Choice(0), Choice(1), Choice(2)]),
    ],
)
def test_cuda_counts_the_fastest_first(environ: dict[str, str], expected: list[Choice]) -> None:
    """On a machine of several models an ordinal says nothing unless the order is PCI's: no GPU is left out then."""
    assert visible(environ, MIXED) == expected


DIVIDED = Card(B, "A100", mig=True, instances=(Instance("MIG-b0", 1, 0), Instance("MIG-b1", 2, 0)))
UNSEEN = Card(B, "A100", mig=True)


@pytest.mark.parametrize(
    ("setting", "cards", "expected"),
    [
        (None, [Card(A, "A100"), DIVIDED], [Choice(0), Choice(1)]),
        ("MIG-b1", [Card(A, "A100"), DIVIDED], [Choice(1, 1, 0)]),
        ("MIG-b1,MIG-b0", [Card(A, "A100"), DIVIDED], [Choice(1, 1, 0), Choice(1, 0, 1)]),
        ("MIG-b1,MIG-b1", [Card(A, "A100"), DIVIDED], []),
        ("MIG-b", [Card(A, "A100"), DIVIDED], []),
        ("MIG-zz", [Card(A, "A100"), DIVIDED], []),
        (f"MIG-{B}/2/0", [Card(A, "A100"), DIVIDED], [Choice(1, 1, 0)]),
        (f"MIG-{B}/2/1", [Card(A, "A100"), DIVIDED], []),
        (f"MIG-{B}/1/0,MIG-{A}/1/0", [Card(A, "A100"), DIVIDED], [Choice(1, 0, 0)]),
        ("1", [Card(A, "A100"), DIVIDED], [Choice(1)]),
        ("0", [Card(A, "A100"), DIVIDED], [Choice(0, None, 0)]),
        (f"{A},MIG-b0", [Card(A, "A100"), DIVIDED], [Choice(0, None, 0), Choice(1, 0, 1)]),
        ("MIG-c6d4f1ef", [Card(A, "A100"), UNSEEN], [Choice(0), Choice(1)]),
    ],
)
def test_mig_instances(setting: str | None, cards: list[Card], expected: list[Choice]) -> None:
    """By UUID or by the older name; where instances cannot be seen every GPU is kept rather than the wrong one."""
    environ = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    assert visible(environ, cards) == expected
