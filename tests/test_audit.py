# SPDX-License-Identifier: Apache-2.0
"""The audit of dependencies: what it finds, what it passes over and for how long, and that it says whom it could not ask."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import urllib.request
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TODAY = date(2026, 11, 28)
TABLE: dict[str, Any] = {
    "reviewed": date(2026, 11, 1),
    "advisory": [
        {"package": "Some_Thing", "id": "CVE-1", "affected": ["<1.2", ">=2.0rc1,<2.0.3"], "what": "it leaks"},
        {"package": "other", "id": "CVE-2", "affected": ["<9"], "what": "it hangs"},
    ],
}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """The program, as a module."""
    spec = importlib.util.spec_from_file_location("hwmetrics_audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hwmetrics_audit"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("version", "bad"),
    [("1.1.9", True), ("1.2", False), ("2.0rc1", True), ("2.0.2", True), ("2.0.3", False), ("3", False)],
)
def test_a_version_within_a_range_is_found(audit: ModuleType, version: str, bad: bool) -> None:  # noqa: FBT001
    """However its package is spelt."""
    found, said = audit.audit({"these": {audit.Pin("some-thing", version)}}, TABLE, TODAY, {})
    assert [(each.pin.version, each.id) for each in found] == ([(version, "CVE-1")] if bad else [])
    assert said == ["1 versions: these", "asked the table of 2 advisories, reviewed 27 days ago"]


def test_an_exception_has_a_reason_and_an_end(audit: ModuleType) -> None:
    """Until that day it is said and passed over; from then on it is found again. Without either it is no exception."""
    pins = {"these": {audit.Pin("other", "1")}}
    row = {"package": "Other", "id": "CVE-2", "reason": "we do not call it", "until": date(2026, 12, 1)}
    table = {**TABLE, "exception": [row]}
    found, said = audit.audit(pins, table, TODAY, {})
    assert found == []
    assert "passed over: other 1: CVE-2, it hangs; we do not call it (until 2026-12-01)" in said
    assert audit.audit(pins, table, date(2026, 12, 1), {})[0]
    for missing in ("reason", "until"):
        incomplete = {key: value for key, value in row.items() if key != missing}
        with pytest.raises(KeyError, match=missing):
            audit.audit(pins, {**TABLE, "exception": [incomplete]}, TODAY, {})


def test_who_does_not_answer_is_named_and_is_no_finding(audit: ModuleType) -> None:
    """While the others' findings count."""

    def silent() -> list[object]:
        raise audit.Unanswered("no such host")

    withdrawn = audit.Finding(audit.Pin("third", "1"), "yanked", "its makers withdrew it")
    services = {"OSV": silent, "the index": lambda: [withdrawn]}
    found, said = audit.audit({"these": set()}, TABLE, TODAY, services)
    assert found == [withdrawn]
    assert said[-2:] == ["NOT asked OSV, which does not answer: no such host", "asked the index"]


def test_what_osv_answers_is_read(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """One question for all, and the answers in its order; an answer that makes no sense is none."""
    answers = [
        b'{"results": [{}, {"vulns": [{"id": "GHSA-1"}, {"id": "PYSEC-2"}]}]}',
        b"<html>",
        b"[]",
        b'{"results": [{}]}',
    ]
    asked: list[Any] = []

    def urlopen(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        assert isinstance(request.data, bytes)
        asked.append(json.loads(request.data))
        return io.BytesIO(answers[len(asked) - 1])

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    pins = {audit.Pin("b", "2"), audit.Pin("a", "1")}
    assert [(each.pin.name, each.id) for each in audit.by_osv(pins)] == [("b", "GHSA-1"), ("b", "PYSEC-2")]
    assert [query["package"]["name"] for query in asked[0]["queries"]] == ["a", "b"]
    for _ in answers[1:]:
        with pytest.raises(audit.Unanswered):
            audit.by_osv(pins)


PIP_SAYS = (
    "WARNING: The candidate selected for download or install is a yanked version: 'requests' candidate (version 2.32.0 at "
    "https://files.example.com/requests-2.32.0-py3-none-any.whl (from https://example.com/simple/requests/))\n"
    "Reason for being yanked: Yanked due to conflicts with CVE-2024-35195 mitigation\n"
)


@pytest.mark.parametrize("code", [0, 1])
def test_what_pip_says_of_withdrawn_releases_is_read(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Where it could find all of them."""
    told = PIP_SAYS if code == 0 else "ERROR: No matching distribution found for requests==2.32.0\n"
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, code, "", told))
    pins = {audit.Pin("requests", "2.32.0"), audit.Pin("idna", "3.7")}
    if code:
        with pytest.raises(audit.Unanswered, match="No matching distribution"):
            audit.by_index(pins)
    else:
        assert [(each.pin, each.id) for each in audit.by_index(pins)] == [(audit.Pin("requests", "2.32.0"), "yanked")]


def test_the_dependencies_are_found_with_those_of_the_extras_and_their_own(audit: ModuleType) -> None:
    """As they are installed here; not the tools of the tests."""
    names = {pin.name for pin in audit.installed()}
    assert {"psutil", "opentelemetry-api", "opentelemetry-sdk", "protobuf", "apprise", "requests", "urllib3"} <= names
    assert not {"otel-hwmetrics", "pytest", "mypy", "hypothesis"} & names


def test_the_oldest_versions_are_those_that_the_project_allows(audit: ModuleType) -> None:
    """Of the core and of the extras, and the ones that the tests of the oldest install."""
    project = {
        "dependencies": ["psutil>=5.9.6", 'tomli>=2; python_version < "3.11"'],
        "optional-dependencies": {
            "otlp": [],
            "demo": ["rich>=13", "otel-hwmetrics[otlp]"],
            "notify": ["apprise>=2.0.1,<3"],
        },
    }
    pins = audit.oldest(project, "# a comment\nopentelemetry-api==1.38.0\n")
    assert {str(pin.name): pin.version for pin in pins} == {
        "psutil": "5.9.6",
        "tomli": "2",
        "rich": "13",
        "apprise": "2.0.1",
        "opentelemetry-api": "1.38.0",
    }


def test_the_table_can_be_read(audit: ModuleType) -> None:
    """Each row has what is looked at, and no exception is without an end; nobody is asked for that."""
    ended = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py", "--offline"], capture_output=True, text=True, check=False
    )
    assert ended.returncode in (0, 1)
    assert "asked the table of" in ended.stdout
    assert "Traceback" not in ended.stderr
