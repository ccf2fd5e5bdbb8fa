# SPDX-License-Identifier: Apache-2.0
"""Meeting the GPUs: every one that the driver shows, which of them are the job's, and the MIG instances on them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from otel_hwmetrics import redaction
from otel_hwmetrics.sources.base import Clock, SourceUnavailable
from otel_hwmetrics.sources.gpu.base import Identity
from otel_hwmetrics.sources.gpu.device import within
from otel_hwmetrics.sources.gpu.nvidia.device import Gpu
from otel_hwmetrics.sources.gpu.nvidia.library import text, why_not
from otel_hwmetrics.sources.gpu.nvidia.ours import Ours
from otel_hwmetrics.sources.gpu.nvidia.visible import Card, Instance, visible

_logger = redaction.logger(__name__)

_MOST_GPUS: Final = 1024
_MOST_INSTANCES: Final = 64
# Beyond what any machine and any board can have: all ones would be asked for one by one, for hours.


@dataclass
class Known:
    """What is known from one meeting to the next.

    Attributes:
        left_out: Numbers of the GPUs that were said to be left out; it is tried again for weeks.
        driver_version: What the driver said last; one that cannot say it now must not make every series another one.
    """

    left_out: set[int] = field(default_factory=set)
    driver_version: str | None = None


def meet(  # noqa: PLR0913, PLR0917 - each is a different part of the world
    nvml: Any, gpus: str, environ: Mapping[str, str], clock: Clock, ours: Ours, known: Known
) -> tuple[list[Gpu], bool]:
    """The GPUs to read, in the driver's order, each followed by its MIG instances; and whether one cannot be opened.

    Args:
        nvml: The module, initialised.
        gpus: The option: ``visible`` or ``all``.
        environ: Where ``CUDA_VISIBLE_DEVICES`` is.
        clock: Stamps readings that know their own time.
        ours: Tells the job's processes.
        known: From earlier meetings, and for later ones.

    Raises:
        SourceUnavailable: There is none, or none that the job may see.
    """
    try:
        count = int(within(nvml.nvmlDeviceGetCount(), _MOST_GPUS, "the number of GPUs"))
    except (nvml.NVMLError, ValueError) as error:
        raise SourceUnavailable("nvidia", *why_not(nvml, error)) from error
    handles: dict[int, Any] = {}
    cards: list[Card] = []
    for index in range(count):
        card = Card("")  # one that cannot be opened keeps its place, or the ordinals after it would be wrong
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            card = _card(nvml, handle)
            handles[index] = handle
        except nvml.NVMLError as error:
            # One GPU that is lost or not ours must not take the others along.
            # Its text is the driver's: asked for here, not by whatever thread a log handler formats on.
            _logger.log(
                logging.DEBUG if index in known.left_out else logging.WARNING,
                "GPU %d cannot be opened and is left out until it can: %s",
                index,
                str(error),
            )
            known.left_out.add(index)
        cards.append(card)
    if not handles:
        raise SourceUnavailable("nvidia", "the driver shows no GPU", "is one passed into the container?")
    driver = known.driver_version = _driver(nvml) or known.driver_version
    met: list[Gpu] = []
    for index, (ordinal, instances) in sorted(_chosen(gpus, environ, cards).items()):
        if index in handles:
            identity = Identity(cards[index].uuid, index, cards[index].model, "NVIDIA", driver, ordinal)
            met.append(Gpu(nvml, handles[index], identity, clock, ours=ours))
            met += _instances(met[-1], [(cards[index].instances[place], nth) for place, nth in instances.items()])
    if not met:
        raise SourceUnavailable(
            "nvidia",
            f"CUDA_VISIBLE_DEVICES={environ.get('CUDA_VISIBLE_DEVICES')!r} leaves this job none of the "
            f"machine's {len(handles)} GPUs",
            "gpus=all reports them all the same",
        )
    return met, len(handles) < count


def again(gpu: Gpu) -> Gpu:
    """The same device by a new handle.

    Raises:
        NVMLError: The driver does not have it back.
    """
    nvml = gpu.nvml
    handle = nvml.nvmlDeviceGetHandleByUUID(gpu.identity.uuid)
    nvml.nvmlDeviceGetUUID(handle)  # a lost GPU may still be found, and then answers nothing
    parent = None if gpu.identity.parent is None else nvml.nvmlDeviceGetHandleByUUID(gpu.identity.parent)
    return Gpu(nvml, handle, gpu.identity, gpu.clock, instance=gpu.instance, parent=parent, ours=gpu.ours)


def _chosen(
    gpus: str, environ: Mapping[str, str], cards: Sequence[Card]
) -> dict[int, tuple[int | None, dict[int, int | None]]]:
    """By card: CUDA's number for it, and for each of its instances that is chosen."""
    chosen: dict[int, tuple[int | None, dict[int, int | None]]] = {}
    if gpus == "all":
        chosen = {index: (None, dict.fromkeys(range(len(card.instances)))) for index, card in enumerate(cards)}
    for choice in visible(environ, cards):
        ordinal, instances = chosen.get(choice.card, (None, {}))
        if choice.instance is None:
            everything = dict.fromkeys(range(len(cards[choice.card].instances)))
            chosen[choice.card] = (choice.ordinal, everything | instances)
        else:
            chosen[choice.card] = (ordinal, instances | {choice.instance: choice.ordinal})
    return chosen


def _instances(gpu: Gpu, chosen: Sequence[tuple[Instance, int | None]]) -> Iterator[Gpu]:
    """The MIG instances of a GPU as devices of their own, with the GPU as parent."""
    nvml, whole = gpu.nvml, gpu.identity
    for instance, ordinal in chosen:
        with contextlib.suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByUUID(instance.uuid)
            identity = Identity(
                instance.uuid,
                whole.index,
                text(nvml.nvmlDeviceGetName(handle)),
                whole.vendor,
                whole.driver_version,
                ordinal,
                parent=whole.uuid,
                part=f"MIG {instance.gpu_instance}/{instance.compute_instance}",
            )
            yield Gpu(
                nvml, handle, identity, gpu.clock, instance=instance.gpu_instance, parent=gpu.handle, ours=gpu.ours
            )


def _card(nvml: Any, handle: Any) -> Card:
    uuid, model = text(nvml.nvmlDeviceGetUUID(handle)), text(nvml.nvmlDeviceGetName(handle))
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        current = 0
    if current != nvml.NVML_DEVICE_MIG_ENABLE:  # anything but on and off is garbage
        return Card(uuid, model)
    return Card(uuid, model, mig=True, instances=tuple(_divided(nvml, handle)))


def _divided(nvml: Any, handle: Any) -> Iterator[Instance]:
    """The instances that this process may see; in a container, those that were passed into it."""
    try:
        most = int(within(nvml.nvmlDeviceGetMaxMigDeviceCount(handle), _MOST_INSTANCES, "the number of MIG devices"))
    except (nvml.NVMLError, ValueError):
        return
    for place in range(most):
        with contextlib.suppress(nvml.NVMLError, ValueError):  # not every place is taken
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            yield Instance(
                text(nvml.nvmlDeviceGetUUID(part)),
                int(within(nvml.nvmlDeviceGetGpuInstanceId(part), _MOST_INSTANCES, "a GPU instance")),
                int(within(nvml.nvmlDeviceGetComputeInstanceId(part), _MOST_INSTANCES, "a compute instance")),
            )


def _driver(nvml: Any) -> str | None:
    try:
        return text(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError:
        return None
