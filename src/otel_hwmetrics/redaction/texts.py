# SPDX-License-Identifier: Apache-2.0
"""Texts, and what is made of them, without the secrets that can be told in them."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from otel_hwmetrics.redaction.addresses import parameters, url, url_as_written, without_hook
from otel_hwmetrics.redaction.names import HINTS, REDACTED, how_secret, is_secret

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^'\\]|\\.)*'"

_PATTERNS: Final = {
    "address": r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*:(?://|\\/\\/)[^\s\"'<>`]*",
    "pem": r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----"
    r"(?:[^-]+|-(?!----END))*(?:-----END [A-Z0-9 ]{1,60}-----)?",
    # A name and what may stand between it and its value: name=value, "name": "value", ('name', 'value'), --name value,
    # x['name'] = value. What is part of a path is none, but for /name=value.
    "name": r"(?<![A-Za-z0-9_.-])(?:(?P<slash>(?<=/))|(?<!/))(?P<dashes>--?)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)"
    r"(?P<quote>\\{0,7}[\"'])?"
    r"(?:(?(quote)\]?\s*|[ \t]*)(?P<mark>(?(slash)=|(?:=>|:=|==|[=:])))(?(quote)\s*|[ \t]*)"
    r"|(?(slash)(?!)|(?<=[\"'])\s*,\s*(?=[bru]{0,2}\\{0,7}[\"']))"
    r"|(?(dashes)(?(quote)(?!)|(?(slash)(?!)|[ \t]+(?!--)))|(?!)))",
    "quoted":
    # Three quotes, or one of each as a shell puts them together; to the end of the line, where they are not closed or
    # have one in them as a shell writes it.
    r"(?P<prefix>[bru]{0,2})(?P<quoted>\"{3}.*?\"{3}|'{3}.*?'{3}|'[^'\n]*'\"'\"'[^\n]*"
    rf"|(?:{_QUOTED})(?:{_QUOTED}|[^\s\"',;:)\]}}>&])*(?:[\"'][^\n]*)?)"
    r"|[\"'][^\n]*"
    # Quotes that are themselves in quotes.
    r"|(?P<escaped>\\{1,7}[\"'])(?:[^\n]*?(?<!\\)(?P=escaped)|[^\n]*)",
    "plain": r"(?:[-+]?[0-9][0-9.,/e+-]{0,11}|[Tt]rue|[Ff]alse|[Nn]one|null)(?=[\s;)\]}]|,[\s\"']|,?$)",
    "word": r"(?:\\.|[^\s\\])+\\?",
    "line": r"[^\r\n]+",
    "line in '": r"[^\r\n']+",
    'line in "': r'[^\r\n"]+',
    "block": r"(?:[|>][-+0-9]{0,2}[ \t]*)?\r?\n(?P<indent>[ \t]+)[^\n]*(?:\n(?P=indent)[^\n]*)*",
    "nested": r"[\w.]{0,64}[\[({]",
    "bracket": rf"\\.|{_QUOTED}|(?P<open>[\[({{])|(?P<close>[\])}}])",
    "rest": r"(?:\\.|[^\s\\,;)\]}\"'])*",
    # Of what is coded in base 64 there are four letters each, and a capital behind another letter.
    "scheme of credentials": r"(?<![A-Za-z0-9_])(?P<scheme>[Bb]earer|BEARER"
    r"|[Bb]asic(?=\s+[A-Za-z0-9+/]{0,60}[a-z0-9][A-Z])(?=\s+(?:[A-Za-z0-9+/]{4}){1,256}(?:[A-Za-z0-9+/]{2,3}=)?"
    r"(?![A-Za-z0-9+/])))\s+[A-Za-z0-9._~+/=-]{8,}",
    "user": r"(?:(?<=//)|(?<![\w.+:/@-]))(?P<user>[\w.+-]{1,64}(?:@[\w-]{1,40}(?:\.[\w-]{1,40}){0,3}\.[A-Za-z]{2,20})?)"
    r":(?![0-9]{1,5}@)[^\s/:\"'<>]{1,200}@(?=[A-Za-z0-9\[])(?!sha\d)",
    # Of an address without its scheme and host, as urllib3 tells of it.
    "parameters": r"(?<=[\w/])\?[\w.%~\[\]-]{1,64}=[^\s\"'<>`]*",
    "path": r"(?<=url: )/[^\s\"'<>)]*",
    "key": r"(?<![A-Za-z0-9_])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{12,}"  # AWS
    r"|eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}"  # JSON Web Tokens
    # What nothing else begins with.
    r"|(?:gh[pousr]_|github_pat_|gl(?:pat|dt|rt)-|dckr_[op]at_|whsec_|nvapi-|tvly-|do[op]_v1_|shpat_|figd_|sntry[su]_"
    r"|glsa_|dp\.[ps]t\.|hv[sb]\.|tskey-|xox[abeoprs]-|xapp-|wandb_v1_|sbp_|ya29\.|AIza|AT[AC]TT)[\w.=-]{16,}"
    # What other names do: then there is a stretch of letters and digits that no word is.
    r"|(?:hf_|npm_|r8_|[sr]k_(?:live|test)_|sk-|pypi-|gsk_|xai-|ntn_|pul-|api_org_|lin_api_|LTAI|SG\.|dapi)"
    r"[\w.=-]{0,60}?(?=[a-z]{0,200}[A-Z0-9])[A-Za-z0-9]{16,}[\w.=-]*"
    r")"
    r"|/services/[A-Z0-9]{2,}/[A-Z0-9]{2,}/[A-Za-z0-9]+|/api/webhooks/[0-9]+/[\w-]+|/bot[0-9]{5,}:[\w-]{20,}",
}

_LONGEST_INDENT: Final = 200
_LONGEST_NESTED: Final = 4096
_ATTEMPTS: Final = 8  # in one text, to find where brackets close
_END: Final = 2**15  # letters of a long text, at its beginning and at its end
_DEEPEST: Final = 32


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    """A pattern, compiled when it is first needed: most processes never write a line."""
    return re.compile(_PATTERNS[name], re.DOTALL)


def text(given: str) -> str:
    """A text without the secrets that can be told in it: a log line, a message, a traceback, a command line in one.

    Args:
        given: Any text, however odd. Of one of more than 64 Ki letters the middle is left out, since no other thread runs
            while a pattern is looked for.

    Returns:
        The same text where there is none.
    """
    told = _pattern("pem").sub(REDACTED, given) if "-----BEGIN" in given else given
    told = _ends(told)
    if "//" in told or r"\/\/" in told:
        told = _pattern("address").sub(lambda match: url_as_written(match[0]), told)
    if "?" in told:
        told = _pattern("parameters").sub(lambda match: parameters(match[0]), told)
    if "url: /" in told:
        told = _pattern("path").sub(lambda match: without_hook(match[0]), told)
    small = told.lower()
    if any(hint in small for hint in HINTS):
        told = "".join(_without_named(told))
    if "@" in told:
        told = _pattern("user").sub(lambda match: f"{match['user']}:{REDACTED}@", told)
    if "bearer" in small or "basic" in small:
        told = _pattern("scheme of credentials").sub(lambda match: f"{match['scheme']} {REDACTED}", told)
    return _pattern("key").sub(REDACTED, told)


def place(given: str) -> str:
    """The name of a place, be it an address, without the password in it: a device, a mount point, the path of a file.

    Nothing else is taken out, whatever it is called: places that differ stay different.
    """
    if "@" not in given and "://" not in given:
        return given
    told = _pattern("address").sub(lambda match: url(match[0], of_a_place=True), given)
    return _pattern("user").sub(lambda match: f"{match['user']}:{REDACTED}@", told)


def _ends(given: str) -> str:
    """Of a long text the beginning and the end, by whole lines where there are some: half a secret may not look like one."""
    if len(given) <= 2 * _END:
        return given
    first, last = given[:_END], given[-_END:]
    first, last = first[: first.rfind("\n") + 1] or first, last[last.find("\n") + 1 :] or last
    return f"{first}… {len(given) - len(first) - len(last)} letters are left out …\n{last}"


def _without_named(given: str) -> Iterator[str]:
    """The text in pieces, with values behind secret names left out."""
    at = 0
    attempts = itertools.count()
    for name in _pattern("name").finditer(given):
        if name.start() < at or given.startswith(REDACTED, name.end()):
            continue
        secret = how_secret(name["name"])
        if not secret or (secret == 1 and _is_plain(given, name)):
            continue
        end, instead = _value(given, name, attempts)
        if end > name.end():
            yield given[at : name.end()]
            yield instead
            at = end
    yield given[at:]


def _is_plain(given: str, name: re.Match[str]) -> bool:
    """Whether a number or a switch stands behind a name; behind that of a header, and nothing more in its line."""
    found = _pattern("plain").match(given, name.end())
    if not found or not _has_line(given, name):
        return found is not None
    more = _pattern("line").match(given, found.end())
    return not (more and more[0].strip())


def _value(given: str, name: re.Match[str], attempts: Iterator[int]) -> tuple[int, str]:
    """Where the value behind a name ends, and what is told instead."""
    begin = name.end()
    if found := _block(given, name):
        return found.end(), REDACTED
    if _has_line(given, name):
        before = given[name.start() - 1 : name.start()]
        found = _pattern(f"line in {before}" if before in ("'", '"') else "line").match(given, begin)
    elif found := _pattern("quoted").match(given, begin):
        mark = found["escaped"] or (found["quoted"] or "")[:1]
        return found.end(), f"{found['prefix'] or ''}{mark}{REDACTED}{mark}"
    elif opened := _pattern("nested").match(given, begin):
        closed = _closing(given, opened.end()) if next(attempts) < _ATTEMPTS else 0
        found = _pattern("rest").match(given, closed) if closed else _pattern("line").match(given, begin)
    else:
        found = _pattern("word").match(given, begin)
    return (found.end() if found else begin), REDACTED


def _has_line(given: str, name: re.Match[str]) -> bool:
    """Whether a header's value goes on to the end of the line: ``Authorization: Bearer …``, ``Cookie: a=b; c=d``."""
    quoted = name["quote"] or (name["mark"] == "=" and given[name.end() : name.end() + 1] in ("'", '"'))
    return not quoted and bool(name["mark"]) and name["name"].lower().endswith(("authorization", "cookie", "cookies"))


def _closing(given: str, at: int) -> int:
    """Where the bracket closes that was opened just before; 0 where it does not, or far away."""
    depth = 1
    for found in _pattern("bracket").finditer(given, at, at + _LONGEST_NESTED):
        depth += 1 if found["open"] else -1 if found["close"] else 0
        if not depth:
            return found.end()
    return 0


def _block(given: str, name: re.Match[str]) -> re.Match[str] | None:
    """The lines behind a name that stand further in than its own, as in YAML."""
    line = given.rfind("\n", max(name.start() - _LONGEST_INDENT, 0), name.start()) + 1
    before = given[line : name.start()]
    found = _pattern("block").match(given, name.end()) if name["mark"] == ":" else None
    return found if found and len(found["indent"]) > len(before) - len(before.lstrip()) else None


def data(given: Any, depth: int = _DEEPEST) -> Any:
    """What is to be written as JSON, without its secrets: texts anywhere in it, what stands behind secret keys, arguments.

    So it is also for an environment, the headers of a request, and a command line: ``["--token", "X", "--api-key=X"]``.

    Args:
        given: Mappings, lists, tuples, and what is in them; anything else stays as it is.
        depth: Of what is deeper than that, nothing is left.
    """
    if isinstance(given, str):
        return text(given)
    if not isinstance(given, Mapping | list | tuple):
        return given
    if not depth:
        return REDACTED
    if isinstance(given, Mapping):
        return {
            text(key) if isinstance(key, str) else key: REDACTED if _hides(key, value) else data(value, depth - 1)
            for key, value in given.items()
        }
    return [
        _argument(each, before) if isinstance(each, str) else data(each, depth - 1)
        for before, each in zip(("", *given), given, strict=False)
    ]


def _hides(key: object, value: object) -> bool:
    if not isinstance(key, str) or value is None or value == "" or isinstance(value, bool):
        return False
    return how_secret(key) > (1 if isinstance(value, int | float) else 0)


def _argument(given: str, before: object) -> str:
    """A text in a list, which may be a command line: behind a flag that takes a secret, or with the name in it."""
    if isinstance(before, str) and before.startswith("-") and "=" not in before and is_secret(before):
        return text(given) if given.startswith("--") else REDACTED  # another flag
    name, mark, value = given.partition("=")
    secret = how_secret(name) if mark and value and re.fullmatch(r"[\w.+~-]+", name) else 0
    return f"{name}={REDACTED}" if secret > (1 if _pattern("plain").fullmatch(value) else 0) else text(given)
