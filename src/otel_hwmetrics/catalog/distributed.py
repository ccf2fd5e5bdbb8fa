# SPDX-License-Identifier: Apache-2.0
"""How long processes of a training exchange their gradients, by what PyTorch measures of it.

Of single collectives nothing is told. Gloo has no hook for their end; NCCL's wants its events switched on by the
environment before the group is made, holds one hook that cannot be taken back, and is deprecated; and what a call takes
that only hands its work to a GPU is no measure of it. DistributedDataParallel times its own backward pass whichever of
them carries it, for its first ten steps and then for each hundredth.
"""

from __future__ import annotations

from otel_hwmetrics.model import Kind, Metric, Unit

DDP_COMMUNICATION = Metric(
    "hwmetrics.torch.ddp.communication.duration",
    Kind.GAUGE,
    Unit.SECOND,
    "Time from the first exchange of gradients of a backward pass to the end of the last; of the step that "
    "DistributedDataParallel timed last, for a minute.",
)
DDP_EXPOSED = Metric(
    "hwmetrics.torch.ddp.communication.exposed.duration",
    Kind.GAUGE,
    Unit.SECOND,
    "The part of it in which gradients were not computed at the same time, so that the step was longer by it.",
)

METRICS: tuple[Metric, ...] = (DDP_COMMUNICATION, DDP_EXPOSED)
