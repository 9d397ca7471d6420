"""Whether two assessments, or two decisions, are the same: by their bytes, or else in what they say.

Sentences for people are compared apart. A sentence may be worded better in a later version, and what was decided is the
same all the same: SENTENCES lists the fields, and everything else is compared byte by byte. Of a sentence the numbers
are compared: a number that was said and is not said as often any more is a difference, and so is a sentence where none
was, or the other way round. What is not seen: a number that only changed its place in the sentence, one that is new in
it, and a change of words alone, units included. The numbers that a decision rests on have fields of their own, and
nothing is ever decided by a sentence.

Floating point differs between versions of numpy, scipy and the C library in the last digit. So there are two promises:
identical bytes under the same software, and otherwise the same verdicts and decisions with
|difference of log E| < LOG_E_TOLERANCE.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.digests import canonical_json

LOG_E_TOLERANCE = 1e-9
FIGURE_TOLERANCE = 1e-6  # relative, for estimates and intervals that no verdict rests on
EVIDENCE = frozenset({"evidence", "evidence_pass"})
# The fields that hold a sentence, or a piece of one, of verdicts, decisions and states. What is not here is data.
SENTENCES = frozenset(
    {
        "sentence", "reason", "detail", "tie_sentence", "finding", "fast_kill", "why", "silence", "fail_note",
        "pass_note", "change_text", "interval_text", "limit_text",
    }
)  # fmt: skip
# A hyphen is a sign only where no word ends before it: that of `tickets-v2` is none.
NUMBER = re.compile(r"(?:[−+]|(?<!\w)-)?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
MISSING = "(nothing)"  # stands for a field that is not there; told from a text of the same letters by being this object


@dataclass(frozen=True, slots=True)
class ValueDifference:
    """A value that came out differently. `path` as in `verdicts[2].evidence`."""

    path: str
    recorded: Any
    replayed: Any

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "recorded": self.recorded, "replayed": self.replayed}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out differently.

    first           the first value with other bytes, sentences that are only worded differently apart
    first_other     the first value that says something else
    log_e           the largest |difference of log E|
    reworded        how many sentences are only worded differently, and `first_reworded` the first of them
    """

    first: ValueDifference | None = None
    first_other: ValueDifference | None = None
    log_e: float = 0.0
    reworded: int = 0
    first_reworded: ValueDifference | None = None

    @property
    def identical(self) -> bool:
        return self.first is None

    @property
    def same(self) -> bool:
        return self.first_other is None


IDENTICAL = Comparison()


def compare(recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> Comparison:
    """Compares two JSON values of the same kind."""
    if canonical_json(recorded) == canonical_json(replayed):  # not `==`, to which true is 1
        return IDENTICAL
    first = other = reworded = None
    count = 0
    largest = 0.0
    for difference in _differences(recorded, replayed, ""):
        if _is_reworded(difference):
            count += 1
            reworded = reworded or difference
            continue
        first = first or difference
        gap = _log_gap(difference)
        if gap is not None:
            largest = max(largest, gap)
        if _matters(difference, gap):
            other = other or difference
    return Comparison(first, other, largest, count, reworded)


def numbers_in(sentence: str) -> Counter[str]:
    """The numbers of a sentence as they are written (`218`, `+1.25`, `15,604`), and how often each is said: "5 of 5
    failed" is not "5 of 10 failed"."""
    return Counter(NUMBER.findall(sentence))


def _differences(recorded: Any, replayed: Any, path: str) -> Iterator[ValueDifference]:
    if isinstance(recorded, Mapping) and isinstance(replayed, Mapping):
        for key in sorted({*recorded, *replayed}):
            below = f"{path}.{key}" if path else str(key)
            if key not in recorded or key not in replayed:
                yield ValueDifference(below, recorded.get(key, MISSING), replayed.get(key, MISSING))
                continue
            yield from _differences(recorded[key], replayed[key], below)
    elif isinstance(recorded, list | tuple) and isinstance(replayed, list | tuple):
        if len(recorded) != len(replayed):
            yield ValueDifference(path, list(recorded), list(replayed))
            return
        for position, (one, two) in enumerate(zip(recorded, replayed, strict=True)):
            yield from _differences(one, two, f"{path}[{position}]")
    elif canonical_json(recorded) != canonical_json(replayed):
        yield ValueDifference(path, recorded, replayed)


def _is_reworded(difference: ValueDifference) -> bool:
    """Whether both are sentences, and every number that was said is said today."""
    return _are_sentences(difference) and numbers_in(difference.recorded) <= numbers_in(difference.replayed)


def _are_sentences(difference: ValueDifference) -> bool:
    """Whether both say something; that nothing was said is no wording."""
    both = (difference.recorded, difference.replayed)
    return _name(difference.path) in SENTENCES and all(
        isinstance(one, str) and one and one is not MISSING for one in both
    )


def _matters(difference: ValueDifference, gap: float | None) -> bool:
    """Whether a difference is one of verdict or decision, and not of the last digits or of a sentence."""
    if gap is not None:
        return gap >= LOG_E_TOLERANCE
    if _are_sentences(difference):  # a rounded figure may come out differently where the verdict is the same
        return False
    name = _name(difference.path)
    recorded, replayed = difference.recorded, difference.replayed
    if not (_is_number(recorded) and _is_number(replayed)):
        return True
    if name.startswith("forecast_"):
        return False
    if float(recorded).is_integer() and float(replayed).is_integer():
        return True
    return not math.isclose(recorded, replayed, rel_tol=FIGURE_TOLERANCE, abs_tol=FIGURE_TOLERANCE)


def _log_gap(difference: ValueDifference) -> float | None:
    """|log of one - log of the other|, when both are evidence."""
    recorded, replayed = difference.recorded, difference.replayed
    if _name(difference.path) not in EVIDENCE or not (_is_number(recorded) and _is_number(replayed)):
        return None
    if recorded <= 0 or replayed <= 0:
        return math.inf
    return abs(math.log(recorded) - math.log(replayed))


def _name(path: str) -> str:
    return path.rpartition(".")[2].partition("[")[0]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
