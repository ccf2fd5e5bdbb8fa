# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs: which there are, which of them are the job's, and a look at each.

Tested against scripted answers of amdsmi and trees of files alone: no AMD GPU was at hand.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from otel_hwmetrics import redaction
from otel_hwmetrics.sources.base import Batch, Bench, Clock, Source, SourceUnavailable, Unsupported
from otel_hwmetrics.sources.gpu.amd import gpu_metrics, library, sysfs
from otel_hwmetrics.sources.gpu.amd.device import Gpu
from otel_hwmetrics.sources.gpu.amd.readers import READERS
from otel_hwmetrics.sources.gpu.amd.visible import Node, nodes, settings, visible
from otel_hwmetrics.sources.gpu.base import Identity

_logger = redaction.logger(__name__)

_MODELS: Final = "/usr/share/libdrm/amdgpu.ids"
# The names of AMD's models, by libdrm.


class _Found(NamedTuple):
    """A GPU of the machine: by its files, by the library, or both."""

    card: sysfs.Card | None
    handle: library.Handle | None = None

    @property
    def address(self) -> sysfs.Address | None:
        told = self.handle.address if self.handle is not None else None
        return told or (self.card.address if self.card is not None else None)

    def uuid(self) -> str:
        return (self.handle.uuid if self.handle is not None else "") or (self.card.unique_id if self.card else "")

    def is_integrated(self) -> bool:
        """Whether it is graphics inside a CPU."""
        try:
            return self.card is not None and gpu_metrics.is_integrated(self.card.file("gpu_metrics"))
        except (OSError, Unsupported):
            return False


class AmdSource(Source):
    """The job's AMD GPUs. A driver call may block for as long as the driver likes, so it has a thread of its own."""

    name: ClassVar[str] = "amd"
    may_hang: ClassVar[bool] = True

    def __init__(
        self,
        gpus: str = "visible",
        environ: Mapping[str, str] | None = None,
        clock: Clock = time.monotonic,
        root: str = "/sys",
        models: str = _MODELS,
    ) -> None:
        """Args: gpus: the option; environ: ROCm's variables; clock: stamps readings; root: /sys; models: libdrm's list."""
        self._gpus = gpus
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._root = root
        self._models = models
        self._benches: list[Bench[Gpu]] = []

    def open(self) -> None:
        """Meet the GPUs. Where there is none this lists a directory and touches nothing else.

        Raises:
            SourceUnavailable: No GPU, or none that the job may see.
        """
        cards = list(sysfs.cards(self._root))
        if not cards:
            raise SourceUnavailable(self.name, "no AMD GPU here", "is the amdgpu driver loaded? see dmesg")
        smi, found = self._find(cards)
        gpus = [
            Gpu(identity, self._clock, card=each.card, smi=smi, handle=each.handle.handle if each.handle else None)
            for identity, each in self._choose(found)
        ]
        failing: tuple[type[Exception], ...] = (OSError, ValueError)
        if smi is not None:
            failing = (*failing, smi.AmdSmiException)
        self._benches = [
            Bench(gpu, READERS, expected=failing, phase=place / len(gpus)) for place, gpu in enumerate(gpus)
        ]

    def _find(self, cards: list[sysfs.Card]) -> tuple[Any, list[_Found]]:
        """The library, if there is one, and the machine's GPUs in the order of AMD's tools."""
        try:
            smi = library.load(self._environ)
            handles = list(library.handles(smi))
        except SourceUnavailable as unavailable:
            _logger.info("%s; %s. AMD GPUs are read through /sys", unavailable.reason, unavailable.remedy)
            return None, [_Found(card) for card in cards]
        if not handles:
            _logger.info("amdsmi lists no GPU. AMD GPUs are read through /sys")
            return None, [_Found(card) for card in cards]
        by_address = {card.address: card for card in cards if card.address is not None}
        return smi, [_Found(_card_of(handle.address, by_address), handle) for handle in handles]

    def _choose(self, found: list[_Found]) -> list[tuple[Identity, _Found]]:
        """The job's GPUs, each with what it is called, in the job's order.

        Raises:
            SourceUnavailable: There is none.
        """
        known = nodes(self._root)
        ordinals = self._ordinals(found, known)
        if self._gpus == "visible":
            chosen = self._without_idle_graphics(found, list(ordinals))
            if not chosen:
                reason = f"{settings(self._environ)} leaves this job none of the machine's {len(found)} AMD GPUs"
                remedy = "gpus=all reports them all the same; a container needs /dev/kfd and /dev/dri"
                if ordinals:
                    reason, remedy = "there is no AMD GPU but graphics inside the CPU", "gpus=all reports them"
                raise SourceUnavailable(self.name, reason, remedy)
        else:
            chosen = list(range(len(found)))
        uuids = _distinct([(each.uuid(), each.address) for each in found])
        driver = self._driver()
        return [
            (
                Identity(
                    uuids[index],
                    index,
                    self._model(found[index]),
                    "AMD",
                    (told.driver_version if (told := found[index].handle) else None) or driver,
                    # Without the compute driver nobody numbers them.
                    ordinals.get(index) if known is not None else None,
                ),
                found[index],
            )
            for index in chosen
        ]

    def _ordinals(self, found: list[_Found], known: list[Node] | None) -> dict[int, int]:
        """By the GPU's place in ``found``, in the job's order: the number by which the job calls it."""
        if known is None:
            places: list[int | None] = list(range(len(found)))
            uuids = [each.card.unique_id if each.card is not None else "" for each in found]
        else:
            places = [_place(node.address, found) for node in known]
            uuids = [node.uuid for node in known]
        ordinals: dict[int, int] = {}
        for ordinal, node in enumerate(visible(self._environ, uuids)):
            place = places[node]
            if place is not None:
                ordinals.setdefault(place, ordinal)  # of several parts of one GPU the first
        return ordinals

    def _without_idle_graphics(self, found: list[_Found], chosen: list[int]) -> list[int]:
        """All but graphics inside a CPU beside a GPU that people would train on; those would look idle for ever.

        They stay where ROCm's own variables choose GPUs, since they were then chosen.
        """
        if "ROCR_VISIBLE_DEVICES" in self._environ or self._environ.get("HIP_VISIBLE_DEVICES"):
            return chosen
        discrete = [index for index in chosen if not found[index].is_integrated()]
        nvidia = os.path.isdir(os.path.join(self._root, "bus", "pci", "drivers", "nvidia"))
        return discrete if discrete or nvidia else chosen

    def _model(self, found: _Found) -> str:
        told = found.handle.model if found.handle is not None else ""
        return told or (found.card.model(self._models) if found.card is not None else "AMD GPU")

    def _driver(self) -> str | None:
        try:
            version = sysfs.read(os.path.join(self._root, "module", "amdgpu", "version"))
        except (OSError, Unsupported):  # the kernel's own has no version but the kernel's
            return None
        return version.decode("ascii", "replace").strip() or None

    def read(self) -> Batch:
        """Look at every GPU once. One that fails loses its own readings; one that sleeps is left asleep."""
        batch = Batch()
        for bench in self._benches:
            gpu = bench.subject
            gpu.answers.clear()
            if gpu.card is not None:
                if gpu.card.asleep:
                    continue
                if gpu.card.stale:
                    gpu.card.look()
            bench.read_into(batch, self._clock)
        return batch

    def close(self) -> None:
        """Forget the GPUs. The library is left open for whoever else uses it in this process (`library.load`)."""
        for bench in self._benches:
            if bench.subject.card is not None:
                bench.subject.card.close()
        self._benches = []


def _card_of(address: sysfs.Address | None, by_address: Mapping[sysfs.Address, sysfs.Card]) -> sysfs.Card | None:
    """The files of a GPU that the library knows; parts of a divided one differ in the last number alone."""
    if address is None:
        return None
    return by_address.get(address) or by_address.get(address._replace(function=0))


def _place(address: sysfs.Address, found: Sequence[_Found]) -> int | None:
    """Which of the machine's GPUs that is."""
    for wanted in (address, address._replace(function=0)):
        for place, each in enumerate(found):
            if each.address == wanted:
                return place
    return None


def _distinct(names: list[tuple[str, sysfs.Address | None]]) -> list[str]:
    """A name for each GPU that no other has: its UUID, else where it is.

    Models without a serial number have one UUID for all of a kind.
    """
    counts = Counter(uuid for uuid, _ in names)
    return [
        uuid if uuid and counts[uuid] == 1 else f"PCI-{address}" if address is not None else f"AMD-{place}"
        for place, (uuid, address) in enumerate(names)
    ]
