"""Typed readers of what a query or a form says: one place that knows what a number is, and how large one may be.

Every reader raises InvalidInput naming the field. Texts arrive without NUL and surrogates: the edge refused those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.plain import shown

LARGEST_WHOLE = 2**31 - 1  # numbers of versions and revisions, ids of rows
LAST_MOMENT = 253_402_300_799.0  # the last second of the year 9999, since the epoch


def whole_number(values: Mapping[str, str], name: str) -> int:
    """A whole number from 0 to LARGEST_WHOLE that must be there."""
    found = whole_number_or_none(values, name)
    if found is None:
        raise InvalidInput(f"{name} is missing.", field=name, fix="Send a whole number.")
    return found


def whole_number_or_none(values: Mapping[str, str], name: str) -> int | None:
    """A whole number from 0 to LARGEST_WHOLE, None when none is given."""
    raw = values.get(name, "").strip()
    if not raw:
        return None
    # Nothing is read that has more digits than the largest: Python refuses thousands of them with an error of its own.
    if not raw.isascii() or not raw.isdecimal() or len(raw) > 10 or int(raw) > LARGEST_WHOLE:
        raise InvalidInput(
            f"{name} must be a whole number, not {shown(raw)!r}.",
            field=name,
            fix=f"Use a whole number from 0 to {LARGEST_WHOLE:,}.",
        )
    return int(raw)


def moment_or_none(values: Mapping[str, str], name: str) -> float | None:
    """Seconds since the epoch, None when none are given."""
    return _number_or_none(values, name, 0.0, LAST_MOMENT)


def text(values: Mapping[str, str], name: str, *, longest: int) -> str:
    """A text of at most `longest` characters, without the space around it; empty when it is not given."""
    raw = values.get(name, "").strip()
    if len(raw) > longest:
        raise InvalidInput(
            f"{name} has {len(raw):,} characters, at most {longest:,} are taken.",
            field=name,
            fix="Shorten it.",
        )
    return raw


def _number_or_none(values: Mapping[str, str], name: str, low: float, high: float) -> float | None:
    raw = values.get(name, "").strip()
    if not raw:
        return None
    try:
        number = float(raw)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise InvalidInput(
            f"{name} must be a number, not {shown(raw)!r}.",
            field=name,
            fix=f"Use a number from {low:,.0f} to {high:,.0f}.",
        )
    return number
