# SPDX-License-Identifier: Apache-2.0
"""Addresses without their secrets."""

from __future__ import annotations

import re
from typing import Final

from otel_hwmetrics.redaction.names import REDACTED, is_secret_in_address, words

_ORDINARY: Final = words(
    "http https ws wss ftp ftps sftp scp ssh git git+ssh git+https git+http svn rsync file tcp udp tls unix ipc inproc npipe",
    "grpc grpcs http+unix env data etcd c10d static zmq nccl gloo",
    "s3 s3a gs gcs az azure adl abfs abfss wasb wasbs hdfs viewfs webhdfs nfs smb cifs dav davs oss cos obs swift b2 r2",
    "redis rediss postgres postgresql mysql mariadb mongodb mongodb+srv sqlite mssql oracle clickhouse duckdb kafka nats",
    "amqp amqps ldap ldaps memcached dbfs hf mlflow mlflow-artifacts models runs ray dask spark docker oci minio",
)
"""Schemes of addresses whose secrets have a place of their own. Of any other, as Apprise's are, all may be secret."""

_HOOK_HOSTS: Final = re.compile(
    r"(?:.*\.)?(?:web)?hooks?\..*|.*\.webhook\.office\.com|.*\.logic\.azure\.com|.*\.powerplatform\.com|api\.telegram\.org"
    r"|open\.(?:feishu|larksuite)\..*|maker\.ifttt\.com|ntfy\.sh|hc-ping\.com|api\.day\.app|sctapi\.ftqq\.com"
    r"|events\.(?:eu\.)?pagerduty\.com",
    re.IGNORECASE,
)
_HOOK_PATHS: Final = re.compile(
    r"(?P<kept>/(?:web)?hooks?(?=/[^?#])|/(?:workflows|integration)(?=/\w{16}))/[^?#]+", re.IGNORECASE
)
"""Hosts and paths of addresses at which anybody may post who knows them."""

_NO_USER: Final = re.compile(r"[^:]*(?::[0-9]*)?|\[.*")
"""What stands before the path of an address where no user and password do: a host, and a port."""

_WITH_PLAIN_USERS: Final = ("ssh", "sftp", "scp", "git", "ftp")


def url(address: str, *, of_a_place: bool = False) -> str:
    """An address without its secrets: what stands before the ``@``, secret parameters, the path of a webhook.

    Of a scheme that is not known nothing but the scheme is left, since Apprise's addresses have tokens anywhere; but of one
    that is the name of a place, what is after the ``@``.
    """
    scheme, mark, rest = address.partition("://")
    if not mark or not rest or rest.startswith("…"):  # as our own words show what an address is like
        return address
    if scheme.lower() not in _ORDINARY and not of_a_place:
        return f"{scheme}://{REDACTED}"
    end = min(found if (found := rest.find(mark)) >= 0 else len(rest) for mark in "?#")
    host, slash, path = rest[:end].partition("/")
    user, at, host_alone = host.rpartition("@")
    if not at and "@" in rest and not _NO_USER.fullmatch(host):  # a mark in a password only seems to end the host
        return url(f"{scheme}://{REDACTED}@{rest.rpartition('@')[2]}", of_a_place=of_a_place)
    if at and (":" in user or not scheme.lower().endswith(_WITH_PLAIN_USERS)):
        host = f"{REDACTED}@{host_alone}"
    if path and _HOOK_HOSTS.fullmatch(host_alone.partition(":")[0]):
        path = REDACTED
    elif path:
        path = without_hook(f"/{path}")[1:]
    return f"{scheme}://{host}{slash}{path}{parameters(rest[end:])}"


def url_as_written(written: str) -> str:
    r"""The same of an address in JSON, where slashes may be written as ``\/``."""
    if "://" in written:
        return url(written)
    plain = written.replace(r"\/", "/")
    return written if (told := url(plain)) == plain else told.replace("/", r"\/")


def without_hook(path: str) -> str:
    """The path of an address without what only those know who may post there."""
    return _HOOK_PATHS.sub(lambda match: f"{match['kept']}/{REDACTED}", path, count=1)


def parameters(given: str) -> str:
    """What stands in an address behind its path, without the values that are secret."""
    parts = re.split(r"([?&#;])", given)
    return "".join(part if number % 2 else _parameter(part) for number, part in enumerate(parts))


def _parameter(part: str) -> str:
    name, mark, value = part.partition("=")
    if not mark or not value:
        return part
    decoded = re.sub("%([0-7][0-9A-Fa-f])", lambda match: chr(int(match[1], 16)), name)
    return f"{name}={REDACTED}" if is_secret_in_address(decoded) else part
