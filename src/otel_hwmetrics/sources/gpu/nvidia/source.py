# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs as a source: opening the driver's library, asking each GPU, and having them back after they were away.

Handles, names and UUIDs are asked for once, and again only when a GPU or the whole driver has gone and may be back.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from otel_hwmetrics import redaction
from otel_hwmetrics.catalog import gpu_health as health
from otel_hwmetrics.catalog.xid import UNKNOWN
from otel_hwmetrics.model import Reading, Series
from otel_hwmetrics.sources.base import Batch, Clock, Source, SourceUnavailable
from otel_hwmetrics.sources.gpu.nvidia.board import Board
from otel_hwmetrics.sources.gpu.nvidia.discovery import Known, again, meet
from otel_hwmetrics.sources.gpu.nvidia.event_set import Key
from otel_hwmetrics.sources.gpu.nvidia.events import NOT_HERE, EventWatch
from otel_hwmetrics.sources.gpu.nvidia.library import load, why_not
from otel_hwmetrics.sources.gpu.nvidia.ours import Ours

_logger = redaction.logger(__name__)

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to have a lost GPU back, at first and at most; in between they double."""

RELEASE_TIMEOUT: Final = 0.2
"""Seconds that starting NVML anew waits for the thread that hears of events; the next attempt finds it gone."""
HUNG_FOR: Final = 60.0
"""Seconds for which a call into the driver may hang before its GPUs count as failed: the driver has one lock for all of them,
and another monitor, or the creation of a context on eight GPUs, may hold that for some ten seconds at a time."""
DEAF_FOR: Final = 30.0
"""Seconds for which events may go unheard before that is said: starting NVML anew takes some."""
MOST_LINES: Final = 10
"""Lines of the log about one GPU's silences: one that comes and goes does so for weeks, and its status tells of it. So many
about events, too."""
_EVENTS: Final = "events"
COUNTED_ELSEWHERE: Final = {"single_bit_ecc", "double_bit_ecc", "single_bit_ecc_storm"}
"""Events of which the GPU itself keeps count, over its whole life."""


@dataclass
class Outage:
    """A device that does not answer.

    Attributes:
        ask_again_at: When to look for it next, in seconds of the monotonic clock.
        pause: How long after that.
    """

    ask_again_at: float
    pause: float = FIRST_PAUSE


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
        self._holds = False
        self._outages: dict[str, Outage] = {}
        self._lines: Counter[str] = Counter()
        self._deaf_since: float | None = None
        self._deaf_said = False
        self._unopened = False
        self._known = Known()
        self._meet_again_at = 0.0
        self._hung_since: float | None = None

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
        self._nvml, self._holds = nvml, True
        try:
            self._boards = self._meet()
        except nvml.NVMLError as error:  # the driver went in the middle of it
            self.close()
            raise SourceUnavailable(self.name, *why_not(nvml, error)) from error
        except BaseException:
            self.close()
            raise
        self._meet_again_at = self._clock() + LONGEST_PAUSE
        self._watch = EventWatch(nvml, clock=self._clock)
        self._listen()

    def _listen(self) -> None:
        """Have the events of the GPUs that are there told."""
        if self._watch is not None:
            self._watch.rebind([board.gpu for board in self._boards if not board.lost])

    def _meet(self) -> list[Board]:
        gpus, self._unopened = meet(self._nvml, self._gpus, self._environ, self._clock, self._ours, self._known)
        return [Board(gpu, self._clock, number / len(gpus)) for number, gpu in enumerate(gpus)]

    def read(self) -> Batch:
        """Ask every GPU once. A GPU that fails loses its own readings; the others are read all the same."""
        batch = Batch()
        now = self._clock()
        if any(now >= outage.ask_again_at for outage in self._outages.values()):
            self._have_back([board for board in self._boards if board.lost])
        if self._unopened and now >= self._meet_again_at:
            self._meet_others()
        for board in self._boards:
            board.read_into(batch)
            self._keep_account(board)
        self._say_if_deaf(now)
        return batch

    def _say_if_deaf(self, now: float) -> None:
        """Say that events are not heard of, and why, if that lasts; once each time, as long as the log bears it."""
        why = self._watch.why_off if self._watch is not None else None
        if why is None:
            self._deaf_since, self._deaf_said = None, False
        elif self._deaf_since is None:
            self._deaf_since = now
        elif now - self._deaf_since >= DEAF_FOR and not self._deaf_said:
            self._deaf_said = True
            self._lines[_EVENTS] += 1
            if self._lines[_EVENTS] <= MOST_LINES:
                level = logging.INFO if why in NOT_HERE else logging.WARNING
                _logger.log(level, "XIDs and other events of NVIDIA GPUs are not heard of: %s", why)

    def _keep_account(self, board: Board) -> None:
        """Begin an outage where a device has fallen silent, end it where it answers again, and say so once of each."""
        uuid = board.gpu.identity.uuid
        if board.lost and uuid not in self._outages:
            self._outages[uuid] = Outage(self._clock() + FIRST_PAUSE)
            self._say(board, "does not answer any more: its status is failed")
        elif not board.lost and uuid in self._outages:
            del self._outages[uuid]
            self._say(board, "answers again")

    def _say(self, board: Board, what: str) -> None:
        """Say it of a device, as long as the log bears it."""
        self._lines[board.gpu.identity.uuid] += 1
        lines = self._lines[board.gpu.identity.uuid]
        if lines <= MOST_LINES:
            last = ". It comes and goes: from now on its status alone tells of that" if lines == MOST_LINES else ""
            _logger.warning("%s %s%s", board.gpu.identity.name, what, last)

    def aside(self, *, hangs: bool) -> Iterable[Reading]:
        """What the driver told of by itself, and how the GPUs are while a call into it hangs: degraded, and later failed."""
        if hangs:
            yield from self._while_it_hangs()
        else:
            self._hung_since = None
        counts: Counter[Key] = Counter()
        watch = self._watch
        for (uuid, kind, code), count in (watch.counts() if watch is not None else {}).items():
            if kind not in COUNTED_ELSEWHERE:
                # A code that no catalog can have is garbage: it must not make a series of its own.
                counts[uuid, kind, None if code is None else min(code, UNKNOWN)] += count
        at = self._clock()
        for key, count in counts.items():
            series = self._heard.get(key) or self._series(*key)
            if series is not None:
                self._heard[key] = series
                yield Reading(series, count, at)

    def _while_it_hangs(self) -> Iterator[Reading]:
        now = self._clock()
        if self._hung_since is None:
            self._hung_since = now
        for board in tuple(self._boards):
            yield from board.unheard(failed=now - self._hung_since >= HUNG_FOR)

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
            if any(board.gpu.identity.parent is not None for board in lost):
                found |= self._divided_anew()
        # One that is not found stays, and stays failed: a GPU that vanished must not look like one that never was.
        self._boards = [found.pop(board.gpu.identity.uuid, board) for board in self._boards] + list(found.values())
        for board in lost:
            outage = self._outages.setdefault(board.gpu.identity.uuid, Outage(0.0))
            outage.pause = min(outage.pause * 2, LONGEST_PAUSE)
            outage.ask_again_at = self._clock() + outage.pause
        self._listen()

    def _again(self, board: Board) -> Board | None:
        try:
            gpu = again(board.gpu)
        except self._nvml.NVMLError:
            return None
        board.close()
        return Board(gpu, self._clock, board.phase)

    def _divided_anew(self) -> dict[str, Board]:
        """The MIG instances that have come since; those that are gone are let go of, for they were taken away on purpose."""
        met = {board.gpu.identity.uuid: board for board in self._met_again()}
        known = {board.gpu.identity.uuid for board in self._boards}
        gone = [b for b in self._boards if b.lost and b.gpu.identity.parent and b.gpu.identity.uuid not in met]
        for board in gone:
            board.close()
            self._outages.pop(board.gpu.identity.uuid, None)
        self._boards = [board for board in self._boards if board not in gone]
        return {uuid: board for uuid, board in met.items() if uuid not in known}

    def _meet_others(self) -> None:
        """Try once more to open the GPUs that could not be opened at the start."""
        self._meet_again_at = self._clock() + LONGEST_PAUSE
        known = {board.gpu.identity.uuid for board in self._boards}
        others = [board for board in self._met_again() if board.gpu.identity.uuid not in known]
        if others:
            self._boards += others
            self._listen()

    def _met_again(self) -> list[Board]:
        try:
            return self._meet()
        except (self._nvml.NVMLError, SourceUnavailable):
            return []

    def _begin_anew(self) -> dict[str, Board]:
        """Shut NVML down and start it, as after a reload of the driver: handles of the one before are worth nothing."""
        for board in self._boards:
            board.close()
        if self._watch is not None:
            self._watch.release(RELEASE_TIMEOUT)  # a use of NVML that is not let go of would keep it as it is
        self._let_go()
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError:
            return {}
        self._holds = True
        return {board.gpu.identity.uuid: board for board in self._met_again()}

    def _let_go(self) -> None:
        """Give back our use of NVML, if we have one: another's must not be given back in its place."""
        if self._holds:
            self._holds = False
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError as error:
                _logger.debug("NVML could not be shut down: %s", str(error))

    def close(self) -> None:
        """Release NVML, which counts its users; another library's use of it in this process goes on."""
        boards, self._boards = self._boards, []
        for board in boards:
            board.close()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
        self._outages.clear()
        self._let_go()
