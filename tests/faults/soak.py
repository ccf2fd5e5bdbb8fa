# SPDX-License-Identifier: Apache-2.0
"""The soak: a simulated 55 hours of looks at scripted GPUs, in which everything goes wrong again and again.

    python -m faults.soak [--looks N] [--seed N] [--everything]

A process of its own, so that its memory is its own. Real are the pipeline with its threads, the SDK, the rules, the
files, the children; scripted are the GPUs and the time. In the middle half of the looks there is one pipeline, as in a
job of weeks; before and after it they come and go. It prints one line of JSON, or what was lost, with seed and look.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, set_span_in_context

import otel_hwmetrics as hw
from faults.soak_books import PATIENCE, Books, Callbacks, Lines, Lost, Records, Spans
from faults.soak_chaos import Chaos, World, source_thread_dies
from faults.soak_gpus import board
from faults.soak_scales import Scales
from otel_hwmetrics._guard import faults
from otel_hwmetrics.catalog import gpu, own
from otel_hwmetrics.config import resolve
from otel_hwmetrics.model import Series, Snapshot
from otel_hwmetrics.pipeline import Pipeline
from otel_hwmetrics.stepclock import CLOCK
from otel_hwmetrics.testing import FakeNvml, ManualClock

SHORT_LIFE: Final = (300, 3000)
"""Looks of a pipeline that comes and goes."""
EXPORT_EVERY: Final = 300
SOUGHT_EVERY: Final = 20
"""Looks between two in which a GPU's temperature is sought among all that was read."""
SURE: Final = 40
"""Looks in a row that found a GPU to be hot, or cool, after which its alert must fire, or be over."""


class Watched(Pipeline):
    """A pipeline that says how far it is, and what it decided before it tells anybody."""

    def __init__(self, soak: Soak, **options: Any) -> None:
        super().__init__(**options)
        self.soak = soak
        self.looks = self.told = 0
        self.resting = threading.Condition()

    def judge(self, snapshot: Snapshot) -> None:
        """A look was taken."""
        self.looks += 1
        super().judge(snapshot)

    def tell(self) -> None:
        """Its steps are passed on."""
        span = self.soak.open_span()
        self.soak.books.decide(self._judging._steps, span)
        try:
            super().tell()
        finally:
            with self.resting:
                self.told = self.looks
                self.resting.notify_all()

    @property
    def rests(self) -> bool:
        """Whether every look that was asked for is over and told of."""
        sampler = self.sampler
        return sampler._answered == sampler._asked and self.told == self.looks


class Soak:
    """One soak.

    Args:
        looks: How many samples.
        seed: Where all numbers come from.
        everything: Read all that there is of two whole GPUs and of the machine, and not only what is quick.
        files: Where recordings are written.
    """

    def __init__(self, looks: int, seed: int, *, everything: bool, files: Path) -> None:
        self.looks = looks
        self.look = 0
        self.books = Books()
        self._everything = everything
        self._chance = random.Random(seed)  # noqa: S311 - to be had again, not to be guessed
        self._clock = ManualClock(start=1000.0)
        CLOCK._now = self._clock.monotonic
        gpus = [board(self._chance, whole=everything) for _ in range(2 if everything else 1)]
        self._nvml = FakeNvml(gpus, clock=self._clock)
        self._files = files / "recordings"
        self._reader = InMemoryMetricReader()
        self._meters, self._tracers, self._loggers = MeterProvider([self._reader]), TracerProvider(), LoggerProvider()
        self._tracers.add_span_processor(Spans(self.books))
        self._loggers.add_log_record_processor(Records(self.books))
        self._tracer = self._tracers.get_tracer("soak")
        self._open: list[tuple[Span, int, bool]] = []  # with the look at which each ends, and whether it is known
        self._phases: list[tuple[str, int]] = []
        self._sensors: list[Series] = []
        self._sure: dict[tuple[str, bool], int] = {}
        self._lines = Lines(self.books)
        hw.on_alert(Callbacks(self.books))
        world = World(self._clock, self._nvml, self.books, self._files, self._fork)
        self._chaos = Chaos(world, self._chance)
        self.scales = Scales(looks)
        self.lives = self.children = self.certain = self.most_files = 0

    def run(self) -> None:
        """Take all looks.

        Raises:
            Lost: Something did not arrive.
        """
        self._nvml.install()
        try:
            while self.look < self.looks:
                self._live()
            for span, *_ in reversed(self._open):
                span.end(self._clock.time_ns())
            self.books.settle()
        finally:
            self._chaos.mend()
            self._nvml.uninstall()

    def open_span(self) -> int | None:
        """The training span that an alert belongs to now."""
        return next((_identifier(span) for span, _, known in reversed(self._open) if known), None)

    def _length(self) -> int:
        """Of the next pipeline's life, in looks: the middle half is one."""
        begin, end = self.scales.longest
        if begin <= self.look < end:
            return end - self.look
        until = begin if self.look < begin else self.looks
        return min(until - self.look, self._chance.randint(*SHORT_LIFE))

    def _live(self) -> None:
        """The life of one pipeline, and what is left of it."""
        length = self._length()
        dies = self._chance.random() < 0.2
        pipeline = self._pipeline()
        self._chaos.world.pipeline = pipeline
        pipeline.start()
        self._rest(pipeline)
        self.lives += 1
        for left in range(length, 0, -1):
            self.look += 1
            self._chaos.step(self.look)
            if dies and left == 5:  # what a dead thread reads is missing until the next life
                self._chaos.begin(source_thread_dies, self.look)
            self._train()
            self._clock.advance(1)
            pipeline.sampler.fresh(PATIENCE)
            self._rest(pipeline)
            self._judge_for_oneself(pipeline)
            if self.look % EXPORT_EVERY == 0:
                self._export()
            if self.look % self.scales.every == 0:
                self.books.close()
                self.scales.weigh(self.look)
        self._export()
        pipeline.stop()
        self._open = [(span, until, False) for span, until, _ in self._open]
        self.books.forget()
        self._chaos.mend()
        self.books.close()
        self._sure.clear()
        self.scales.rest(self.look)
        if self._files.is_dir():
            self.most_files = max(self.most_files, len(os.listdir(self._files)))

    def _pipeline(self) -> Watched:
        options: dict[str, Any] = {
            # A sample for each time that one is asked for, and no other.
            "sample_interval": 0,
            "snapshot_timeout": PATIENCE,
            "source_timeout": 0.3,
            "directory": str(self._files),
            "sources": ["auto"] if self._everything else ["nvidia", "training"],
            "metrics": ["all"],
            "emit": "always",
        }
        return Watched(
            self,
            config=resolve(options, {}).config,
            meter_provider=self._meters,
            tracer_provider=self._tracers,
            logger_provider=self._loggers,
            clock=self._clock,
        )

    def _rest(self, pipeline: Watched) -> None:
        """Wait until the sampler's thread has nothing to do, so that one thing comes after the other in every run."""
        with pipeline.resting:
            if not pipeline.resting.wait_for(lambda: pipeline.rests, PATIENCE):
                raise Lost("the sampler does not answer")

    def _train(self) -> None:
        """What the job does between two looks."""
        chance, now = self._chance.random(), self._clock.time_ns()
        while self._open and self._open[-1][1] <= self.look:
            self._open.pop()[0].end(now)
        while self._phases and self._phases[-1][1] <= self.look:
            CLOCK.leave(self._phases.pop()[0])
        if not self._open and chance < 0.2:  # so, now and then, an alert finds no span
            self._begin("epoch", self._chance.randint(20, 400))
        elif len(self._open) == 1 and chance < 0.1:
            self._begin(f"train step {self._chance.randint(0, 5000)}", self._chance.randint(1, 5))
        if chance > 0.1:  # else a look without a step
            hw.step()
        if chance > 0.999:  # a thread that ends in the middle of what it does
            thread = threading.Thread(target=self._wander)
            thread.start()
            thread.join()
        if not self._phases and 0.5 < chance < 0.502:
            name = self._chance.choice(("checkpoint", "evaluation", f"mine {self._chance.randint(0, 99)}"))
            self._phases.append((name, self.look + self._chance.randint(1, 60)))
            CLOCK.enter(name)

    def _begin(self, name: str, lasts: int) -> None:
        context = set_span_in_context(self._open[-1][0]) if self._open else None
        span = self._tracer.start_span(name, context, start_time=self._clock.time_ns())
        self._open.append((span, self.look + lasts, True))
        self.books.house(_identifier(span))

    def _wander(self) -> None:
        """What a thread does that nobody waits for: a step, a phase that it does not leave, a span that it does not end."""
        hw.step()
        CLOCK.enter("elsewhere")
        self._tracer.start_span("elsewhere")

    def _judge_for_oneself(self, pipeline: Watched) -> None:
        """Whether what the GPU says leaves no doubt, and the alert is as it must be.

        Raises:
            Lost: An alert did not begin, or did not end.
        """
        latest, before, self._sure = pipeline.sampler.latest, self._sure, {}
        if latest is None:
            return
        if self.look % SOUGHT_EVERY == 0:
            self._sensors = [series for series in latest.points if _is_temperature_of_a_gpu(series)]
        for series in self._sensors:
            point = latest.points.get(series)
            if point is None or point.at != self._clock.monotonic():
                continue
            device = str(series.attributes[gpu.HW_PARENT])
            # In degrees: see `soak_gpus`, and the rule gpu_hot. What is garbled is -1.
            hot, cool = point.value > 83, 50 < point.value < 70
            if hot or cool:
                self._sure[device, hot] = before.get((device, hot), 0) + 1
                if self._sure[device, hot] == SURE:
                    self._hold(pipeline, device, hot=hot)

    def _hold(self, pipeline: Watched, device: str, *, hot: bool) -> None:
        self.certain += 1
        rules = {each.rule.name for each in pipeline._judging._engine.firing if each.subject.key == device}
        over = not rules & {"gpu_hot", "gpu_very_hot"}
        if over is hot and not rules & {"gpu_heat_margin", "gpu_lost"}:  # which say more of the same
            raise Lost(f"{device} is {'hot' if hot else 'cool'} for {SURE} looks, and {rules} fire")

    def _export(self) -> None:
        """One collection, now and then on a thread that is made for it, and what it says of steps."""
        found: list[Any] = []

        def collect() -> None:
            found.append(self._reader.get_metrics_data())

        if self._chance.random() < 0.1:  # a scrape
            thread = threading.Thread(target=collect)
            thread.start()
            thread.join()
        else:
            collect()
        points = (
            point
            for data in found
            if data is not None
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == own.ALERT_TRANSITIONS.name
            for point in metric.data.data_points
        )
        self.books.compare(
            {(point.attributes[own.ALERT_RULE], point.attributes[own.ALERT_STATE]): point.value for point in points}
        )

    def _fork(self) -> None:
        """Have a child, which must have nothing to say."""
        pid = os.fork()
        if pid == 0:
            silent = False
            try:
                pipeline = self._chaos.world.pipeline
                silent = pipeline is not None and pipeline.snapshot is None and self._reader.get_metrics_data() is None
            finally:
                os._exit(not silent)
        _, status = os.waitpid(pid, 0)
        if status:
            raise Lost(f"a forked child speaks, or fails: {os.waitstatus_to_exitcode(status)}")
        self.children += 1


def _is_temperature_of_a_gpu(series: Series) -> bool:
    return series.metric is gpu.TEMPERATURE and series.attributes.get(gpu.HW_SENSOR_LOCATION) == "gpu"


def _identifier(span: Span) -> int:
    return span.get_span_context().span_id


def report(soak: Soak, seconds: float, cpu: float) -> dict[str, Any]:
    """What came of it."""
    books = soak.books
    return {
        "looks": soak.look,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "lives": soak.lives,
        "children": soak.children,
        "faults": dict(soak._chaos.counts),
        "certain": soak.certain,
        "told": books.told,
        "rules": sorted({rule for rule, _ in books.totals}),
        "refused": dict(books.refused),
        "events": dict(books.events),
        "internal": dict(faults),
        "raised": dict(soak._chaos.world.raised),
        "grown": soak.scales.grown,
        "grown_in_life": soak.scales.grown_in_life,
        "during": soak.scales.during,
        "between": soak.scales.between,
        "most_files": soak.most_files,
    }


def main() -> None:
    """Soak, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--looks", type=int, default=200_000, help="how many samples (default 200000)")
    parser.add_argument("--seed", type=int, default=1, help="where all numbers come from (default 1)")
    parser.add_argument("--everything", action="store_true", help="read all that there is of the machine, and two GPUs")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="hwmetrics-soak-") as folder:
        soak = Soak(arguments.looks, arguments.seed, everything=arguments.everything, files=Path(folder))
        began, began_cpu = time.monotonic(), time.process_time()
        try:
            soak.run()
        except BaseException:
            print(f"seed {arguments.seed}, look {soak.look}", file=sys.stderr)  # noqa: T201 - to be found again
            raise
        print(json.dumps(report(soak, time.monotonic() - began, time.process_time() - began_cpu)))  # noqa: T201


if __name__ == "__main__":
    main()
