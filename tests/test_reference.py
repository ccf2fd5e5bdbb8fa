# SPDX-License-Identifier: Apache-2.0
"""The pages of docs/reference: they say what the code does, and the code says enough for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

from otel_hwmetrics import sources
from otel_hwmetrics.catalog import METRICS, SCHEMA_URL
from otel_hwmetrics.config import SOURCES
from otel_hwmetrics.model import Metric
from otel_hwmetrics.sources.base import Reader, Source
from otel_hwmetrics.sources.process import ProcessSource
from otel_hwmetrics.sources.system import SystemSource

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(REFERENCE))
    generate, reliability, ways, words = map(import_module, ("generate", "reliability", "ways", "words"))

WAYS = ways.all_ways()
READERS = list(dict.fromkeys((way.source, way.call, way.where) for found in WAYS.values() for way in found))
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([\w.]*)#([^)]*)\)")


def committed(page: str) -> str:
    """A page as it is in the repository."""
    return (REFERENCE / page).read_text(encoding="utf-8")


def by_name(metric: Metric) -> str:
    """A test's name."""
    return metric.name


@pytest.mark.parametrize("page", generate.PAGES)
def test_a_page_says_what_the_code_does(page: str) -> None:
    """What is committed is what the generator writes now."""
    conventions = SCHEMA_URL.rsplit("/", 1)[1]
    if page == "metrics.md" and f"conventions {conventions} " not in committed(page):
        pytest.skip(f"the page is of other conventions than {conventions}: make docs")
    assert committed(page) == generate.PAGES[page](), "make docs"


def test_the_page_of_faults_says_what_is_tried() -> None:
    """Each row is a case of the suite, in its words."""
    page = (REFERENCE.parent / "reliability.md").read_text(encoding="utf-8")
    assert page == reliability.reliability(), "make docs"


def test_every_page_has_a_generator() -> None:
    """No page is left behind when its generator goes."""
    assert {path.name for path in REFERENCE.glob("*.md")} == set(generate.PAGES)


def test_every_metric_has_one_place() -> None:
    """Who looks a metric up finds it once, in the catalog's order, and what leads to it leads to nothing else."""
    headings = HEADING.findall(generate.metrics())
    names = {metric.name for metric in METRICS}
    assert [heading for heading in headings if heading in names] == [metric.name for metric in METRICS]
    anchors = [words.anchor(heading) for heading in headings]
    assert len(set(anchors)) == len(anchors)


@pytest.mark.parametrize("page", generate.PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every link to a heading, on the same page or another, is to one that is there."""
    pages = {name: text() for name, text in generate.PAGES.items()}
    anchors = {name: {words.anchor(heading) for heading in HEADING.findall(text)} for name, text in pages.items()}
    assert [link for link in LINK.findall(pages[page]) if link[1] not in anchors[link[0] or page]] == []


def is_read(metric: Metric) -> bool:
    """Whether a source reads it, or all that it follows from, or it is known otherwise."""
    if metric in WAYS or metric in ways.JUDGED:
        return True
    derivation = metric.derivation
    parts = [getattr(derivation, name, None) for name in ("of", "by", "over")]
    return derivation is not None and all(is_read(part) for part in parts if part is not None)


@pytest.mark.parametrize("metric", METRICS, ids=by_name)
def test_a_metric_has_a_source(metric: Metric) -> None:
    """No row of the catalog is a promise that nobody keeps."""
    assert is_read(metric)


@pytest.mark.parametrize(("source", "call", "where"), READERS, ids=[f"{source} {call}" for source, call, _ in READERS])
def test_a_reader_says_what_it_reads_and_who_has_it(source: str, call: str, where: str) -> None:
    """People see from where a figure comes, and why theirs may lack it."""
    assert call
    assert where


def test_what_is_read_is_in_the_catalog() -> None:
    """What a source reads has a row, and so an instrument."""
    assert [metric.name for metric in WAYS if metric not in METRICS] == []


def test_sources_are_called_as_their_option_calls_them() -> None:
    """Who reads on the page which source has a metric can ask for it."""
    assert {source for source, _ in ways.TABLES} == set(SOURCES)


def readers_in(value: object) -> Iterator[Reader[object]]:
    """The readers in a table, however it is built."""
    if isinstance(value, Reader):
        yield value
    elif isinstance(value, Mapping):
        yield from readers_in(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from readers_in(each)


def chain(reader: object) -> Iterator[int]:
    """A row of a table and what stands in for it, by their identities."""
    while reader is not None:
        yield id(reader)
        reader = getattr(reader, "instead", None)


def test_no_reader_is_forgotten() -> None:
    """Every reader in a table of any source is on the page."""
    told = {identity for _, table in ways.TABLES for row in ways.rows_of(table) for identity in chain(row)}
    for module in walk_packages(sources.__path__, f"{sources.__name__}."):
        for name, value in vars(import_module(module.name)).items():
            assert [reader for reader in readers_in(value) if id(reader) not in told] == [], f"{module.name}.{name}"


@pytest.mark.parametrize("source", [SystemSource(), ProcessSource()], ids=lambda source: source.name)
def test_the_page_knows_which_gauges_are_of_a_moment(source: Source) -> None:
    """A reading whose stretch of time has no length is exported as it is, not as a mean: so says the page."""
    source.open()
    try:
        readings = source.read().readings
    finally:
        source.close()
    told = {reading.metric for reading in readings}
    assert {reading.metric for reading in readings if reading.since == reading.at} == words.OF_A_MOMENT & told


def test_no_meaning_outlives_its_attribute() -> None:
    """What is explained is an attribute of some metric."""
    used = {key for metric in METRICS for key in metric.attributes}
    explained: Iterable[str] = [*words.MEANINGS, *(key for keys in words.NARROWER.values() for key in keys)]
    assert [key for key in explained if key not in used] == []
