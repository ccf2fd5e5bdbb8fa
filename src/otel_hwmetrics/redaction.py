# SPDX-License-Identifier: Apache-2.0
"""Keeping secrets out of what we write: log lines, alerts, files, notifications.

Command lines, environments, addresses, headers and free text that has any of these in it. What is secret is told by the
name it stands behind (a table of words, as Sentry's ``EventScrubber`` and Datadog's process agent have one), by its place
(behind ``user:`` in an address, in the path of a webhook), or by its own form (``ghp_…``, ``AKIA…``, a PEM block).

When in doubt it is hidden: a word too many costs a reader a moment, a word too few costs a key. But a job is full of
tokens that are none: ``max_tokens=512``, ``eos_token``. Whoever hides a secret below an innocent name, as the argument
of a program that takes it bare, or in pieces, is not helped here. What is the user's own telemetry is never touched.

No function here raises or waits, and each takes time in proportion to its input: every pattern begins at the edge of a
word, so that no stretch of text is walked through twice.

Sources: https://github.com/getsentry/sentry-python/blob/master/sentry_sdk/scrubber.py,
https://docs.datadoghq.com/infrastructure/process/?tab=linuxwindows#process-arguments-scrubbing,
https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml (forms of keys), pip's ``redact_auth_from_url``.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from otel_hwmetrics.output import WouldWait

REDACTED: Final = "[redacted]"
"""What stands in place of a secret."""


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_ANYWHERE: Final = _words(
    "password passwd passphrase secret apikey credential authtoken accesstoken bearertoken accesskey privatekey authkey",
    "sessionkey csrftoken signingkey",
)
"""Secret wherever in a name they stand, also where names are written without a break: ``PGPASSWORD``."""

_KEYS: Final = _words(
    "access account admin api app auth client consumer deploy encryption functions ingest ingestion integration license",
    "licence master private project routing secret service session shared signing ssh storage subscription write",
)
_PHRASES: Final = frozenset(
    {
        *(f"{word} key" for word in _KEYS),
        *(f"{word} keys" for word in ("api", "access", "secret")),
        *(f"{word} pwd" for word in ("mysql", "db", "user")),
        *(f"{word} pass" for word in ("db", "ftp", "key", "mail", "proxy", "redis", "smtp", "user")),
        *(f"{word} headers" for word in ("otlp", "logs", "metrics", "traces", "exporter")),
        *("session id", "sas", "sentry dsn", "webhook", "webhooks", "hwmetrics notify", "honeycomb team"),
    }
)
"""Words in a row that are secret together."""

_WORDS: Final = _words("auth authorization authentication cookie cookies token pat jwt otp")
"""Secret as a whole word, unless their neighbours tell of something else."""

_BEFORE: Final = _words(
    "pad eos bos unk unknown mask sep cls special max min num n per first last prev image begin start stop total average avg",
    "mean input output audio video prefix suffix middle fim",
)
"""Words before ``token`` after which it is one of a language model: ``eos_token``, ``--max-token``."""
_AFTER: Final = _words(
    "id ids idx index type types count counts len length lengths limit budget embedding embeddings embed size dim rate",
    "dropout level loss mask masks weights shift mixing merging pooling acc accuracy throughput classification class",
    "file path dir url uri method mode scheme provider required enabled timeout expiry ttl",
)
"""Words after one of `_WORDS` that make it a number, a setting or a place."""

_IN_QUERY: Final = _words("sig signature key code pass pwd pw pin")
"""Names that are secret in an address, and too common elsewhere."""

_ORDINARY: Final = _words(
    "http https ws wss ftp ftps sftp scp ssh git git+ssh git+https git+http svn rsync file tcp udp tls unix ipc inproc npipe",
    "grpc grpcs http+unix env data etcd c10d static zmq nccl gloo",
    "s3 s3a gs gcs az azure adl abfs abfss wasb wasbs hdfs viewfs webhdfs nfs smb cifs dav davs oss cos obs swift b2 r2",
    "redis rediss postgres postgresql mysql mariadb mongodb mongodb+srv sqlite mssql oracle clickhouse duckdb kafka nats",
    "amqp amqps ldap ldaps memcached dbfs hf mlflow mlflow-artifacts models runs ray dask spark docker oci minio",
)
"""Schemes of addresses whose secrets have a place of their own. Of any other, as Apprise's are, all may be secret."""

_HOOK_HOSTS: Final = re.compile(
    r"(?:.*\.)?(?:web)?hooks?\..*|.*\.webhook\.office\.com|.*\.logic\.azure\.com|api\.telegram\.org"
    r"|open\.(?:feishu|larksuite)\..*|maker\.ifttt\.com|ntfy\.sh|hc-ping\.com|api\.day\.app|sctapi\.ftqq\.com",
    re.IGNORECASE,
)
_HOOK_PATHS: Final = re.compile(r"(?P<kept>/(?:web)?hooks?)/[^?#]+", re.IGNORECASE)
"""Hosts and paths of addresses at which anybody may post who knows them."""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^'\\]|\\.)*'"
_VALUE: Final = (
    # In quotes: three, or one of each as a shell puts them together; to the end of the line, where they are not closed.
    r"(?P<prefix>[bru]{0,2})(?P<quoted>\"{3}.*?\"{3}|'{3}.*?'{3}"
    rf"|(?:{_QUOTED})(?:{_QUOTED}|[^\s\"',;:)\]}}>&])*(?:[\"'][^\n]*)?)"
    r"|[\"'][^\n]*"
)

_PATTERNS: Final = {
    "address": r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`]*",
    "pem": r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----"
    r"(?:[^-]|-(?!----END))*(?:-----END [A-Z0-9 ]{1,60}-----)?",
    # A name and what may stand between it and its value: name=value, "name": "value", ('name', 'value'), --name value.
    "name": r"(?<![A-Za-z0-9_.-])(?P<dashes>--?)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)(?P<quote>\\?[\"'])?"
    r"(?:\s*(?:=>|:=|==|[=:])\s*|(?<=[\"'])\s*,\s*|(?(dashes)(?(quote)(?!)|[ \t]+(?!-))|(?!)))",
    "value": rf"{_VALUE}|(?:\\.|[^\s\\])+\\?",
    "line": rf"{_VALUE}|[^\n\"']+",
    "scheme of credentials": r"(?<![A-Za-z0-9_])(?P<scheme>[Bb]earer|BEARER|[Bb]asic(?=\s+\S*[0-9=]))\s+"
    r"[A-Za-z0-9._~+/=-]{8,}",
    "user": r"(?<![\w.+:/@-])(?P<user>[\w.+-]{1,64}):[^\s/@:\"']{1,200}@(?=[A-Za-z0-9\[])(?!sha\d)",
    "key": r"(?<![A-Za-z0-9_])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{12,}"  # AWS
    r"|eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}"  # JSON Web Tokens
    r"|(?:gh[pousr]|github_pat|glpat|gldt|glrt|hf|api_org|npm|pypi|dckr_pat|dckr_oat|r8|sk|rk|whsec|nvapi|gsk|xai|tvly"
    r"|dop_v1|doo_v1|shpat|pul|lin_api|ntn|figd|sntrys|sntryu|glsa|dp\.pt|hvs|hvb|atlasv1|tskey|xox[abeoprs]|xapp"
    r"|wandb_v1|sbp)[_.-][A-Za-z0-9_./+=-]{16,}"
    r"|(?:dapi|LTAI|SG\.|ya29\.|AIza|dp\.st\.|ATATT|ATCTT)[A-Za-z0-9_.=-]{16,}"
    r")"
    # Paths of webhooks without their hosts, as urllib3 tells of them.
    r"|/services/[A-Z0-9]{2,}/[A-Z0-9]{2,}/[A-Za-z0-9]+|/api/webhooks/[0-9]+/[\w-]+|/bot[0-9]{5,}:[\w-]{20,}",
}

_LONGEST_NAME: Final = 200  # of what nobody's name is longer than, the end counts
_DEEPEST: Final = 32
_WITH_PLAIN_USERS: Final = ("ssh", "sftp", "scp", "git", "ftp")


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    """A pattern, compiled when it is first needed: most processes never write a line."""
    return re.compile(_PATTERNS[name], re.DOTALL)


@functools.lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Whether what stands behind a name is secret: an option's, a variable's, a header's, a key's of a mapping."""
    name = name[-_LONGEST_NAME:]
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    if any(word in plain for word in _ANYWHERE):
        return True
    words = [word.lower() for word in _WORD.findall(name)]
    if _PHRASES & {*words, *(f"{one} {two}" for one, two in itertools.pairwise(words))}:
        return True
    around = ["", *words, ""]
    return any(
        word in _WORDS and before not in _BEFORE and after not in _AFTER
        for before, word, after in zip(around, words, around[2:], strict=False)
    )


def text(given: str) -> str:
    """A text without the secrets that can be told in it: a log line, a message, a traceback, a command line in one.

    Args:
        given: Any text, however long or odd.

    Returns:
        The same text where there is none.
    """
    told = _pattern("pem").sub(REDACTED, given) if "-----BEGIN" in given else given
    if "://" in told:
        told = _pattern("address").sub(lambda match: url(match[0]), told)
    told = "".join(_without_named(told))
    if "@" in told:
        told = _pattern("user").sub(lambda match: f"{match['user']}:{REDACTED}@", told)
    told = _pattern("scheme of credentials").sub(lambda match: f"{match['scheme']} {REDACTED}", told)
    return _pattern("key").sub(REDACTED, told)


def _without_named(given: str) -> Iterator[str]:
    """The text in pieces, with values behind secret names left out."""
    at = 0
    for name in _pattern("name").finditer(given):
        if name.start() < at or given.startswith(REDACTED, name.end()) or not is_secret(name["name"]):
            continue
        value = _pattern("line" if _is_of_several_words(name["name"]) else "value").match(given, name.end())
        if value is None:
            continue
        quoted = value["quoted"]
        yield given[at : name.end()]
        yield f"{value['prefix']}{quoted[0]}{REDACTED}{quoted[0]}" if quoted else REDACTED
        at = value.end()
    yield given[at:]


def _is_of_several_words(name: str) -> bool:
    """Whether a header's value goes on to the end of the line: ``Authorization: Bearer …``, ``Cookie: a=b; c=d``."""
    return name.lower().endswith(("authorization", "cookie", "cookies"))


def url(address: str) -> str:
    """An address without its secrets: what stands before the ``@``, secret parameters, the path of a webhook.

    Of a scheme that is not known nothing but the scheme is left, since Apprise's addresses have tokens anywhere.
    """
    scheme, mark, rest = address.partition("://")
    if not mark or not rest or rest.startswith("…"):  # as our own words show what an address is like
        return address
    if scheme.lower() not in _ORDINARY:
        return f"{scheme}://{REDACTED}"
    end = min(place if (place := rest.find(mark)) >= 0 else len(rest) for mark in "?#")
    host, slash, path = rest[:end].partition("/")
    user, at, host_alone = host.rpartition("@")
    if at and (":" in user or not scheme.lower().endswith(_WITH_PLAIN_USERS)):
        host = f"{REDACTED}@{host_alone}"
    if path and _HOOK_HOSTS.fullmatch(host_alone.partition(":")[0]):
        path = REDACTED
    elif path:
        path = _HOOK_PATHS.sub(lambda match: f"{match['kept']}/{REDACTED}", f"/{path}", count=1)[1:]
    return f"{scheme}://{host}{slash}{path}{_parameters(rest[end:])}"


def _parameters(given: str) -> str:
    parts = re.split(r"([?&#;])", given)
    return "".join(part if number % 2 else _parameter(part) for number, part in enumerate(parts))


def _parameter(part: str) -> str:
    name, mark, value = part.partition("=")
    words = {word.lower() for word in _WORD.findall(name)}
    return f"{name}={REDACTED}" if mark and value and (words & _IN_QUERY or is_secret(name)) else part


def command_line(arguments: Iterable[str]) -> list[str]:
    """The arguments of a program without their secrets: ``--api-key=X``, ``--token X``, ``KEY=VALUE``, addresses."""
    told: list[str] = []
    behind = False
    for argument in arguments:
        name, mark, value = argument.partition("=")
        flag = argument.startswith("-")
        if behind and not flag:
            told.append(REDACTED)
        elif mark and value and re.fullmatch(r"[\w.-]+", name) and is_secret(name):
            told.append(f"{name}={REDACTED}")
        else:
            told.append(text(argument))
        behind = flag and not mark and is_secret(argument)
    return told


def mapping(given: Mapping[str, str]) -> dict[str, str]:
    """An environment, or the headers of a request, without their secrets."""
    return {name: REDACTED if value and is_secret(name) else text(value) for name, value in given.items()}


def data(given: Any, depth: int = _DEEPEST) -> Any:
    """What is to be written as JSON, without its secrets: texts anywhere in it, and what stands behind secret keys.

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
    return [data(each, depth - 1) for each in given]


def _hides(key: object, value: object) -> bool:
    return isinstance(key, str) and value not in (None, "", True, False) and is_secret(key)


def logger(name: str = "otel_hwmetrics") -> logging.Logger:
    """A logger of ours: no line has a secret in it, or waits for who reads it. Every module has its own from here."""
    made = logging.getLogger(name)
    for each in (_would_wait, _without_secrets):  # always the same objects, so they are there once
        made.addFilter(each)
    return made


class _WithoutSecrets(logging.Filter):
    """Takes secrets out of a record before any handler sees it.

    Its exception becomes text, too: what handles a record may keep an exception's frames, with all their variables, or
    write its words. The text is where logging's formatters look for it, and in the attributes that OpenTelemetry has for it
    (https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-logs/).
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = text(record.getMessage()), ()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            record.exc_text = text("".join(traceback.format_exception(error))).rstrip("\n")
            record.exc_info = None
            record.__dict__ |= {"exception.type": type(error).__qualname__, "exception.stacktrace": record.exc_text}
        return True


_would_wait: Final = WouldWait()
_without_secrets: Final = _WithoutSecrets()
