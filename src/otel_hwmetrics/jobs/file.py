# SPDX-License-Identifier: Apache-2.0
"""A file of jobs (YAML): what is in it, or what is wrong with it, by line and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from otel_hwmetrics.config import OPTIONS, show
from otel_hwmetrics.config.kinds import parse_switch
from otel_hwmetrics.jobs.amounts import AMOUNTS
from otel_hwmetrics.jobs.spec import JobSpec, Plan
from otel_hwmetrics.recording.nouns import Request

FILE: Final = "file"
"""Who asked for something, in `Request.by`."""
EXTRA: Final = "otel-hwmetrics[run]"

_TOP: Final = ("name", "user", "description", "tags", "resource_monitor", "resource_requirements", "jobs")
_MONITOR: Final = ("enabled", "granularity", "sample_interval_seconds", "generate_plots")
_JOB: Final = ("name", "command", "blocked_by", "resource_requirements", "env", "tags")
_OTHER_NAMES: Final = {"num_cpus": "cpus", "num_gpus": "gpus"}
_REQUIREMENTS: Final = (*AMOUNTS, *_OTHER_NAMES)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"
_MOST_JOBS: Final = 10_000


class FileError(ValueError):
    """A file of jobs cannot be taken; the message names file, line, key and value, and says what is allowed."""


class _Node:
    """A part of the file: where it stands, and what it is."""

    def __init__(self, path: str, node: Any, key: str) -> None:
        self._path = path
        self._node = node
        self.key = key

    def wrong(self, what: str) -> FileError:
        """The error that it is."""
        where = f"{self._path}, line {self._node.start_mark.line + 1}"
        return FileError(f"{where}: {self.key}: {what}" if self.key else f"{where}: {what}")

    def within(self, key: str, node: Any) -> _Node:
        """A part of it."""
        return _Node(self._path, node, f"{self.key}.{key}" if self.key else key)

    def mapping(self, allowed: Sequence[str] = ()) -> dict[str, _Node]:
        """It as keys and their parts.

        Args:
            allowed: The keys that it may have; any if none are given.

        Raises:
            FileError: It is no mapping, has a key twice or one that is not known.
        """
        if not isinstance(self._node.value, list) or self._node.id != "mapping":
            raise self.wrong("takes keys and values" + (f": {', '.join(allowed)}" if allowed else ""))
        found: dict[str, _Node] = {}
        for key_node, value in self._node.value:
            key = str(key_node.value) if key_node.id == "scalar" else show(key_node.value)
            if key_node.tag == _MERGE:
                raise _Node(self._path, key_node, self.key).wrong("keys cannot be merged by '<<'; write them out")
            part = self.within(key, value)
            if allowed and key not in allowed:
                near = difflib.get_close_matches(key, allowed, 1)
                meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(allowed)}"
                raise _Node(self._path, key_node, part.key).wrong(f"there is no such key; {meant}")
            if key in found:
                raise _Node(self._path, key_node, part.key).wrong("is there twice")
            found[key] = part
        return found

    def items(self) -> list[_Node]:
        """It as a list.

        Raises:
            FileError: It is none.
        """
        if self._node.id != "sequence":
            raise self.wrong("takes a list")
        return [_Node(self._path, each, f"{self.key}[{place}]") for place, each in enumerate(self._node.value)]

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return bool(self._node.id == "sequence")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing: no value, ``~`` or ``null``."""
        return bool(self._node.tag == _NULL)

    @property
    def is_mapping(self) -> bool:
        """Whether it is keys and values."""
        return bool(self._node.id == "mapping")

    def value(self, parse: Callable[[Any], Any], allowed: str) -> Any:
        """It as one value.

        Raises:
            FileError: It cannot be taken.
        """
        if self._node.id != "scalar":
            raise self.wrong(f"takes {allowed}")
        try:
            return parse(self._node.value)
        except (ValueError, TypeError, KeyError) as error:
            raise self.wrong(f"cannot be {show(self._node.value)}; it takes {allowed}") from error

    def text(self, allowed: str = "a text") -> str:
        """It as a text that is not empty.

        Raises:
            FileError: It is none.
        """
        return str(self.value(_not_empty, allowed))


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError(value)
    return value


def _one_line(value: str) -> str:
    text = _not_empty(value).strip()
    if not text.isprintable() or len(text) > 128:  # noqa: PLR2004 - as the option `record_name`
        raise ValueError(value)
    return text


def read(path: str) -> Plan:
    """What a file says.

    Args:
        path: The file.

    Raises:
        FileError: It cannot be read, or cannot be taken.
    """
    try:
        import yaml
    except ImportError as error:
        raise FileError(f"{path} is YAML: to read it, `pip install '{EXTRA}'`.") from error
    try:
        with open(path, encoding="utf-8") as file:
            node = yaml.compose(file, Loader=yaml.SafeLoader)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is no text in UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise FileError(f"{path}{line}: this is no YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise FileError(f"{path} is no YAML: {error}.") from error
    if node is None:
        raise FileError(f"{path} is empty; it takes {', '.join(_TOP)}.")
    return _plan(_Node(path, node, ""))


def _plan(top: _Node) -> Plan:
    parts = top.mapping(_TOP)
    if "jobs" not in parts:
        raise top.wrong("there is no key 'jobs', the list of what is to be run")
    named = dict(_named_requests(parts.get("resource_requirements")))
    nodes = parts["jobs"].items()
    if not nodes or len(nodes) > _MOST_JOBS:
        raise parts["jobs"].wrong(f"takes a list of 1 to {_MOST_JOBS} jobs")
    jobs: dict[str, tuple[JobSpec, _Node]] = {}
    for node in nodes:
        job = _job(node, named)
        if job.name in jobs:
            raise node.wrong(f"there is another job {job.name!r}; each has a name of its own")
        jobs[job.name] = (job, node)
    _check_blockers(jobs)
    monitor = parts["resource_monitor"].mapping(_MONITOR) if "resource_monitor" in parts else {}
    granularity = OPTIONS["record_granularity"]
    return Plan(
        jobs=tuple(job for job, _ in jobs.values()),
        name=parts["name"].value(_one_line, "a text of one line, 128 letters at most") if "name" in parts else "",
        tags=_texts(parts.get("tags")),
        enabled=_optional(monitor, "enabled", parse_switch, "true or false", default=True),
        granularity=_optional(monitor, "granularity", granularity.parse, granularity.allowed),
        interval=_optional(monitor, "sample_interval_seconds", _interval, "seconds, a number >= 0.2"),
        plots=_optional(monitor, "generate_plots", parse_switch, "true or false", default=False),
    )


def _interval(value: Any) -> float:
    seconds = float(OPTIONS["sample_interval"].parse(value))
    if seconds <= 0:
        raise ValueError(value)
    return seconds


def _optional(
    parts: Mapping[str, _Node], key: str, parse: Callable[[Any], Any], allowed: str, *, default: Any = None
) -> Any:
    return parts[key].value(parse, allowed) if key in parts else default


def _job(node: _Node, named: Mapping[str, Request]) -> JobSpec:
    parts = node.mapping(_JOB)
    for key in ("name", "command"):
        if key not in parts:
            raise node.wrong(f"there is no key {key!r}")
    name = parts["name"].value(_one_line, "a text of one line, 128 letters at most")
    request = Request()
    if "resource_requirements" in parts:
        said = parts["resource_requirements"]
        if said.is_mapping:
            request = _request(said.mapping(_REQUIREMENTS))
        else:
            which = said.text("resources, or the name of an entry of resource_requirements")
            if which not in named:
                known = ", ".join(named) or "none"
                raise said.wrong(f"there is no entry {which!r} in resource_requirements; there are: {known}")
            request = named[which]
    return JobSpec(
        name=name,
        command=(parts["command"].text("a command, as a shell takes it"),),
        as_text=True,
        request=request,
        tags=_texts(parts.get("tags")),
        environ=_texts(parts.get("env"), _VARIABLE, "names of variables take letters, digits and _"),
        blocked_by=tuple(each.text("the name of a job") for each in _several(parts.get("blocked_by"))),
    )


def _several(node: _Node | None) -> Iterator[_Node]:
    """Of a list each, or the one that there is."""
    if node is not None and not node.is_empty:
        yield from node.items() if node.is_list else (node,)


def _texts(node: _Node | None, names: re.Pattern[str] | None = None, rule: str = "") -> dict[str, str]:
    found = {}
    for key, part in ({} if node is None else node.mapping()).items():
        if names is not None and not names.fullmatch(key):
            raise part.wrong(rule)
        if part.is_empty:
            raise part.wrong('takes a text; for an empty one write ""')
        found[key] = str(part.value(str, "a text"))
    return found


def _named_requests(node: _Node | None) -> Iterator[tuple[str, Request]]:
    """The entries of the list at the top, each with its name."""
    seen: set[str] = set()
    for entry in node.items() if node is not None else ():
        parts = entry.mapping(("name", *_REQUIREMENTS))
        if "name" not in parts:
            raise entry.wrong("there is no key 'name', by which jobs refer to it")
        name = parts.pop("name").text()
        if name in seen:
            raise entry.wrong(f"there is another entry {name!r}")
        seen.add(name)
        yield name, _request(parts)


def _request(parts: Mapping[str, _Node]) -> Request:
    found: dict[str, Any] = {}
    for key, part in parts.items():
        name = _OTHER_NAMES.get(key, key)
        if name in found:
            raise part.wrong(f"says the same as {name!r}, which is there, too")
        found[name] = part.value(*AMOUNTS[name])
    return Request(**found, by=dict.fromkeys(found, FILE))


def _check_blockers(jobs: Mapping[str, tuple[JobSpec, _Node]]) -> None:
    """Refuse who waits for nobody that is there, or for itself."""
    for job, node in jobs.values():
        for name in job.blocked_by:
            if name not in jobs:
                near = difflib.get_close_matches(name, jobs, 1)
                raise node.wrong(
                    f"blocked_by: there is no job {name!r}; "
                    + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(jobs)}")
                )
    done: set[str] = set()
    while ready := [name for name, (job, _) in jobs.items() if name not in done and done.issuperset(job.blocked_by)]:
        done.update(ready)
    left = [name for name in jobs if name not in done]
    if left:
        cycle = _cycle(left[0], {name: [each for each in jobs[name][0].blocked_by if each in left] for name in left})
        raise jobs[cycle[0]][1].wrong(f"blocked_by: these wait for each other: {' -> '.join((*cycle, cycle[0]))}")


def _cycle(start: str, waits: Mapping[str, Sequence[str]]) -> list[str]:
    path: list[str] = []
    name = start
    while name not in path:
        path.append(name)
        name = waits[name][0]
    return path[path.index(name) :]
