# SPDX-License-Identifier: Apache-2.0
"""One of a job's processes on a node speaks for what they share; each speaks for itself.

What is shared is told by *offices*: the node's, the container's, and each GPU's own, for a rank may see GPUs that another
does not. An office is a file lock, which the kernel frees when its holder dies, however it dies; so another rank has it at
its next look. The holder leaves where the counters stand, and they go on from there.
"""

from otel_hwmetrics.election.emitter import Emitter
from otel_hwmetrics.election.jobs import Job, job_of
from otel_hwmetrics.election.succession import Ledger

__all__ = ["Emitter", "Job", "Ledger", "job_of"]
