"""Values that this installation writes down itself, and reads back as they are: a rule of today for what people may
send must not close a page, or a replay, of what was allowed when it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache, partial
from typing import Any, TypeVar

from controlplane.kernel.errors import HeadgateError

T = TypeVar("T")
# What reading a stored value raises that is odd. An error of the database is none of them: it is no fault of the value.
ODD = (ArithmeticError, AttributeError, HeadgateError, LookupError, TypeError, ValueError)
Defaults = tuple[tuple[str, Callable[[], Any] | None], ...]


def as_stored(kind: type[T], values: Mapping[str, Any]) -> T:
    """A frozen dataclass with these values, without the checks that its constructor makes.

    Fields that were not there yet when it was written have their defaults; values of fields that are gone are left out.
    Raises KeyError for a field that has no default.
    """
    made = object.__new__(kind)
    put = object.__setattr__
    for name, default in _defaults(kind):  # type: ignore[arg-type]
        if name in values:
            put(made, name, values[name])
        elif default is None:
            raise KeyError(name)
        else:
            put(made, name, default())
    return made


def flat(value: Any) -> dict[str, Any]:
    """A dataclass of plain values, by the names of its fields: `dataclasses.asdict` without its copies."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


@cache
def _defaults(kind: Any) -> Defaults:
    """The fields of a dataclass, each with what gives its default; None where there is none."""
    found: list[tuple[str, Callable[[], Any] | None]] = []
    for one in fields(kind):
        if one.default is not MISSING:
            found.append((one.name, partial(_same, one.default)))
        else:
            found.append((one.name, None if one.default_factory is MISSING else one.default_factory))
    return tuple(found)


def _same(value: Any) -> Any:
    return value
