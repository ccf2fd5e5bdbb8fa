# SPDX-License-Identifier: Apache-2.0
"""Pages of plots, opened from a file in a real Chromium: all there, they answer the mouse, and ask nobody for anything.

Pictures of them stay where ``HWMETRICS_SCREENSHOTS`` names a folder; docs/plot.png is one.
"""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import recorded
from browser import story
from otel_hwmetrics.cli import main
from otel_hwmetrics.recording import open_run
from otel_hwmetrics.recording.nouns import DONE, Job, RecordedAlert, RecordedSpan
from recorded import GIB, SECOND, START

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1240, 900
ZONE_MS = 2 * 3600 * 1000
"""By which the time of the machine that draws the pages differs from UTC; the browser's is another."""
HOSTILE = "<img src=x onerror=window.hit=1><script>window.hit=1</script><a href='javascript:window.hit=1'>%{y}</a>"


def _chromium() -> str:
    """The browser of this machine; of a machine that is ours, such as CI's, one is installed."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
        environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (install, ["apt-get", "update"], install):  # the list of packages may be old, or not there
            subprocess.run(command, env=environ, capture_output=True, check=False, timeout=300)
            if found := shutil.which(NAMES[0]):
                break
    if found is None:
        pytest.skip("there is no Chromium, and it cannot be installed here (apt-get install chromium, as root)")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = _chromium()
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of the story, and its recording beside them."""
    folder = tmp_path_factory.mktemp("story")
    story.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "THERE-2")
        time.tzset()
        assert main(["plot", str(folder), "-o", str(folder)]) == 0
    time.tzset()
    return folder


@dataclass
class Opened:
    """A page, and all that it did beside being shown."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def eval(self, script: str) -> Any:
        """What a script gives, in which ``plot`` is the plot."""
        return self.page.evaluate(f"() => {{ const plot = document.getElementById('plot'); return {script}; }}")

    def until(self, script: str) -> None:
        """Wait for a script to give true; playwright's own way of it needs what the page's policy forbids."""
        deadline = time.monotonic() + 20
        while not self.eval(script):
            assert time.monotonic() < deadline, script
            self.page.wait_for_timeout(20)

    def hover(self, share: float, panel: str = "y") -> str:
        """What is told where the mouse is: so far along the axis of time, in the middle of a panel."""
        place = self.place(share, panel)
        self.page.mouse.move(place[0] - 3, place[1])
        self.page.mouse.move(*place)
        self.until("document.querySelector('.hoverlayer').textContent !== ''")
        self.page.wait_for_timeout(150)  # it follows the mouse at most every 50 ms
        return str(self.eval("document.querySelector('.hoverlayer').textContent"))

    def place(self, share: float, panel: str) -> tuple[float, float]:
        """Where that is in the window; the page is scrolled to it."""
        axis = panel.replace("y", "yaxis")
        self.eval(f"plot.scrollIntoView() ?? window.scrollBy(0, plot._fullLayout.{axis}._offset - 200)")
        left, top, width, offset, height = self.eval(
            f"[plot.getBoundingClientRect().left + plot._fullLayout.xaxis._offset, plot.getBoundingClientRect().top,"
            f" plot._fullLayout.xaxis._length, plot._fullLayout.{axis}._offset, plot._fullLayout.{axis}._length]"
        )
        return left + width * share, top + offset + height / 2

    def axis_of(self, name: str) -> str:
        """The y axis of the panel in which a line is."""
        return str(self.eval(f"plot._fullData.find((trace) => trace.meta === {name!r}).yaxis"))

    def at(self, share: float) -> float:
        """The time at a part of the axis, in nanoseconds."""
        begin, end = self.eval("plot._fullLayout.xaxis.range.map((each) => plot._fullLayout.xaxis.r2l(each))")
        return float((begin + share * (end - begin) - ZONE_MS) * 1e6)


def opened(browser: Browser, path: Path, **how: Any) -> Opened:
    """A page, once it is drawn."""
    page = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, accept_downloads=True, timezone_id="Asia/Tokyo", **how
    ).new_page()
    found = Opened(page)
    page.on("console", lambda said: found.complaints.append(said.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("dialog", lambda dialog: found.complaints.append(dialog.message))
    page.on("request", lambda request: found.requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector(".hoverlayer", state="attached")
    return found


def keep(found: Opened, name: str, **how: Any) -> None:
    """A picture, where somebody wants one."""
    if folder := os.environ.get("HWMETRICS_SCREENSHOTS"):
        found.page.screenshot(path=os.path.join(folder, f"{name}.png"), **how)


def test_every_look_is_in_the_page(browser: Browser, pages: Path) -> None:
    """All traces with all their points, each as it was recorded; and each page asks for itself alone."""
    with open_run(str(pages / f"{story.RUN}-launcher.run.db")) as run:
        samples = run.job_samples(2)
        recording = run.recordings[0]
        names = {each.id: (each.metric, each.attributes["hwmetrics.gpu.index"]) for each in recording.series()}
        series = {names[number]: values for number, (_, values) in recording.values_of(names).items()}
    found = opened(browser, pages / "resource_plot_job_2.html")
    moments = "typeof each.x[0] === 'string' ? each.x.map((at) => Date.parse(at + 'Z')) : each.x"
    traces = found.eval(f"plot._fullData.map((each) => [each.meta ?? each.name, {moments}, Array.from(each.y)])")
    lines = {name: (x, y) for name, x, y in traces}
    assert [name for name, *_ in traces[:4]] == ["fit", "epoch", "validation", "checkpoint"]
    of_gpus = {f"GPU {number} {what}" for number in (0, 1) for what in ("activity", "memory", "power", "temperature")}
    assert of_gpus | {"CPU asked for", "Memory asked for", "GPU memory asked for"} <= lines.keys()
    assert len(traces) == len(lines) + 3  # the marks of three kinds of alerts have the names of their bars
    own = {
        "CPU": [(each.cpu or 0) * 100 for each in samples],
        "Memory": [(each.memory or 0) / GIB for each in samples],
        "Processes": [each.processes for each in samples],
        "GPU activity, mean": [(each.gpu_activity or 0) * 100 for each in samples],
        "GPU memory, all together": [(each.gpu_memory or 0) / GIB for each in samples],
        "GPU temperature, hottest": [each.gpu_temperature for each in samples],
        "GPU power, all together": [each.gpu_power for each in samples],
    }
    for name, wanted in own.items():
        assert lines[name][0] == [each.at_ns / 1e6 + ZONE_MS for each in samples]
        assert lines[name][1] == pytest.approx(wanted)
    first = samples[0].at_ns // SECOND - START // SECOND
    for number in range(story.GPUS):
        busy = series["hw.gpu.utilization", number][first:]
        assert lines[f"GPU {number} activity"][1] == pytest.approx([each * 100 for each in busy])
    epochs = next(trace for trace in traces if trace[0] == "epoch")
    assert len(epochs[1]) == sum(span.name == "epoch" for span in story.spans())
    axis = "plot._fullLayout.xaxis.r2l"  # the browser is in another zone than the pages' maker
    begins = found.eval(
        f"plot._fullLayout.shapes.filter((each) => each.type === 'rect').map((each) => {axis}(each.x0))"
    )
    shaded = [span for span in story.spans() if span.name in {"validation", "checkpoint"}]
    epochs_at = [span.started_ns / 1e6 + ZONE_MS for span in story.spans() if span.name == "epoch"]
    assert sorted(begins) == sorted([*(span.started_ns / 1e6 + ZONE_MS for span in shaded), *epochs_at[1::2]])
    fired = found.eval(f"plot._fullLayout.shapes.filter((each) => each.type === 'line').map((each) => {axis}(each.x0))")
    assert fired == [each.at_ns / 1e6 + ZONE_MS for each in story.alerts() if each.state == "firing"]
    assert found.eval("plot._fullLayout.xaxis.title.text") == "time, UTC+02:00"
    assert found.complaints == []
    assert found.requests == [(pages / "resource_plot_job_2.html").as_uri()]
    keep(found, "job", full_page=True)
    found.page.context.close()


def test_the_mouse_is_told_exact_values(browser: Browser, pages: Path) -> None:
    """Of all panels at the same moment, with the spans and alerts that were open; where it points, by the clock of the run."""
    found = opened(browser, pages / "resource_plot_job_2.html")
    with open_run(str(pages / f"{story.RUN}-launcher.run.db")) as run:
        by_second = {(each.at_ns - START) // SECOND: each for each in run.job_samples(2)}
    axis = found.axis_of("Memory")
    share = (1600 - story.PREPARED) / (story.TRAINED - story.PREPARED) / 1.02 + 0.01 / 1.02
    told = found.hover(share, axis)
    sample = by_second[round((found.at(share) - START) / SECOND)]
    near = [by_second[(sample.at_ns - START) // SECOND + late] for late in (-1, 0, 1)]
    assert any(f"CPU: {(each.cpu or 0) * 100:.1f}%" in told for each in near)
    assert any(f"Memory: {(each.memory or 0) / GIB:.2f} GiB" in told for each in near)
    assert any(f"GPU temperature, hottest: {each.gpu_temperature:.0f} °C" in told for each in near)
    assert any(f"GPU power, all together: {each.gpu_power:,.0f} W" in told for each in near)
    assert told.startswith("2025-10-09 11:20:")
    assert "epoch 211:18:10 to " in told
    assert "warning: gpu_underused (GPU 0)GPU 0 is 42% busy" in told
    assert "critical" not in told
    keep(found, "hover")
    assert found.complaints == []
    found.page.context.close()


def test_time_is_zoomed_in_all_panels_and_lines_are_hidden(browser: Browser, pages: Path) -> None:
    """By drawing a box; a double click takes it back. A click on a GPU in the legend hides all of its lines."""
    found = opened(browser, pages / "resource_plot_job_2.html")
    axis = found.axis_of("CPU")
    (left, middle), (right, _) = (found.place(share, axis) for share in (0.3, 0.5))
    wanted = [found.at(0.3), found.at(0.5)]
    mouse = found.page.mouse
    mouse.move(left, middle)
    mouse.down()
    mouse.move((left + right) / 2, middle + 2, steps=4)
    mouse.move(right, middle + 2, steps=4)
    mouse.up()
    whole = wanted[1] - wanted[0]
    found.until(f"plot._fullLayout.xaxis.r2l(plot._fullLayout.xaxis.range[0]) > {(wanted[0] - whole) / 1e6 + ZONE_MS}")
    found.page.wait_for_timeout(300)
    assert [found.at(0), found.at(1)] == pytest.approx(wanted, abs=whole / 50)
    mouse.dblclick((left + right) / 2, middle)
    found.page.wait_for_timeout(600)
    assert found.at(1) - found.at(0) == pytest.approx(whole * 5, rel=0.01)
    found.page.locator(".legend .traces", has_text="GPU 1").first.locator(".legendtoggle").click()
    found.until("plot._fullData.filter((each) => each.visible === 'legendonly').length === 4")
    hidden = found.eval("plot._fullData.filter((each) => each.visible === 'legendonly').map((each) => each.meta)")
    assert hidden == [f"GPU 1 {what}" for what in ("activity", "memory", "temperature", "power")]
    assert found.complaints == []
    found.page.context.close()


def test_a_picture_is_saved_and_nothing_is_shared(browser: Browser, pages: Path, tmp_path: Path) -> None:
    """As PNG and SVG, by a button each; there is none that sends anything away, and no logo that leads anywhere."""
    found = opened(browser, pages / "resource_plot_job_2.html")
    buttons = found.eval("[...plot.querySelectorAll('.modebar-btn')].map((each) => each.dataset.title.toLowerCase())")
    assert buttons == ["download plot as a png", "download as svg", "zoom", "pan", "zoom in", "zoom out", "reset axes"]
    for place, start in ((0, b"\x89PNG\r\n"), (1, b"<svg")):
        with found.page.expect_download() as download:
            found.page.locator(".modebar-btn").nth(place).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.stem == "resource_plot_job_2"
        assert path.read_bytes().startswith(start)
    assert found.eval("document.querySelectorAll('a[href]').length") == 0
    assert [each for each in found.requests if not each.startswith(("file:", "data:", "blob:"))] == []
    assert found.complaints == []
    found.page.context.close()


@pytest.mark.parametrize(
    ("name", "traces"),
    [
        ("resource_plot_cpu_all_jobs", [["1 prepare", 421], ["2 train", 2281]]),
        ("resource_plot_memory_all_jobs", [["1 prepare", 421], ["2 train", 2281]]),
        ("resource_plot_summary", [["peak", 2], ["mean", 2], ["asked for", 2]]),
    ],
)
def test_pages_of_all_jobs_are_drawn_in_the_dark(
    browser: Browser, pages: Path, name: str, traces: list[list[Any]]
) -> None:
    """Each with its traces; on a machine whose user likes it dark, light on dark."""
    found = opened(browser, pages / f"{name}.html", color_scheme="dark")
    assert found.eval("plot._fullData.slice(0, 3).map((each) => [each.name, each.x.length])") == traces
    paper, ink = (f"plot._fullLayout.{each}" for each in ("paper_bgcolor", "font.color"))
    assert (found.eval(paper), found.eval(ink)) == ("#111827", "#e5e7eb")
    keep(found, f"{name}-dark", full_page=True)
    found.page.emulate_media(color_scheme="light")
    found.until(f"{paper} === '#ffffff'")
    assert found.eval(ink) == "#1f2937"
    keep(found, name, full_page=True)
    assert (found.complaints, len(found.requests)) == ([], 1)
    found.page.context.close()


def test_what_was_recorded_does_nothing(browser: Browser, tmp_path: Path) -> None:
    """Names, spans and alerts that are markup, with a script: they are shown as they are, and the policy is never needed."""
    end = START + 100 * SECOND
    job = Job(1, HOSTILE, HOSTILE, DONE, START, end, end, 0, host=HOSTILE)
    path = recorded.run(tmp_path, 100, who=recorded.about(name=HOSTILE, host=HOSTILE), jobs=[job])
    with pytest.MonkeyPatch.context() as patch:
        span = RecordedSpan("a" * 32, "b" * 16, "", HOSTILE, START, end)
        alert = RecordedAlert(START, HOSTILE, "firing", HOSTILE, HOSTILE, HOSTILE)
        patch.setattr("otel_hwmetrics.recording.Recording.spans", lambda _: [span])
        patch.setattr("otel_hwmetrics.recording.Recording.alerts", lambda _: [alert])
        assert main(["plot", str(path), "-o", str(tmp_path)]) == 0
    for page in (tmp_path / f"resource_plot_{what}.html" for what in ("job_1", "cpu_all_jobs", "summary")):
        found = opened(browser, page)
        share = 0.5
        if "summary" in page.name:
            found.page.mouse.move(500, 200)
        else:
            told = found.hover(share, "y")
            assert "<img src=x" in told or "CPU" in told or "Memory" in told
        assert found.eval("document.querySelectorAll('img, a[href], iframe, object').length") == 0
        assert found.eval("document.querySelectorAll('script').length") == 3
        assert found.eval("window.hit") is None
        assert found.complaints == []
        assert len(found.requests) == 1
        if "_job_1" in page.name:
            assert found.eval("document.querySelector('h1').textContent").startswith("<img src=x onerror=")
            assert "<img src=x" in told
            legend = found.eval("document.querySelector('.legend').textContent")
            assert html.unescape(legend) == legend
            assert "<img src=x" in legend
        found.page.context.close()
