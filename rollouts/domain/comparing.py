"""Whether two assessments, or two decisions, are the same: by their bytes, or else in what they say.

Floating point differs between versions of numpy, scipy and the C library in the last digit. So there are two promises:
identical bytes under the same software, and otherwise the same verdicts and decisions with
|difference of log E| < LOG_E_TOLERANCE.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.digests import canonical_json

LOG_E_TOLERANCE = 1e-9
FIGURE_TOLERANCE = 1e-6  # relative, for estimates and intervals that no verdict rests on
EVIDENCE = frozenset({"evidence", "evidence_pass"})
# Sentences for people: a rounded figure in them may come out differently where the verdict is the same.
WORDS = frozenset(
    {
        "sentence", "reason", "detail", "tie_sentence", "finding", "label", "fast_kill",
        "change_text", "interval_text", "limit_text",
    }
)  # fmt: skip
MISSING = "(nothing)"


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that came out differently. `path` as in `verdicts[2].evidence`."""

    path: str
    recorded: Any
    replayed: Any

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "recorded": self.recorded, "replayed": self.replayed}


@dataclass(frozen=True, slots=True)
class Comparison:
    """`first`: the first value with other bytes; `first_other` the first that says something else; `log_e` the largest
    |difference of log E|."""

    first: Difference | None = None
    first_other: Difference | None = None
    log_e: float = 0.0

    @property
    def identical(self) -> bool:
        return self.first is None

    @property
    def same(self) -> bool:
        return self.first_other is None


IDENTICAL = Comparison()


def compare(recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> Comparison:
    """Compares two JSON values of the same kind."""
    if recorded == replayed or canonical_json(recorded) == canonical_json(replayed):
        return IDENTICAL
    first = other = None
    largest = 0.0
    for difference in _differences(recorded, replayed, ""):
        first = first or difference
        gap = _log_gap(difference)
        if gap is not None:
            largest = max(largest, gap)
        if _matters(difference, gap):
            other = other or difference
    return Comparison(first, other, largest)


def _differences(recorded: Any, replayed: Any, path: str) -> Iterator[Difference]:
    if isinstance(recorded, Mapping) and isinstance(replayed, Mapping):
        for key in sorted({*recorded, *replayed}):
            below = f"{path}.{key}" if path else str(key)
            yield from _differences(recorded.get(key, MISSING), replayed.get(key, MISSING), below)
    elif isinstance(recorded, list | tuple) and isinstance(replayed, list | tuple):
        if len(recorded) != len(replayed):
            yield Difference(path, list(recorded), list(replayed))
            return
        for position, (one, two) in enumerate(zip(recorded, replayed, strict=True)):
            yield from _differences(one, two, f"{path}[{position}]")
    elif canonical_json(recorded) != canonical_json(replayed):
        yield Difference(path, recorded, replayed)


def _matters(difference: Difference, gap: float | None) -> bool:
    """Whether a difference is one of verdict or decision, and not of the last digits or of a sentence."""
    if gap is not None:
        return gap >= LOG_E_TOLERANCE
    name = _name(difference.path)
    recorded, replayed = difference.recorded, difference.replayed
    if name in WORDS:
        return not (isinstance(recorded, str) and isinstance(replayed, str))
    if not (_is_number(recorded) and _is_number(replayed)):
        return True
    if name.startswith("forecast_"):
        return False
    if float(recorded).is_integer() and float(replayed).is_integer():
        return True
    return not math.isclose(recorded, replayed, rel_tol=FIGURE_TOLERANCE, abs_tol=FIGURE_TOLERANCE)


def _log_gap(difference: Difference) -> float | None:
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
