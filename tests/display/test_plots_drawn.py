# SPDX-License-Identifier: Apache-2.0
"""Pages, PNG and SVG: whole, of themselves, and what was recorded does nothing in them. A browser opens them in tests/browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import recorded
from otel_hwmetrics.display.plots import interactive, page, still
from otel_hwmetrics.display.plots.draw import Drawn, Subject, Wish, draw
from otel_hwmetrics.display.plots.picture import (
    Band,
    Bars,
    Dashboard,
    Heading,
    Lanes,
    Line,
    Mark,
    Panel,
    Picture,
    Stretch,
    Strip,
    Style,
    Timeline,
)
from otel_hwmetrics.recording import RecordingError, open_run
from otel_hwmetrics.recording.nouns import SUMMARY, Job
from recorded import SECOND, START

HOSTILE = (
    "<script>alert(1)</script>",
    '</script><img src=x onerror="alert(1)">',
    "<a href='javascript:alert(1)'>x</a>",
    "<b>bold</b> & <br> %{y} %{meta} $x^2$ {curly}",
    "<!-- <script>",
    "line\nbreak\r\x1b[31m\u2028\u202e\x00",
    "_underscore",
    "$\\frac",
    "模型训练 🚀",
    "x" * 5000,
)
LINES = 40


def timeline(text: str) -> Timeline:
    """A picture with a text at each place where one can be."""
    times = START + SECOND * np.arange(LINES)
    values = np.linspace(0.0, 9.0, LINES)
    values[20] = np.nan
    line = Line(text, times, values, "#3b82f6")
    group = Line(text, times, values, "#f97316", Style.FINE, text)
    asked = Line(f"{text} asked for", times[[0, -1]], np.array([8.0, 8.0]), "#dc2626", Style.ASKED, shown=False)
    stretch = Stretch(0, START, START + 20 * SECOND, text, (text, text))
    lanes = Lanes("Alerts", 1, (Strip(text, "#dc2626", (stretch,), marked=True),))
    return Timeline(
        Heading(text, (text, text), (text,)),
        (Panel(text, "GiB", (group, asked, line)), Panel("°C", "°C", (line,), floor=None)),
        START,
        START + LINES * SECOND,
        (lanes,),
        (Band(START, START + SECOND, "#3b82f6", 0.1),),
        (Mark(START, "#dc2626"),),
    )


def summary(text: str) -> Dashboard:
    """Likewise."""
    bars = Bars("CPU", "%", (250.0, None), (100.0, None), (400.0, None))
    return Dashboard(Heading(text, (text,)), (f"1 {text}", f"2 {text}"), (bars, Bars("Runtime", "h", (1.0, 2.0))))


class Elements(HTMLParser):
    """The elements of a page, and what is in its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        """Remember it."""
        if self.found and self.found[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without 5 MB of library in each page that a test goes through."""
    page._hash.cache_clear()
    monkeypatch.setattr(page, "_library", lambda: "/* plotly.js */")
    yield
    page._hash.cache_clear()


@pytest.mark.parametrize("make", [timeline, summary])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_is_markup(small: None, text: str, make: Any) -> None:
    """The elements of a page are the same whatever was recorded, and so are those that plotly makes of its texts."""
    drawn, usual = Elements(interactive.draw(make(text), text)), Elements(interactive.draw(make("usual"), "name"))
    assert drawn.found == usual.found
    assert len(drawn.scripts) == 3
    told, other = (json.loads(each.scripts[0]) for each in (drawn, usual))
    go.Figure(told["data"], told["layout"])  # plotly takes each of its words
    pairs = zip(texts_of([told["data"], told["layout"]]), texts_of([other["data"], other["layout"]]), strict=True)
    for found, ours in pairs:
        assert (found.count("<"), found.count(">")) == (ours.count("<"), ours.count(">")), found
    for trace in told["data"]:
        assert "%{y} %{meta}" not in trace.get("hovertemplate", "")


def texts_of(part: Any) -> Iterator[str]:
    """Every text of a figure."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for value in part.values():
            yield from texts_of(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from texts_of(value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
@example("&lt;b&gt;")
def test_a_text_is_shown_as_it_is(text: str) -> None:
    """Whoever takes markup for markup sees the text, in one line."""
    safe = page.safe(text)
    assert not set("<>") & set(safe)
    shown = html.unescape(safe)
    assert len(shown.splitlines()) <= 1 or "\u2028" in shown or "\x85" in shown
    if text.isprintable() and len(text) < 40:
        assert shown == text


def test_the_policy_allows_the_scripts_that_are_there(small: None) -> None:
    """By their hashes, and nothing else: no other script, no request, no form."""
    drawn = Elements(interactive.draw(timeline("x"), "name"))
    (policy,) = (each["content"] for tag, each in drawn.found if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in drawn.scripts[1:]
    ]
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == hashes
    assert rules.keys() == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert rules["img-src"] == ["data:", "blob:"]


def test_a_page_has_its_library_within_itself() -> None:
    """Nothing is loaded from anywhere: neither a script nor a font nor a picture."""
    text = interactive.draw(summary("x"), "name")
    assert len(text) > 1_000_000
    drawn = Elements(text)
    assert "plotly.js v" in drawn.scripts[1][:500]
    assert [each for _, each in drawn.found if "src" in each] == []
    assert [each["href"] for _, each in drawn.found if "href" in each] == ["data:,"]


def test_all_points_are_in_the_page(small: None) -> None:
    """With their breaks, by their own times; points that are alone have marks."""
    told = json.loads(Elements(interactive.draw(timeline("x"), "name")).scripts[0])
    lines = [trace for trace in told["data"] if trace["type"] == "scatter" and "meta" in trace]
    assert len(lines) == 4
    x, y = (np.frombuffer(base64.b64decode(lines[0][axis]["bdata"]), np.float64) for axis in "xy")
    assert x.tolist() == [(START + n * SECOND) / 1e6 for n in range(LINES)]
    assert np.isnan(y[20])
    assert y[21] == pytest.approx(21 * 9 / 39)
    assert [trace["visible"] for trace in lines] == [True, "legendonly", True, True]


@pytest.mark.parametrize(("lines", "how", "guides"), [(17, "axis", 0), (19, "overlaying", 1)])
def test_of_many_lines_those_of_one_panel_are_told_of(small: None, lines: int, how: str, guides: int) -> None:
    """And lanes get points for the mouse, since the end of a bar is not where it points."""
    times = START + SECOND * np.arange(3)
    many = tuple(Line(f"GPU {n}", times, np.ones(3), "#3b82f6") for n in range(lines))
    one = timeline("x")
    picture = Timeline(one.heading, (Panel("GPU", "%", many),), one.start_ns, one.end_ns, one.lanes)
    told = json.loads(Elements(interactive.draw(picture, "name")).scripts[0])
    assert told["layout"]["hoversubplots"] == how
    assert sum(trace["marker"] == {"opacity": 0} for trace in told["data"] if "marker" in trace) == guides


@pytest.mark.parametrize(
    ("seconds", "unit", "last"), [(90, "seconds", 90.0), (600, "minutes", 10.0), (36_000, "hours", 10.0)]
)
def test_what_has_passed_is_an_axis_of_numbers(small: None, seconds: int, unit: str, last: float) -> None:
    """In the unit that fits, of both kinds of drawing."""
    line = Line("x", SECOND * np.array([0, seconds]), np.ones(2), "#3b82f6")
    picture = Timeline(Heading("x"), (Panel("CPU", "%", (line,)),), 0, seconds * SECOND, elapsed=True)
    told = json.loads(Elements(interactive.draw(picture, "name")).scripts[0])
    x = np.frombuffer(base64.b64decode(told["data"][0]["x"]["bdata"]), np.float64)
    assert x.tolist() == [0.0, last]
    axis = told["layout"]["xaxis"]
    assert axis["range"] == [pytest.approx(-0.01 * last), pytest.approx(1.01 * last)]
    assert axis["title"]["text"] == f"{unit} since each job began"
    assert still._at(line.times, picture).tolist() == [0.0, last]


@pytest.mark.parametrize("form", ["png", "svg"])
@pytest.mark.parametrize("text", ["$\\frac <a href='x'>", "_underscore\n模型 🚀\x00", "", "x" * 5000], ids=range(4))
def test_stills_are_whole_whatever_was_recorded(form: str, text: str) -> None:
    """Of the width that was asked for, with no text taken for a formula, and an SVG without scripts or links."""
    for picture in (timeline(text), summary(text)):
        drawn = still.draw(picture, form, 400)
        if form == "png":
            assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
            assert int.from_bytes(drawn[16:20], "big") == 400
        else:
            root = ET.fromstring(drawn)  # noqa: S314 - our own
            tags = {each.tag.rpartition("}")[2] for each in root.iter()}
            assert not tags & {"script", "a", "image", "foreignObject"}
            assert text or still.draw(picture, form, 400) == drawn  # and the same each time


def test_peaks_are_in_a_still() -> None:
    """One look of ten thousand: its pixels are there, and without it they are not."""
    times, values = START + SECOND * np.arange(10_000), np.ones(10_000)

    def pixels(values: Any) -> bytes:
        line = Line("CPU", times, values, "#000000")
        return still.draw(
            Timeline(Heading("x"), (Panel("CPU", "%", (line,), top=100.0),), START, START + 10_000 * SECOND), "png", 600
        )

    flat = pixels(values)
    values[5_003] = 100.0
    assert pixels(values) != flat


def drawn(tmp_path: Path, folder: str = "plots", **wish: Any) -> list[Drawn]:
    """All pictures of the recordings in a folder, as pages."""
    run = open_run(str(tmp_path))
    with run:
        return list(draw([Subject(run)], Wish(str(tmp_path / folder), **wish)))


def test_a_summary_is_all_that_a_summary_gives(small: None, tmp_path: Path) -> None:
    """And it is said of the job that there is nothing over time, and why."""
    recorded.run(tmp_path, who=recorded.about(granularity=SUMMARY))
    told = drawn(tmp_path)
    assert [each.path.rpartition("/")[2] for each in told] == ["", "resource_plot_summary.html"]
    assert (
        told[0].what == "job 1 train: only its summary was recorded, nothing over time (record_granularity = summary)"
    )


def test_files_are_there_as_a_whole_or_not_at_all(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before stays until the new one is written; nothing is left beside."""
    recorded.run(tmp_path)
    drawn(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    assert len(before) == 4

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("otel_hwmetrics.display.plots.draw.os.replace", fails)
    with pytest.raises(OSError, match="No space left"):
        drawn(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()} == before
    assert all(path.stat().st_mode & 0o111 == 0 for path in (tmp_path / "plots").iterdir())


def test_several_runs_are_told_apart(small: None, tmp_path: Path) -> None:
    """Files by the run's id, jobs by its name; from whatever stands there, no path is made."""
    ids = ("../../etc", "2b2b2b2b")
    runs = []
    for number, run_id in enumerate(ids):
        path = recorded.run(tmp_path, 20, who=recorded.about(run_id, name=f"n{number}"), file_name=f"{number}.run.db")
        runs.append(open_run(str(path)))
    told = list(draw([Subject(run) for run in runs], Wish(str(tmp_path / "plots"), "p")))
    for run in runs:
        run.close()
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == [
        "p_2b2b2b2b_job_1.html",
        "p__etc_job_1.html",
        "p_cpu_all_jobs.html",
        "p_memory_all_jobs.html",
        "p_summary.html",
    ]
    assert [each.what for each in told[:2]] == ["job n0 1 train", "job n1 1 train"]


def test_jobs_are_chosen_by_their_numbers(small: None, tmp_path: Path) -> None:
    """One that is not there is named, with those that are."""
    jobs = [Job(number, f"j{number}", started_ns=START, host="node7") for number in (1, 2, 3)]
    recorded.run(tmp_path, 20, jobs=jobs)
    told = drawn(tmp_path, job_ids=(1, 3))
    assert [each.what for each in told if "_job_" in each.path] == ["job 1 j1", "job 3 j3"]
    with pytest.raises(RecordingError, match=r"no job 7 in run train \(1f3a9c2e\); there are: 1, 2, 3"):
        drawn(tmp_path, job_ids=(1, 7))


def test_pictures_are_two_kinds() -> None:
    """Both are drawn by both; a third kind would have to be, too."""
    assert Picture == Timeline | Dashboard
