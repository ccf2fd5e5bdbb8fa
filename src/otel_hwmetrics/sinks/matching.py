# SPDX-License-Identifier: Apache-2.0
"""Which spans are training spans by their names and attributes, and what phase of the training a name tells of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from itertools import pairwise
from typing import Any

from otel_hwmetrics.stepclock import CHECKPOINT, EVALUATION

REMEMBERED = 1024
"""Names of spans that are remembered; a program that counts in them has endless ones."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_TOLD_BY = {
    **dict.fromkeys(("checkpoint", "checkpoints", "ckpt"), CHECKPOINT),
    **dict.fromkeys(("eval", "evaluate", "evaluating", "evaluation"), EVALUATION),
    **dict.fromkeys(("val", "valid", "validate", "validating", "validation"), EVALUATION),
    **dict.fromkeys(("train", "training", "fit", "pretrain", "pretraining", "finetune", "finetuning"), ""),
}
"""The phase that a word of a name tells of; empty for training itself."""
_TESTS = {"test", "testing"}
_BESIDE_A_TEST = {"epoch", "step", "batch", "loop", "set", "dataset"}


def phase_of(name: str) -> str:
    """The phase that a training span's name tells of: ``checkpoint``, ``evaluation``; empty for any other.

    By whole words, since alerts are silent in a phase: "train retrieval model" is no evaluation, nor is "fit from checkpoint
    7" a checkpoint. The last word that tells of anything counts (``train/eval``), and a run may be called a test.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    told = [_TOLD_BY[word] for before, word in pairwise(["", *words]) if word in _TOLD_BY and before != "from"]
    if not told and _TESTS & {*words} and all(word in _TESTS | _BESIDE_A_TEST or word.isdigit() for word in words):
        return EVALUATION
    return told[-1] if told else ""


class Matcher:
    """Says of a span whether it is a training span. Called at the start of every span, on its thread.

    Args:
        patterns: As the option ``alert_spans``: ``all``, ``none``, words or patterns of names (a word is looked for
            anywhere in the name, whatever its case), and ``key=value`` for attributes that a span starts with.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        given = [pattern for pattern in patterns if pattern.lower() != "none"]
        self._all = any(pattern.lower() == "all" for pattern in given)
        self._names = _any_of(pattern for pattern in given if "=" not in pattern)
        self._attributes = [
            (_pattern(key), _pattern(value)) for key, _, value in (each.partition("=") for each in given if "=" in each)
        ]
        self._known: dict[str, bool] = {}

    def __call__(self, name: str, span: Any) -> bool:
        """Whether it is one, by its name and, if that does not say so, by the attributes that it has."""
        if self._all:
            return True
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[name] = self._names is not None and self._names.search(str(name)) is not None
        return known or (bool(self._attributes) and self._has_one(getattr(span, "attributes", None) or {}))

    def _has_one(self, attributes: Mapping[str, Any]) -> bool:
        return any(
            key.search(name) and value.search(str(told))
            for key, value in self._attributes
            for name, told in attributes.items()
        )


def _any_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    sources = [_pattern(pattern).pattern for pattern in patterns]
    return re.compile("|".join(f"(?:{source})" for source in sources), re.IGNORECASE) if sources else None


def _pattern(text: str) -> re.Pattern[str]:
    """A pattern for the whole text if it has the marks of one, else a word within it."""
    marks = any(mark in text for mark in "*?[")
    return re.compile(rf"\A{translate(text)}" if marks else re.escape(text), re.IGNORECASE)
