"""What the control plane's answers must look like: only the members that the command reads.

Whatever else answers at the address (a proxy's page, another program, a version that is too old) is told apart here, so
that no exit code rests on an answer that nobody understood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 1 << 63


class Strange(Exception):
    """An answer that is not what was asked for; the message says where and what."""


@dataclass(frozen=True, slots=True)
class OrNull:
    """The shape, or null."""

    shape: Any


@dataclass(frozen=True, slots=True)
class Perhaps:
    """A member that may be missing."""

    shape: Any


@dataclass(frozen=True, slots=True)
class Each:
    """An object whose members all have the shape."""

    shape: Any


WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def check(data: Any, shape: Any, at: str = "the answer") -> None:
    """Raises Strange unless `data` has the shape: str, int, float or bool; a list with the shape of its items; a
    mapping of the members that must be there; OrNull, Perhaps, Each.
    """
    if isinstance(shape, OrNull):
        if data is not None:
            check(data, shape.shape, at)
    elif isinstance(shape, Each):
        _demand(isinstance(data, dict), data, "an object", at)
        for name, value in data.items():
            check(value, shape.shape, f"{at}.{name}")
    elif isinstance(shape, list):
        _demand(isinstance(data, list), data, "an array", at)
        for index, value in enumerate(data):
            check(value, shape[0], f"{at}[{index}]")
    elif isinstance(shape, Mapping):
        _demand(isinstance(data, dict), data, "an object", at)
        for name, wanted in shape.items():
            if name in data:
                check(data[name], wanted.shape if isinstance(wanted, Perhaps) else wanted, f"{at}.{name}")
            elif not isinstance(wanted, Perhaps):
                raise Strange(f"{at} has no member {name}")
    else:
        _demand(_is(data, shape), data, WORDS[shape], at)


def _is(data: Any, kind: type) -> bool:
    if isinstance(data, bool):
        return kind is bool
    if isinstance(data, int):
        return kind in (int, float) and -LARGEST <= data < LARGEST
    if isinstance(data, float):
        return kind is float and math.isfinite(data)
    return isinstance(data, kind)


def _demand(fine: bool, data: Any, wanted: str, at: str) -> None:
    if not fine:
        raise Strange(f"{at} is {_kind(data)} and not {wanted}")


def _kind(data: Any) -> str:
    if data is None:
        return "null"
    kinds = {dict: "an object", list: "an array", **WORDS}
    return kinds.get(type(data), "something else")


ARM = {"name": str, "observed_bp": int, "version": int, "dropped_at": OrNull(str)}
ROLLOUT = {
    "id": int,
    "endpoint": str,
    "candidate": {"version": int},
    "strategy": Perhaps(str),
    "phase": str,
    "pause_reason": str,
    "reason": str,
    "next_step": str,
    "cause_sentence": str,
    "watching": bool,
    "arms": [ARM],
}
UNREADABLE = Perhaps([str])  # sentences on what is missing from the items
ROLLOUTS = {"items": [ROLLOUT], "unreadable": UNREADABLE}
GATE = {"verdict": str, "label": str, "sentence": str}
VERDICTS = {"verdicts": [GATE]}
BANDIT_VERDICT = {
    "sentence": str,
    "threshold": OrNull(float),
    "arms": [
        {
            "name": str,
            "state": str,
            "scored": int,
            "mean": OrNull(float),
            "low": OrNull(float),
            "high": OrNull(float),
            "p_best": OrNull(float),
            "expected_loss": OrNull(float),
            "evidence": float,
            "gates_passed": int,
            "gates_required": int,
            "sentence": str,
        }
    ],
    "gates": Each(VERDICTS),
}
PREVIEW = {
    "can_start": bool,
    "checks": [{"state": str, "title": str, "detail": str, "fix": str}],
    "gates": [{"sentence": str}],
    "bandit": Perhaps(
        OrNull({"arms": [{"version": int, "share_bp": int}], "outlook": OrNull({"sentence": str})})
    ),
}
ENDPOINTS = {
    "unreadable": UNREADABLE,
    "items": [
        {
            "name": str,
            "model": str,
            "environment": str,
            "stable": OrNull({"name": str}),
            "rollouts": [{"id": int, "phase": str}],
        }
    ],
    "next": OrNull(str),
}
RESTORED = {"name": str, "restored": OrNull({"state": str, "choice": str})}
GOLDEN_SET = {"label": str, "size": int}
GLOBAL_STOP = {"on": bool, "why": str}
ME = {"username": str, "role": str, "scopes": OrNull([str])}
POLICY = {"yaml": str}
STORED_POLICY = {"name": str, "version": int, "digest": str}
CHECKED_POLICY = {
    "reference": str,
    "same": bool,
    "changes": [{"field": str, "before": str, "after": str}],
    "explanation": {"gates": [{"sentence": str}], "promises": [str], "notes": [str], "basis": [str]},
}
MOMENT = {"row": str, "after": float, "cause": str}
COURSE = {"policy": str, "rollback": OrNull(MOMENT), "passed": OrNull(MOMENT), "decided": OrNull(MOMENT)}
REPORT = {
    "kind": str,
    "rollout": int,
    "endpoint": str,
    "policy": str,
    "outcome": str,
    "sentence": str,
    "kept": bool,
    "digest": str,
    "limit": str,
}
AT = OrNull({"row": str, "path": str})
AS_RECORDED = REPORT | {"first": AT, "first_other": AT, "first_reworded": Perhaps(AT)}
WHAT_IF = REPORT | {
    "recorded": COURSE,
    "replayed": COURSE,
    "first": OrNull({"moment": MOMENT, "recorded": {"reason": str}, "replayed": {"reason": str}}),
}
REPLAY_PART = {"state": str, "done": int, "total": int, "run": OrNull(str)}
