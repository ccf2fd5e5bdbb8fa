# SPDX-License-Identifier: Apache-2.0
"""Look for known faults in what the package depends on: `make audit`.

There is no lock: the package is a library. What is looked at is what its dependencies resolve to today, as they are
installed in the environment that runs this, with those of its extras and of their own; and the oldest versions that
`pyproject.toml` and `tests/oldest.txt` allow. Three are asked, and each is said to have answered or not:

- OSV (https://google.github.io/osv.dev/post-v1-querybatch/), which has PyPA's advisories and GitHub's, and which
  `pip-audit --vulnerability-service osv` asks, too;
- the package index, through pip, whether any of the oldest was withdrawn (https://peps.python.org/pep-0592/); what
  dependencies resolve to never is, since pip passes such a release over;
- the table beside this file, for where neither can be reached.

A finding is an error, and so is it where what is to be looked at is not there. No answer is none, and no day makes
one: that the table is old is a warning.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("advisories.toml")
OSV = "https://api.osv.dev/v1/querybatch"
OURS = "otel-hwmetrics"
EXTRAS = ("otlp", "demo", "notify", "run", "plot", "parquet")
"""Those that users install; ROCm brings what `amd` binds."""
PATIENCE = 10.0
"""Seconds for a service to send something."""
PATIENCE_IN_ALL = 30.0
"""Seconds for its whole answer, however it drips."""
LARGEST = 2**24
"""Bytes of an answer."""
OLD = 180
"""Days after which somebody should look at the table again."""
PATIENCE_WITH_PIP = 180.0


class Pin(NamedTuple):
    """A version of a package."""

    name: str
    version: str


class Finding(NamedTuple):
    """What is wrong with one."""

    pin: Pin
    id: str
    what: str

    def __str__(self) -> str:
        return f"{self.pin.name} {self.pin.version}: {self.id}, {self.what}"


class Unanswered(Exception):
    """Somebody who was asked did not answer; it says why."""


class Incomplete(Exception):
    """What is to be looked at is not there: nothing could be found in it."""


def installed(name: str = OURS, extras: Iterable[str] = EXTRAS) -> set[Pin]:
    """What a package of this environment depends on, and what that does, as it is installed.

    Raises:
        Incomplete: The package, one of its extras or something that they need is not there.
    """
    found: set[Pin] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra, "this") for extra in ("", *extras)]
    while waiting:
        package, extra, whose = waiting.pop()
        if (package, extra) in seen:
            continue
        seen.add((package, extra))
        try:
            distribution = metadata.distribution(package)
        except metadata.PackageNotFoundError as error:
            raise Incomplete(f"{package}, which {whose} needs, is not installed here") from error
        if whose == "this" and extra not in {"", *(distribution.metadata.get_all("Provides-Extra") or ())}:
            raise Incomplete(f"{package} as it is installed here has no extra {extra}")
        if canonicalize_name(package) != OURS:
            found.add(Pin(canonicalize_name(package), distribution.version))
        for text in distribution.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed.name, each, package) for each in ("", *needed.extras)]
    return found


def oldest(project: Mapping[str, Any], constraints: str) -> set[Pin]:
    """The oldest versions that are allowed: the floors of the project, and what its tests of the oldest install."""
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for extra in EXTRAS for text in extras[extra])]
    texts += [line for line in constraints.splitlines() if line and not line.startswith("#")]
    return {
        Pin(canonicalize_name(needed.name), each.version)
        for needed in map(Requirement, texts)
        for each in needed.specifier
        if each.operator in {">=", "=="}
    }


def by_table(pins: Iterable[Pin], table: Mapping[str, Any]) -> Iterator[Finding]:
    """What the table knows of these."""
    for pin in pins:
        for row in table["advisory"]:
            affected = (SpecifierSet(each, prereleases=True) for each in row["affected"])
            if canonicalize_name(row["package"]) == pin.name and any(Version(pin.version) in each for each in affected):
                yield Finding(pin, row["id"], row["what"])


def by_osv(pins: Iterable[Pin]) -> list[Finding]:
    """What OSV knows of these.

    Raises:
        Unanswered: It cannot be asked.
    """
    pins = sorted(pins)
    queries = [{"package": {"name": pin.name, "ecosystem": "PyPI"}, "version": pin.version} for pin in pins]
    asked = urllib.request.Request(OSV, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"})
    try:
        results = json.loads(_within(PATIENCE_IN_ALL, lambda: _answer(asked)))["results"]
        return [
            Finding(pin, known["id"], f"https://osv.dev/{known['id']}")
            for pin, result in zip(pins, results, strict=True)
            for known in result.get("vulns", ())
        ]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unanswered(str(error) or type(error).__name__) from error


def _answer(asked: urllib.request.Request) -> bytes | Exception:
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:  # noqa: S310
            content: bytes = answer.read(LARGEST)
            return content
    except (OSError, http.client.HTTPException, ValueError) as error:
        return error


def _within(seconds: float, ask: Callable[[], bytes | Exception]) -> bytes:
    """What somebody answers, if it is all there in time: the limit of a socket is one for each piece."""
    answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(ask()), daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"not all was there after {seconds:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


_YANKED = re.compile(r"yanked version: '(?P<name>[^']+)' candidate \(version (?P<version>[^ ]+) ")


def by_index(pins: Iterable[Pin]) -> list[Finding]:
    """Which of these were withdrawn, by what pip says when it is to install just these; it installs nothing.

    Raises:
        Unanswered: It cannot find them, so it cannot tell.
    """
    wanted = [f"{pin.name}=={pin.version}" for pin in sorted(pins)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--dry-run", "--no-deps"]
    command += ["--ignore-installed", "--only-binary", ":all:", "--quiet", *wanted]
    try:
        pip = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_WITH_PIP)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise Unanswered("pip took too long") from error
    if pip.returncode:
        raise Unanswered(next((line for line in pip.stderr.splitlines() if "ERROR" in line), "pip failed"))
    return [
        Finding(Pin(canonicalize_name(match["name"]), match["version"]), "yanked", "its makers withdrew it")
        for match in _YANKED.finditer(pip.stderr)
    ]


def excused(finding: Finding, table: Mapping[str, Any], today: date) -> str:
    """Why a finding is none for now; empty if it is one.

    Raises:
        KeyError: An exception has no reason, no versions or no end.
    """
    for row in table.get("exception", ()):
        reason, until, versions = row["reason"], row["until"], SpecifierSet(row["versions"], prereleases=True)
        same = canonicalize_name(row["package"]) == finding.pin.name and row["id"] == finding.id
        if same and Version(finding.pin.version) in versions and today < until:
            return f"{reason} (until {until})"
    return ""


def audit(
    sets: Mapping[str, set[Pin]],
    table: Mapping[str, Any],
    today: date,
    services: Mapping[str, Callable[[], list[Finding]]],
) -> tuple[list[Finding], list[str]]:
    """Ask everybody.

    Args:
        sets: What is looked at, by what it is: a package once each.
        table: The one beside this file.
        today: By which exceptions end.
        services: Others that are asked; each may raise `Unanswered`.

    Returns:
        What was found and is not excused, and what is to be said of it all.
    """
    found: set[Finding] = set()
    age = (today - table["reviewed"]).days
    said = [f"{len(pins)} versions: {what}" for what, pins in sets.items()]
    said.append(f"asked the table of {len(table['advisory'])} advisories, reviewed {age} days ago")
    if age > OLD:
        said.append(f"warning: look through {TABLE.name} again, and set the day on which it was reviewed")
    for pins in sets.values():
        found |= set(by_table(pins, table))
    for service, ask in services.items():
        try:
            found |= set(ask())
        except Unanswered as error:
            said.append(f"NOT asked {service}, which does not answer: {error}")
        else:
            said.append(f"asked {service}")
    why = {finding: excused(finding, table, today) for finding in sorted(found)}
    said += [f"passed over: {finding}; {reason}" for finding, reason in why.items() if reason]
    return [finding for finding, reason in why.items() if not reason], said


def main() -> int:
    """Audit, and say what was asked and what was found; 1 where something was."""
    options = argparse.ArgumentParser(description="Look for known faults in what the package depends on.")
    options.add_argument("--offline", action="store_true", help="ask nobody but the table beside this program")
    offline = options.parse_args().offline
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    try:
        now = installed()
    except Incomplete as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    first = oldest(project, (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8"))
    sets = {"what the dependencies resolve to": now, "the oldest that are allowed": first}
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    services = {
        "OSV": lambda: by_osv(now | first),
        "the package index for releases that were withdrawn": lambda: by_index(first),
    }
    found, said = audit(sets, table, date.today(), {} if offline else services)  # noqa: DTZ011 - the day where it runs
    print("\n".join(said))
    for finding in found:
        print(f"error: {finding}", file=sys.stderr)
    if not found:
        print("No known fault was found.")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
