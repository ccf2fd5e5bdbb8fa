# SPDX-License-Identifier: Apache-2.0
"""Which devices ``CUDA_VISIBLE_DEVICES`` leaves to the job, and by what numbers CUDA calls them.

NVML ignores that variable, so a job on one of eight GPUs would report its neighbours'. CUDA itself is never asked: that
would initialise it. https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables and
https://docs.nvidia.com/datacenter/tesla/mig-user-guide/#cuda-visible-devices
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_HIDE_ALL = {"", "-1", "nodevfiles", "none", "void"}


class Instance(NamedTuple):
    """A MIG instance, as ``MIG-<uuid>`` or, by older drivers, ``MIG-<GPU's uuid>/<gpu instance>/<compute instance>``."""

    uuid: str
    gpu_instance: int
    compute_instance: int


@dataclass(frozen=True)
class Card:
    """A GPU of the machine, at its place in PCI order, which is NVML's.

    Attributes:
        uuid: ``GPU-…``; empty for one that could not be opened, which keeps its place.
        model: Marketing name.
        mig: Whether it is divided into instances.
        instances: Those that can be seen.
    """

    uuid: str
    model: str = ""
    mig: bool = False
    instances: tuple[Instance, ...] = ()


class Choice(NamedTuple):
    """A device that is the job's.

    Attributes:
        card: Its place in PCI order.
        instance: The place of the MIG instance on it; None for the whole GPU.
        ordinal: CUDA's number for it; None where that cannot be known without asking CUDA.
    """

    card: int
    instance: int | None = None
    ordinal: int | None = None


def visible(environ: Mapping[str, str], cards: Sequence[Card]) -> list[Choice]:
    """The devices that the environment leaves to the job, in CUDA's order.

    Ordinals, or UUIDs that may be cut short as long as they stay unique; the list ends at its first invalid entry; an
    entry twice leaves nothing. CUDA counts the fastest GPU first unless ``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``, so on
    a machine of several models an ordinal says nothing here; then, and where an entry names a MIG instance that this
    process cannot see, every GPU is kept rather than the wrong one.
    """
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    in_order = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({card.model for card in cards if card.uuid}) <= 1
    # With MIG, CUDA counts instances, and of those it may take the first alone.
    numbered = in_order and not any(card.mig for card in cards)
    everything = [Choice(index, ordinal=index if numbered else None) for index in range(len(cards))]
    if setting is None:
        return everything
    if setting.strip().lower() in _HIDE_ALL:
        return []
    chosen: list[Choice] = []
    for entry in map(str.strip, setting.split(",")):
        if entry.isdecimal():
            if not in_order:
                return [Choice(index) for index in range(len(cards))]
            found = [Choice(int(entry))] if int(entry) < len(cards) else []
        elif entry.startswith("MIG-"):
            found = _instances(entry, cards)
            if not found and any(card.mig and not card.instances for card in cards):
                return [Choice(index) for index in range(len(cards))]
        else:
            named = entry.startswith("GPU-")
            found = [Choice(index) for index, card in enumerate(cards) if named and card.uuid.startswith(entry)]
        if len(found) != 1:
            break
        if found[0] in chosen:
            return []
        chosen += found
    return [
        Choice(card, instance, None if instance is None and cards[card].mig else ordinal)
        for ordinal, (card, instance, _) in enumerate(chosen)
    ]


def _instances(entry: str, cards: Sequence[Card]) -> list[Choice]:
    """Every MIG instance that an entry may mean."""
    parent, _, ids = entry.removeprefix("MIG-").partition("/")
    if parent.startswith("GPU-"):
        return [
            Choice(index, place)
            for index, card in enumerate(cards)
            if card.uuid.startswith(parent)
            for place, instance in enumerate(card.instances)
            if ids == f"{instance.gpu_instance}/{instance.compute_instance}"
        ]
    return [
        Choice(index, place)
        for index, card in enumerate(cards)
        for place, instance in enumerate(card.instances)
        if instance.uuid.startswith(entry)
    ]
