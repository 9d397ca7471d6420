"""In which format evidence was written: one number for all of an interval, or of a decision between two.

It stands in the situation, which is the part that both have, and it speaks for the other parts of the row as well.
FORMAT is what is written now. Every earlier one can be read: EARLIER holds, by its number, what turns a situation of
that format into one of the next; the other parts are the same in all of them so far. What a newer version wrote, before
it was replaced by this one or in a database that was restored here, is refused with a sentence and never guessed at.

1   without a number: a canary had no arms, and engines were written with their addresses
2   every rollout has arms, engines are seen without addresses
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from controlplane.kernel.errors import Refused
from controlplane.kernel.stored import flat
from rollouts.domain.lifecycle.arms import CANDIDATE
from rollouts.domain.lifecycle.decision import GLOBAL_STOP, ArmView
from rollouts.domain.record.intervals import BASELINE

Json = Mapping[str, Any]
FIRST = 1
NAME = "format"  # of the number, in a situation and in a point of a thin series
FIX = "Run the version of Headgate that wrote it, or a newer one."


class UnknownFormat(Refused):
    """Evidence in a format that this version does not know: a newer one wrote it."""

    code = "evidence-too-new"

    def __init__(self, words: str) -> None:
        super().__init__(words, fix=FIX)


def require_known(number: object, *, row: str) -> int:
    """The number of a format as it is stored, None where there is none. Raises UnknownFormat; `row` names what was
    to be read, such as `interval 17`."""
    if not is_known(number):
        raise UnknownFormat(unknown_words(row, number))
    return _whole(number)


def is_known(number: object) -> bool:
    """Whether this version reads that format. `number` as it is stored, or as a database gives it out of JSON: a whole
    number, its digits, or None."""
    return FIRST <= _whole(number) <= FORMAT


def unknown_words(row: str, number: object) -> str:
    """What is said of a format that is not known."""
    return (
        f"{row[:1].upper()}{row[1:]} was written in format {number} of the evidence; this version of Headgate reads "
        f"the formats up to {FORMAT}."
    )


def _whole(number: object) -> int:
    """0 for what is no number of a format."""
    if number is None:
        return FIRST
    text = str(number)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def situation_of_today(situation: Json) -> Json:
    """A situation of any known format as it would be written now. Raises UnknownFormat."""
    for number in range(require_known(situation.get(NAME), row="a decision"), FORMAT):
        situation = EARLIER[number](situation)
    return situation


def _from_format_1(situation: Json) -> Json:
    rollout = situation["rollout"]
    return {
        **situation,
        "rollout": _rollout_of_format_1(rollout),
        "seen": _seen_of_format_1(situation["seen"], rollout),
    }


def _rollout_of_format_1(data: Json) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in data.items()
        if name not in ("baseline", "candidate", "baseline_label", "candidate_label")
    }
    arms = data.get("arms") or [
        flat(ArmView(BASELINE, data["baseline"], data["baseline_label"])),
        flat(ArmView(CANDIDATE, data["candidate"], data["candidate_label"])),
    ]
    meant = next(arm["name"] for arm in arms if arm["variant"] == data["candidate"])
    return kept | {"arms": arms, "candidate_arm": meant}


def _seen_of_format_1(data: Json, rollout: Json) -> dict[str, Any]:
    gone = ("baseline", "candidate", "forced_answered", "global_stop", "arms")
    kept = {name: value for name, value in data.items() if name not in gone}
    two = {rollout["baseline"]: data["baseline"], rollout["candidate"]: data["candidate"]}
    answered = [rollout["candidate"]] if data["forced_answered"] else []
    return kept | {
        "engines": data.get("arms") or {name: engine for name, engine in two.items() if engine is not None},
        "answered": data.get("answered", answered),
        "split": data.get("split", {}),
        "hold": GLOBAL_STOP.to_json() if data["global_stop"] else None,
    }


EARLIER: Mapping[int, Callable[[Json], Json]] = {1: _from_format_1}
FORMAT = max(EARLIER) + 1
