"""What every value from outside must be before anybody looks at its meaning: text that every database can hold,
numbers that it can hold, and a form that ends.

PostgreSQL stores no NUL character and no half of a surrogate pair; SQLite takes both. So they are refused here, for
both alike. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.kernel.errors import Unreadable

LARGEST = 2**63 - 1  # what a database holds as a whole number
DEEPEST = 32
LONGEST_NAME_SHOWN = 80

UNREADABLE = re.compile("[\x00\ud800-\udfff]")
"""What no database holds: NUL, and half of a surrogate pair."""


def is_plain_text(text: str) -> bool:
    """Whether every database can hold this text."""
    return UNREADABLE.search(text) is None


def check_text(text: str, *, field: str) -> None:
    """Raises Unreadable naming `field` for a text with a NUL or half a surrogate pair in it."""
    found = UNREADABLE.search(text)
    if found is None:
        return
    what = "a NUL character" if found.group() == "\x00" else "half of a surrogate pair, which is no character"
    raise Unreadable(
        f"{field or 'The value'} holds {what} (place {found.start() + 1:,}).",
        field=field,
        fix="Send the text without it.",
    )


def check_plain(value: Any, *, field: str = "") -> None:
    """Raises Unreadable for JSON-like data that holds, at any depth, such a text, a number beyond 64 bits or none at
    all (NaN, infinity), what JSON has no form for, or more than DEEPEST lists and objects in each other.

    field   what the value is called; parts inside are named like `plan.steps[1].share_bp`
    """
    for inner, name, depth in _walk(value, field, 0):
        if depth > DEEPEST:
            raise Unreadable(
                f"{name} is nested more than {DEEPEST} deep.", field=name, fix="Send a flatter value."
            )
        if isinstance(inner, str):
            check_text(inner, field=name)
        elif isinstance(inner, float) and not math.isfinite(inner):
            raise Unreadable(f"{name or 'The value'} is no finite number.", field=name)
        elif isinstance(inner, int | float) and abs(inner) > LARGEST:
            raise Unreadable(
                f"{name or 'The value'} is beyond {LARGEST:,}, the largest number here.", field=name
            )
        elif not isinstance(inner, str | int | float | None | Mapping | list | tuple):
            raise Unreadable(
                f"{name or 'The value'} is a {type(inner).__name__}; only texts, numbers, true, false, null, lists and "
                "objects are read here.",
                field=name,
                fix="Put it in quotes to send it as a text.",
            )


def shown(text: str) -> str:
    """The text as it can stand in an answer: no unreadable characters, cut where it is long."""
    plain = text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    return plain if len(plain) <= LONGEST_NAME_SHOWN else plain[: LONGEST_NAME_SHOWN - 3] + "..."


def _walk(value: Any, name: str, depth: int) -> Iterator[tuple[Any, str, int]]:
    """(value, name, depth) of the value and all in it. Stops below DEEPEST: what is deeper is never looked at."""
    waiting = [(value, name, depth)]
    while waiting:
        inner, inner_name, at = waiting.pop()
        yield inner, inner_name, at
        if isinstance(inner, Mapping):
            for key, item in inner.items():
                waiting.append((item, _checked_name(key, inner_name), at + 1))
        elif isinstance(inner, list | tuple):
            waiting += [(item, f"{inner_name}[{place}]", at + 1) for place, item in enumerate(inner)]


def _checked_name(key: Any, outer: str) -> str:
    where = outer or "The value"
    if not isinstance(key, str):
        raise Unreadable(f"{where} has a name that is no text: {key!r:.40}.", field=outer)
    if not is_plain_text(key):
        raise Unreadable(
            f"{where} has a name that holds a NUL character or half of a surrogate pair: {shown(key)!r}.",
            field=outer,
        )
    return f"{outer}.{shown(key)}" if outer else shown(key)
