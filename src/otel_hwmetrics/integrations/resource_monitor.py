# SPDX-License-Identifier: Apache-2.0
"""`ResourceMonitorCallback`: the machine every N batches on the console and in CSV files, with the alerts that fire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_hwmetrics._guard import guard
from otel_hwmetrics.integrations.lightning import Numbered, join
from otel_hwmetrics.integrations.resource_settings import Settings
from otel_hwmetrics.integrations.resource_watch import Watch
from otel_hwmetrics.sinks.base import Alert


class ResourceMonitorCallback(Numbered):
    """Shows what the machine does while Lightning trains: lines every ``log_interval`` batches, alerts under them, and CSV.

        Trainer(callbacks=[ResourceMonitorCallback(log_interval=50)])

    Also as ``_target_: otel_hwmetrics.integrations.lightning.ResourceMonitorCallback`` of a Hydra configuration.

    Where no instrumentation runs when ``fit`` begins, one is started with these thresholds and switches, and ended with
    ``fit``; thresholds that are left at their defaults are those of the environment and of files. One that runs is left as it
    is, and its thresholds hold: switches then say what is shown. Only the process of global rank 0 prints and writes, on
    threads beside the training, for which the end of ``fit`` waits a second at most; each calls back on its own alerts.

    Args:
        enabled: Do anything at all; else each hook is one look at an attribute.
        log_interval: Batches of an epoch from one look to the next; the first is one. What was shown already is not shown
            again: where batches are fast, there is a block and a row for each new sample (option ``sample_interval``).
        gpu_monitoring: Show the GPUs, and judge alerts on them.
        cpu_monitoring: Likewise CPUs and memory of the host.
        io_monitoring: Likewise reading and writing.
        alert_gpu_underutilization: Alert on a GPU that is little used for long, or idle.
        alert_memory_pressure: Alert on memory that is nearly full, of GPUs and of the host.
        alert_io_bottleneck: Alert on work that waits for I/O.
        gpu_util_threshold: Least utilization of a GPU, 0 to 1.
        memory_threshold: Most use of memory, 0 to 1.
        io_wait_threshold: Most time of waiting for I/O, 0 to 1.
        export_timeseries: Write ``epoch_N.csv``: step (the number of the batch within the epoch), timestamp (local time), one
            column a figure. Percent are of 100, MB are of 1024 * 1024 bytes.
        timeseries_path: The folder of these files.
        on_alert: Called with each `otel_hwmetrics.Alert` while ``fit`` goes on, on a thread of its own: when it begins to
            fire, and when it is resolved.

    Raises:
        TypeError: ``on_alert`` cannot be called.
        ValueError: ``log_interval`` is less than 1, or a threshold is not between 0 and 1.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - they are what users of such callbacks know
        self,
        enabled: bool = True,  # noqa: FBT001, FBT002 - likewise, in this order
        log_interval: int = 10,
        gpu_monitoring: bool = True,  # noqa: FBT001, FBT002
        cpu_monitoring: bool = True,  # noqa: FBT001, FBT002
        io_monitoring: bool = True,  # noqa: FBT001, FBT002
        alert_gpu_underutilization: bool = True,  # noqa: FBT001, FBT002
        alert_memory_pressure: bool = True,  # noqa: FBT001, FBT002
        alert_io_bottleneck: bool = True,  # noqa: FBT001, FBT002
        gpu_util_threshold: float = 0.5,
        memory_threshold: float = 0.9,
        io_wait_threshold: float = 0.3,
        export_timeseries: bool = True,  # noqa: FBT001, FBT002
        timeseries_path: str = "resource_logs",
        on_alert: Callable[[Alert], object] | None = None,
    ) -> None:
        super().__init__()
        self._watch: Watch | None = None
        self.enabled = enabled
        self.settings = Settings(
            log_interval=log_interval,
            gpu_monitoring=gpu_monitoring,
            cpu_monitoring=cpu_monitoring,
            io_monitoring=io_monitoring,
            alert_gpu_underutilization=alert_gpu_underutilization,
            alert_memory_pressure=alert_memory_pressure,
            alert_io_bottleneck=alert_io_bottleneck,
            gpu_util_threshold=gpu_util_threshold,
            memory_threshold=memory_threshold,
            io_wait_threshold=io_wait_threshold,
            export_timeseries=export_timeseries,
            timeseries_path=timeseries_path,
            on_alert=on_alert,
        )

    def __getstate__(self) -> dict[str, Any]:
        """A copy, in this process or another, watches nothing yet."""
        return {**super().__getstate__(), "_watch": None}

    def setup(self, trainer: Any, _module: Any, stage: str) -> None:
        """A run begins; only ``fit`` is watched."""
        if self.enabled and stage == "fit":
            with guard("beginning to watch a run of lightning"):
                self._end()
                self._watch = Watch(self.settings, trainer)
                self._watch.begin(after=self)

    def on_train_batch_end(self, trainer: Any, _module: Any, _outputs: Any, _batch: Any, batch_idx: int) -> None:
        """A batch was gone through."""
        watch = self._watch
        if watch is not None and batch_idx % watch.interval == 0:
            with guard("looking at the machine for lightning"):
                watch.look(trainer.current_epoch, batch_idx)

    def teardown(self, _trainer: Any, _module: Any, stage: str) -> None:  # noqa: ARG002 - as Lightning calls it
        """The run is over."""
        if self._watch is not None:
            self._end()

    def on_exception(self, _trainer: Any, _module: Any, exception: BaseException) -> None:
        """The run is over by an exception, Ctrl-C or `sys.exit`; Lightning raises it on."""
        if self._watch is not None:
            self._end(exception)

    def _end(self, error: BaseException | None = None) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            with guard("ending to watch a run of lightning"):
                watch.end(error)


join(ResourceMonitorCallback)
