# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs as a source: opening the driver's library, asking each GPU, and having them back after they were away.

Handles, names and UUIDs are asked for once, and again only when a GPU or the whole driver has gone and may be back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog.xid import UNKNOWN
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.base import Batch, Clock, Source, SourceUnavailable
from otel_hwmetrics.sources.gpu.nvidia.board import Board
from otel_hwmetrics.sources.gpu.nvidia.discovery import again, meet
from otel_hwmetrics.sources.gpu.nvidia.event_set import Key
from otel_hwmetrics.sources.gpu.nvidia.events import EventWatch
from otel_hwmetrics.sources.gpu.nvidia.library import load, why_not
from otel_hwmetrics.sources.gpu.nvidia.ours import Ours

_logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to have a lost GPU back, at first and at most; in between they double."""

RELEASE_TIMEOUT: Final = 0.2
"""Seconds that starting NVML anew waits for the thread that hears of events; the next attempt finds it gone."""
COUNTED_ELSEWHERE: Final = {"single_bit_ecc", "double_bit_ecc", "single_bit_ecc_storm"}
"""Events of which the GPU itself keeps count, over its whole life."""


class NvidiaSource(Source):
    """The job's NVIDIA GPUs. A driver call may block for as long as the driver likes, so it has a thread of its own.

    Args:
        gpus: The option: ``visible`` or ``all``.
        environ: Where ``CUDA_VISIBLE_DEVICES`` is; the process's own by default.
        clock: Stamps the readings.
        ours: Tells the job's processes; this one and what it starts by default.
    """

    name: ClassVar[str] = "nvidia"
    may_hang: ClassVar[bool] = True

    def __init__(
        self,
        gpus: str = "visible",
        environ: Mapping[str, str] | None = None,
        clock: Clock = time.monotonic,
        ours: Ours | None = None,
    ) -> None:
        self._gpus = gpus
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._ours = ours or Ours()
        self._nvml: Any = None
        self._boards: list[Board] = []
        self._watch: EventWatch | None = None
        self._heard: dict[Key, Series] = {}
        self._pause = FIRST_PAUSE
        self._ask_again_at = 0.0

    def open(self) -> None:
        """Load NVML and meet the GPUs. Without persistence mode the driver may take seconds over this.

        Raises:
            SourceUnavailable: No library, no driver, no GPU, or none that the job may see.
        """
        nvml = load()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise SourceUnavailable(self.name, *why_not(nvml, error)) from error
        self._nvml = nvml
        try:
            self._boards = self._meet()
        except BaseException:
            self.close()
            raise
        self._watch = EventWatch(nvml, clock=self._clock)
        self._listen()

    def _listen(self) -> None:
        """Have the events of the GPUs that are there told."""
        if self._watch is not None:
            self._watch.rebind([board.gpu for board in self._boards if not board.lost])

    def _meet(self) -> list[Board]:
        gpus = meet(self._nvml, self._gpus, self._environ, self._clock, self._ours)
        return [Board(gpu, self._clock, number / len(gpus)) for number, gpu in enumerate(gpus)]

    def read(self) -> Batch:
        """Ask every GPU once. A GPU that fails loses its own readings; the others are read all the same."""
        batch = Batch()
        lost = [board for board in self._boards if board.lost]
        if lost and self._clock() >= self._ask_again_at:
            self._have_back(lost)
        for board in self._boards:
            was_lost = board.lost
            board.read_into(batch)
            if board.lost and not was_lost:
                self._pause = FIRST_PAUSE
                self._ask_again_at = self._clock() + self._pause
                _logger.warning("%s does not answer any more: its status is failed", board.gpu.identity.name)
        batch.readings += self._events()
        return batch

    def _events(self) -> Iterator[Reading]:
        """How often each thing has happened that the driver told of by itself. ECC errors have counters of their own."""
        counts: Counter[Key] = Counter()
        for (uuid, kind, code), count in (self._watch.counts() if self._watch is not None else {}).items():
            if kind not in COUNTED_ELSEWHERE:
                # A code that no catalog can have is garbage: it must not make a series of its own.
                counts[uuid, kind, None if code is None else min(code, UNKNOWN)] += count
        at = self._clock()
        for key, count in counts.items():
            series = self._heard.get(key)
            if series is None:
                series = self._series(*key)
                if series is None:
                    continue
                self._heard[key] = series
                # It has been counted from 0: without saying so the first of its kind would be where counting begins.
                yield Reading(series, 0, at)
            yield Reading(series, count, at)

    def _series(self, uuid: str, kind: str, code: int | None) -> Series | None:
        for board in self._boards:
            if board.gpu.identity.uuid == uuid:
                pairs = () if code is None else ((health.XID, code),)
                return board.gpu.series(health.ERRORS, (health.ERROR_TYPE, kind), *pairs)
        return None

    def _have_back(self, lost: list[Board]) -> None:
        """Try to find lost devices again; when all are gone, it was the driver that went."""
        if len(lost) == len(self._boards):
            found = self._begin_anew()
        else:
            found = {board.gpu.identity.uuid: new for board in lost if (new := self._again(board)) is not None}
        # One that is not found stays, and stays failed: a GPU that vanished must not look like one that never was.
        self._boards = [found.pop(board.gpu.identity.uuid, board) for board in self._boards] + list(found.values())
        self._listen()
        for board in lost:
            if board not in self._boards:
                _logger.warning("%s is asked again after it was lost", board.gpu.identity.name)
        if any(board in self._boards for board in lost):
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._ask_again_at = self._clock() + self._pause

    def _again(self, board: Board) -> Board | None:
        try:
            gpu = again(board.gpu)
        except self._nvml.NVMLError:
            return None
        board.close()
        return Board(gpu, self._clock, board.phase)

    def _begin_anew(self) -> dict[str, Board]:
        """Shut NVML down and start it, as after a reload of the driver: handles of the one before are worth nothing."""
        nvml = self._nvml
        for board in self._boards:
            board.close()
        if self._watch is not None:
            self._watch.release(RELEASE_TIMEOUT)  # a use of NVML that is not let go of would keep it as it is
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
        try:
            nvml.nvmlInit()
            return {board.gpu.identity.uuid: board for board in self._meet()}
        except (nvml.NVMLError, SourceUnavailable):
            return {}

    def close(self) -> None:
        """Release NVML, which counts its users; another library's use of it in this process goes on."""
        if self._nvml is not None:
            nvml, self._nvml = self._nvml, None
            boards, self._boards = self._boards, []
            watch, self._watch = self._watch, None
            if watch is not None:
                watch.stop()
            for board in boards:
                board.close()
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError as error:
                _logger.debug("NVML could not be shut down: %s", str(error))
