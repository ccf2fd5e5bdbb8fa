# SPDX-License-Identifier: Apache-2.0
"""Which machine, process and rank a Resource speaks of.

The SDK loads this detector by its entry point when ``OTEL_EXPERIMENTAL_RESOURCE_DETECTORS`` lists ``hwmetrics``; by
hand: ``Resource.create().merge(HardwareResourceDetector().detect())``.
"""

from __future__ import annotations

import socket

from opentelemetry.sdk.resources import Resource, ResourceDetector  # noqa: TID251 - only the SDK itself loads this
from opentelemetry.semconv._incubating.attributes import host_attributes

from otel_hwmetrics.ranks import identity


class HardwareResourceDetector(ResourceDetector):
    """Tells ``host.name``, ``process.pid``, ``process.executable.name``, the ranks that the launcher gave, and the job's id.

    A Resource is made once. What Ray Train sets when the worker runs already is in it only if the SDK is set up after that,
    in the training function; the metrics of the process have it in any case.
    """

    def detect(self) -> Resource:
        """Read them off the process and its environment; loads nothing and asks no network."""
        return Resource({host_attributes.HOST_NAME: socket.gethostname(), **identity()})

    def is_process_dependent(self) -> bool:
        """True: a forked child is another process, for which the SDK (1.44 and later) asks again."""
        return True
