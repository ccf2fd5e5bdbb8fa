# SPDX-License-Identifier: Apache-2.0
"""The audit of dependencies: what it finds, what it passes over and for how long, and that it says whom it could not ask."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import socketserver
import subprocess
import sys
import threading
import time
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
    row = {
        "package": "Other",
        "id": "CVE-2",
        "versions": "<2",
        "reason": "we do not call it",
        "until": date(2026, 12, 1),
    }
    table = {**TABLE, "exception": [row]}
    found, said = audit.audit(pins, table, TODAY, {})
    assert found == []
    assert "passed over: other 1: CVE-2, it hangs; we do not call it (until 2026-12-01)" in said
    assert audit.audit(pins, table, date(2026, 12, 1), {})[0]
    assert audit.audit({"these": {audit.Pin("other", "2")}}, table, TODAY, {})[0]  # it is of those versions alone
    for missing in ("reason", "until", "versions"):
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


def test_where_something_is_missing_nothing_is_passed_over(audit: ModuleType) -> None:
    """Our own package, an extra of it, and what they need: an audit of nothing finds nothing."""
    with pytest.raises(audit.Incomplete, match="no-such-package"):
        audit.installed("no-such-package")
    with pytest.raises(audit.Incomplete, match="no extra nosuch"):
        audit.installed(extras=("notify", "nosuch"))


def test_what_is_needed_and_not_there_is_an_error(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whoever needs it."""
    there = audit.metadata.distribution

    def distribution(name: str) -> object:
        if name == "urllib3":
            raise audit.metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(audit.metadata, "distribution", distribution)
    with pytest.raises(audit.Incomplete, match="urllib3, which requests needs"):
        audit.installed()


class Answer(socketserver.BaseRequestHandler):
    """Says something, whatever it is asked, and the rest drop by drop."""

    said = b""
    drips = False

    def handle(self) -> None:
        """Answer one."""
        self.request.recv(65536)
        self.request.sendall(self.said)
        with contextlib.suppress(OSError):
            while self.drips:
                self.request.sendall(b" ")
                time.sleep(0.02)


@pytest.mark.parametrize(
    ("said", "drips"),
    [
        pytest.param(b"SSH-2.0-x\r\n\r\n", False, id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", False, id="cut off"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", False, id="cut off in a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{", True, id="drop by drop"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", True, id="headers drop by drop"),
        pytest.param(b"", False, id="nothing"),
    ],
)
def test_a_service_that_answers_badly_has_not_answered(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    said: bytes,
    drips: bool,  # noqa: FBT001
) -> None:
    """And nobody waits for the end of it."""
    handler = type("Handler", (Answer,), {"said": said, "drips": drips})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(audit, "OSV", f"http://127.0.0.1:{server.server_address[1]}/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(audit, "PATIENCE_IN_ALL", 0.3 if drips else 20.0)
        with pytest.raises(audit.Unanswered):
            audit.by_osv({audit.Pin("a", "1")})
        server.shutdown()


def test_an_old_table_is_a_warning_and_no_error(audit: ModuleType) -> None:
    """No day alone makes the checks fail."""
    found, said = audit.audit({"these": {audit.Pin("other", "9")}}, TABLE, date(2040, 1, 1), {})
    assert found == []
    assert [line for line in said if line.startswith("warning: ")]
    assert not any(line.startswith("warning: ") for line in audit.audit({}, TABLE, TODAY, {})[1])


def test_the_oldest_versions_are_those_that_the_project_allows(audit: ModuleType) -> None:
    """Of the core and of the extras, and the ones that the tests of the oldest install."""
    project = {
        "dependencies": ["psutil>=5.9.6", 'tomli>=2; python_version < "3.11"'],
        "optional-dependencies": {
            "otlp": [],
            "demo": ["rich>=13", "otel-hwmetrics[otlp]"],
            "notify": ["apprise>=2.0.1,<3"],
            "run": ["PyYAML>=6"],
            "plot": ["plotly>=6"],
            "parquet": [],
        },
    }
    pins = audit.oldest(project, "# a comment\nopentelemetry-api==1.38.0\n")
    assert {str(pin.name): pin.version for pin in pins} == {
        "psutil": "5.9.6",
        "tomli": "2",
        "rich": "13",
        "apprise": "2.0.1",
        "pyyaml": "6",
        "plotly": "6",
        "opentelemetry-api": "1.38.0",
    }


@pytest.mark.parametrize(("version", "code"), [("2.0.2", 1), ("9999", 0)])
def test_a_finding_is_an_error(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: str, code: int
) -> None:
    """By the table as it is, each row of which can be read; nobody else is asked."""
    monkeypatch.setattr(sys, "argv", ["audit", "--offline"])
    monkeypatch.setattr(audit, "installed", lambda: {audit.Pin("urllib3", version)})
    monkeypatch.setattr(audit, "oldest", lambda *_: set())
    assert audit.main() == code
    said = capsys.readouterr()
    assert "asked the table of" in said.out
    assert ("error: urllib3 2.0.2: CVE-2023-43804" in said.err) is bool(code)
    assert ("No known fault was found." in said.out) is not bool(code)


def test_an_audit_of_nothing_is_an_error(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the package itself is not there."""

    def missing() -> None:
        raise audit.Incomplete("psutil, which otel-hwmetrics needs, is not installed here")

    monkeypatch.setattr(sys, "argv", ["audit", "--offline"])
    monkeypatch.setattr(audit, "installed", missing)
    assert audit.main() == 1
    assert "error: psutil" in capsys.readouterr().err
