"""Values that this installation wrote down itself are read back as they are: a rule of today for what people may send
must not close a page, or a replay, of what was allowed when it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

T = TypeVar("T")


def as_stored(kind: type[T], values: Mapping[str, Any]) -> T:
    """A frozen dataclass with these values, without the checks that its constructor makes.

    Fields that were not there yet when it was written have their defaults; values of fields that are gone are left out.
    Raises KeyError for a field that has no default.
    """
    made = object.__new__(kind)
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name in values:
            value = values[one.name]
        elif one.default is not MISSING:
            value = one.default
        elif one.default_factory is not MISSING:
            value = one.default_factory()
        else:
            raise KeyError(one.name)
        object.__setattr__(made, one.name, value)
    return made
