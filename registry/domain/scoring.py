"""How well an answer fits what was expected, as a number in [0, 1]. Pure and deterministic: no model
judges here.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Scorer(StrEnum):
    """The ways to score.

    exact     1 when the answer equals the expected text, white space around them aside, else 0
    contains  1 when the answer holds the expected text, whatever case and white space, else 0
    token_f1  F1 of the words that both have, as in SQuAD: lower case, no punctuation, no English articles
    json      the share of the expected JSON's leaves that the answer's JSON has at the same place; an answer
              that is not JSON scores 0, what the answer has beyond the expected costs nothing
    """

    EXACT = "exact"
    CONTAINS = "contains"
    TOKEN_F1 = "token_f1"  # noqa: S105  (a scorer's name)
    JSON = "json"


def score(answer: str, expected: str, scorer: Scorer | str) -> float:
    """The score of `answer`, in [0, 1].

    Raises ValueError for a scorer that does not exist, or when the scorer is json and `expected` is not JSON
    (`registry.domain.golden` lets no such example in).
    """
    return _SCORERS[Scorer(scorer)](answer, expected)


def _exact(answer: str, expected: str) -> float:
    return float(answer.strip() == expected.strip())


def _contains(answer: str, expected: str) -> float:
    return float(_folded(expected) in _folded(answer))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _token_f1(answer: str, expected: str) -> float:
    """F1 over the bag of words (Rajpurkar et al. 2016, SQuAD, the official script of version 1.1)."""
    given, wanted = _words(answer), _words(expected)
    if not given or not wanted:
        # Nothing but articles or punctuation on one side: equal only when on both.
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(given), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _json(answer: str, expected: str) -> float:
    wanted = _leaves(json.loads(expected))
    try:
        given = _leaves(json.loads(answer))
    except (ValueError, RecursionError):
        return 0.0
    return sum(1 for place, leaf in wanted.items() if place in given and given[place] == leaf) / len(wanted)


def _leaves(value: Any) -> dict[tuple[str | int, ...], tuple[str, Any]]:
    """Every leaf by its path, with its kind, so that 1 and true differ while 1 and 1.0 do not.

    An empty object or list is a leaf itself, so there is always at least one. Walks without recursion: an
    answer may be nested as deep as it likes.
    """
    leaves: dict[tuple[str | int, ...], tuple[str, Any]] = {}
    rest: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while rest:
        place, node = rest.pop()
        if isinstance(node, Mapping) and node:
            rest.extend(((*place, key), below) for key, below in node.items())
        elif isinstance(node, list) and node:
            rest.extend(((*place, index), below) for index, below in enumerate(node))
        else:
            kind = type(node).__name__
            leaves[place] = ("number" if kind in ("int", "float") else kind, node)
    return leaves


_SCORERS = {
    Scorer.EXACT: _exact,
    Scorer.CONTAINS: _contains,
    Scorer.TOKEN_F1: _token_f1,
    Scorer.JSON: _json,
}
