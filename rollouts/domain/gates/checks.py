"""Refusals of bad numbers, in one place, so that every message says which field, what it was, and what is
allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from controlplane.kernel.errors import InvalidInput

ALL_FLOATS = frozenset({float})
LARGEST_COUNT = 2**53  # above this a float no longer counts by ones


def finite(value: object, *, field: str) -> float:
    """`value` as a finite float; refuses text, booleans, NaN and infinity."""
    if type(value) is float and math.isfinite(value):  # nearly always: states are made of these
        return value
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise InvalidInput(f"{field} must be a number, not {value!r}.", field=field)
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        raise InvalidInput(f"{field} is larger than any number can be here.", field=field) from None
    if not math.isfinite(number):
        raise InvalidInput(f"{field} must be a finite number, not {number}.", field=field)
    return number


def all_finite(values: Iterable[object], *, field: str) -> tuple[float, ...]:
    """Every one of the values as a finite float, see `finite`."""
    found = tuple(values)
    if ALL_FLOATS.issuperset(map(type, found)) and all(map(math.isfinite, found)):  # type: ignore[arg-type]
        return found  # type: ignore[return-value]
    return tuple([finite(value, field=field) for value in found])


def between(
    value: object, low: float, high: float, *, field: str, low_open: bool = False, high_open: bool = False
) -> float:
    """`value` as a float in the stated range; the message names the range."""
    if type(value) is float and low < value < high:  # nearly always
        return value
    number = finite(value, field=field)
    below = number <= low if low_open else number < low
    above = number >= high if high_open else number > high
    if below or above:
        from_text = f"{'above' if low_open else 'at least'} {low:g}"
        to_text = f"{'below' if high_open else 'at most'} {high:g}"
        raise InvalidInput(f"{field} is {number:g}; it must be {from_text} and {to_text}.", field=field)
    return number


def chance(value: object, *, field: str) -> float:
    """`value` as the probability of an error, above 0 and at most 0.5; 1 / it, the threshold, is a number, too."""
    number = between(value, 0, 0.5, field=field, low_open=True)
    if math.isinf(1 / number):
        raise InvalidInput(
            f"{field} is {number:g}: no evidence is ever large enough for that.",
            field=field,
            fix="Use 0.05, or 0.001 for great caution.",
        )
    return number


def count(value: object, *, field: str) -> int:
    """`value` as a whole number of things, 0 to 2^53; 3.0 is taken, 3.5 is not."""
    if type(value) is int and 0 <= value <= LARGEST_COUNT:
        return value
    number = finite(value, field=field)
    if number < 0 or number > LARGEST_COUNT or number != math.floor(number):
        raise InvalidInput(f"{field} is {value!r}; it must be a whole number from 0 to 2^53.", field=field)
    return int(number)


def events_of(events: object, trials: object, *, events_field: str, trials_field: str) -> tuple[int, int]:
    """(events, trials) as counts with events <= trials."""
    whole = count(trials, field=trials_field)
    part = count(events, field=events_field)
    if part > whole:
        raise InvalidInput(
            f"{events_field} is {part} but {trials_field} is only {whole}: more events than trials.",
            field=events_field,
        )
    return part, whole


def one_of(value: object, allowed: Sequence[str], *, field: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidInput(f"{field} is {value!r}; it must be one of: {', '.join(allowed)}.", field=field)
    return value


def text(value: object, *, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{field} must be a text that is not empty, not {value!r}.", field=field)
    return value


def flag(value: object, *, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{field} must be true or false, not {value!r}.", field=field)
    return value


def mapping(
    value: object, *, field: str, allowed: Sequence[str], needed: Sequence[str] = ()
) -> Mapping[str, Any]:
    """`value` as a mapping whose keys are all in `allowed` and hold all of `needed`."""
    where = field or "the document"
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where} must be a mapping of names to values, not {value!r}.", field=field)
    prefix = f"{field}." if field else ""
    for key in value:
        if key not in allowed:
            raise InvalidInput(
                f"{prefix}{key} is not known here.",
                field=f"{prefix}{key}",
                fix=f"Known: {', '.join(allowed)}.",
            )
    for key in needed:
        if key not in value:
            raise InvalidInput(f"{prefix}{key} is missing.", field=f"{prefix}{key}", fix="Add it.")
    return value


def exactly(value: object, names: tuple[str, ...], *, field: str) -> Mapping[str, Any]:
    """`value` as a mapping with exactly these keys."""
    if type(value) is dict and value.keys() == _set_of(names):
        return value
    return mapping(value, field=field, allowed=names, needed=names)


@cache
def _set_of(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)


def at(prefix: str, error: InvalidInput) -> InvalidInput:
    """The same refusal with `prefix` before its field, for a value that sits inside a larger document."""
    if not error.field:
        return InvalidInput(error.message, field=prefix, fix=error.fix, code=error.code, extra=error.extra)
    field = f"{prefix}.{error.field}"
    message = error.message
    if message.startswith(error.field):
        message = prefix + "." + message
    return InvalidInput(message, field=field, fix=error.fix, code=error.code, extra=error.extra)
