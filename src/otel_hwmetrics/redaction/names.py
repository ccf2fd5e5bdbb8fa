# SPDX-License-Identifier: Apache-2.0
"""Which names a secret stands behind: of options, variables, headers, parameters, keys."""

from __future__ import annotations

import functools
import itertools
import re
from typing import Final

REDACTED: Final = "[redacted]"
"""What stands in place of a secret."""


def words(*lines: str) -> frozenset[str]:
    """A table of words, a few lines of them."""
    return frozenset(word for line in lines for word in line.split())


_ANYWHERE: Final = words(
    "password passwd passphrase secret apikey credential authtoken accesstoken bearertoken apitoken refreshtoken accesskey",
    "privatekey authkey sessionkey csrftoken signingkey",
)
"""Secret wherever in a name they stand, also where names are written without a break: ``PGPASSWORD``."""

_KEYS: Final = words(
    "access account admin api app auth client consumer deploy encryption functions ingest ingestion integration kaggle",
    "licence license master private project routing secret service session shared signing ssh storage subscription write",
)
_PHRASES: Final = frozenset(
    {
        *(f"{word} key" for word in _KEYS),
        *(f"{word} keys" for word in ("api", "access", "secret")),
        *(f"{word} pass" for word in ("db", "ftp", "key", "mail", "proxy", "redis", "smtp", "user")),
        *(f"{word} headers" for word in ("otlp", "logs", "metrics", "traces", "exporter")),
        *("session id", "sas", "otp", "pwd", "sentry dsn", "webhook", "webhooks", "hwmetrics notify", "honeycomb team"),
    }
)
"""Words in a row that are secret together."""

_WORDS: Final = words("auth authorization authentication cookie cookies token pat jwt")
"""Secret as a whole word, unless their neighbours tell of something else, or a number or a switch stands behind it."""

_BEFORE: Final = words(
    "pad eos bos unk unknown mask sep cls special max min num n per first last prev image begin start stop total average avg",
    "mean input output audio video prefix suffix middle fim prompt completion new eot eod eom boi eoi think sot text speech",
    "visual vision vocab class global local register decode decoder dist seq sequence doc document",
)
"""Words before ``token`` after which it is one of a language model: ``eos_token``, ``--max-token``."""
_AFTER: Final = words(
    "id ids idx index type types count counts len length lengths limit budget embedding embeddings embed size dim rate",
    "dropout level loss mask masks weights shift mixing merging pooling acc accuracy throughput classification class",
    "dispatcher drop parallel latency time per capacity choice router bucket ring ratio shape axis",
    "file path dir url uri method mode scheme provider required enabled timeout expiry ttl",
)
"""Words after one of `_WORDS` that make it a number, a setting or a place."""

_PLAIN: Final = words("PWD OLDPWD")
"""Names that are none of a secret, though one of its words is in them."""

_IN_QUERY: Final = words("sig signature key code pass pwd pw pin")
"""Names that are secret in an address, and too common elsewhere."""

HINTS: Final = words(
    "pass pwd secret key cred token auth cookie pat jwt otp header session sas dsn webhook notify team"
)
"""One of these is in each name that is secret; without one in a text, no name need be looked at."""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_LONGEST: Final = 200  # of what nobody's name is longer than, the end counts


def is_secret(name: str) -> bool:
    """Whether what stands behind a name is secret: an option's, a variable's, a header's, a key's of a mapping."""
    return how_secret(name) > 0


def how_secret(name: str) -> int:
    """How a name tells of a secret: 2 surely, 1 by a word that has other meanings, too, 0 not at all."""
    return _how_secret(name[-_LONGEST:])


@functools.lru_cache(maxsize=1024)
def _how_secret(name: str) -> int:
    if name in _PLAIN or name.endswith(".py"):
        return 0
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    if any(word in plain for word in _ANYWHERE):
        return 2
    parts = [word.lower() for word in _WORD.findall(name)]
    if _PHRASES & {*parts, *(f"{one} {two}" for one, two in itertools.pairwise(parts))}:
        return 2
    around = ["", *parts, ""]
    return int(
        any(
            word in _WORDS and before not in _BEFORE and after not in _AFTER
            for before, word, after in zip(around, parts, around[2:], strict=False)
        )
    )


def is_secret_in_address(name: str) -> bool:
    """Whether what stands behind the name of a parameter is secret."""
    return is_secret(name) or not _IN_QUERY.isdisjoint(word.lower() for word in _WORD.findall(name))
