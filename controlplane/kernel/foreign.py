"""Reads what others hand over (MLflow, Envoy, engines, supervisord): typed, with bounds, in words that name the place.

Pure. Whatever comes, only two things leave a reader: a value of the kind that was asked for, or InvalidInput with the
code ODD_ANSWER. So whoever reads a list keeps an odd entry out at its own place and takes the others.

    raw = Fields(parsed(body), "What MLflow says of llama")
    raw.whole("version", least=1), raw.text("description", ""), [tag.text("key") for tag in raw.parts("tags")]

Why it is not pydantic: that costs every process 0.3 s of processor and 10 MB (measured, beside Django; the launcher
beside each engine too), and every kind here would need a validator of our own all the same: lone surrogates, numbers of
5,000 digits and invalid UTF-8 must fail at their item and not at the whole document, `true` is no number, and the words
are for people.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.plain import UNREADABLE

ODD_ANSWER = "odd-answer"  # the code: what was said of this one thing cannot be understood

LONGEST_TEXT = 200_000  # characters; MLflow takes tags of 100,000
LONGEST_LIST = 100_000
LONGEST_NUMBER = 32  # characters of a number that comes as text
LONGEST_WORDS = 300
INT64 = 2**63 - 1
REPLACEMENT = "\ufffd"
_MISSING: Any = object()
_WHOLE = re.compile(r"-?\d+", re.ASCII)
# As JSON and the Prometheus format write numbers; Python's `float` takes more (`1_000`, digits of other scripts).
_NUMBER = re.compile(
    r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity)|nan", re.ASCII | re.IGNORECASE
)


# --- documents --------------------------------------------------------------------------------------------------------


def parsed(body: bytes | str, said: str = "The answer") -> Any:
    """The JSON value of a body. `said`: whose words these are, as an error's sentence begins.

    Bytes that are no UTF-8 become lone surrogates, and numbers too long for any use become infinite: both are refused
    where they are read, so that they spoil their own place only. Raises InvalidInput for what is no JSON.
    """
    text = body.decode("utf-8-sig", errors="surrogateescape") if isinstance(body, bytes) else body
    try:
        return json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise _odd(said, "it is nested too deeply") from None
    except ValueError as error:
        raise _odd(said, f"it is no JSON ({words_of(str(error), 100)})") from None


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


# --- objects ----------------------------------------------------------------------------------------------------------


class Fields:
    """A JSON object of somebody else. Every read gives a value of its kind or raises InvalidInput.

    said   whose words these are, as the sentence of an error begins: "What MLflow says of version 1 of llama"
    at     where the object stands in them, such as `data.metrics.0`

    A field without a default must be there. A missing one, and a null where text or a number was due, is the default.
    A null where a list or an object was due is refused: "there are none" would make others delete what they know.
    """

    __slots__ = ("_at", "_raw", "_said")

    def __init__(self, raw: object, said: str = "The answer", at: str = "") -> None:
        self._said, self._at = said, at
        if not isinstance(raw, Mapping):
            raise self._refuse(raw, "object", at)
        self._raw = raw

    def __contains__(self, name: str) -> bool:
        return name in self._raw

    def __bool__(self) -> bool:
        """False for an empty object."""
        return bool(self._raw)

    def text(self, name: str, default: str = _MISSING, *, longest: int = LONGEST_TEXT) -> str:
        """A text that every database takes (see `storable`), of at most `longest` characters."""
        return storable(self.exact(name, default, longest=longest))

    def exact(self, name: str, default: str = _MISSING, *, longest: int = LONGEST_TEXT) -> str:
        """A text as it came: a name that is compared or sent back. It may hold what no database takes."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._refuse(value, "text", self._path(name))
        if len(value) > longest:
            raise _odd(
                self._said,
                f"{self._path(name)} has {len(value):,} characters, at most {longest:,} can be kept",
                self._path(name),
            )
        return value

    def whole(self, name: str, default: int = _MISSING, *, least: int = -INT64 - 1, most: int = INT64) -> int:
        """A whole number from `least` to `most`, also one that comes as text (Protobuf writes 64 bits so)."""
        value = self._get(name, default)
        return whole_of(value, self._said, self._path(name), least=least, most=most)

    def number(
        self,
        name: str,
        default: float = _MISSING,
        *,
        least: float = -math.inf,
        most: float = math.inf,
        finite: bool = True,
    ) -> float:
        """A number from `least` to `most`, also one that comes as text; finite unless told otherwise."""
        value = self._get(name, default)
        return number_of(value, self._said, self._path(name), least=least, most=most, finite=finite)

    def flag(self, name: str, default: bool = _MISSING) -> bool:
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self._refuse(value, "true or false", self._path(name))
        return value

    def names(self) -> list[str]:
        """The names of its fields, in the order in which they came."""
        return [str(name) for name in self._raw]

    def has(self, name: str, value: str) -> bool:
        """Whether the field is there with this value; whatever else it holds is not read."""
        return bool(self._raw.get(name) == value)

    def has_object(self, name: str) -> bool:
        """Whether the field is there and not null, where null says that there is none."""
        return self._raw.get(name) is not None

    def is_only(self, name: str, value: str) -> bool:
        """Whether the object has this one field, with this value."""
        return len(self._raw) == 1 and self._raw.get(name) == value

    def part(self, name: str) -> Fields:
        """The object in that field; an empty one when it is missing."""
        return Fields(self._raw.get(name, {}), self._said, self._path(name))

    def needed(self, name: str) -> Fields:
        """The object in that field, which must be there."""
        return Fields(self._get(name, _MISSING), self._said, self._path(name))

    def entries(self, name: str) -> list[Any]:
        """The list in that field, its entries unread; an empty one when it is missing."""
        value = self._raw.get(name, [])
        if not isinstance(value, list):
            raise self._refuse(value, "list", self._path(name))
        if len(value) > LONGEST_LIST:
            raise _odd(self._said, f"{self._path(name)} has {len(value):,} entries", self._path(name))
        return value

    def parts(self, name: str) -> Iterator[Fields]:
        """The objects of the list in that field; none when it is missing."""
        for index, entry in enumerate(self.entries(name)):
            yield Fields(entry, self._said, f"{self._path(name)}.{index}")

    def texts(self, name: str, *, longest: int = LONGEST_TEXT) -> list[str]:
        """The texts of the list in that field; none when it is missing."""
        entries = enumerate(self.entries(name))
        path = self._path(name)
        return [
            Fields({str(n): entry}, self._said, path).text(str(n), longest=longest) for n, entry in entries
        ]

    def texts_by_name(self, name: str, *, longest: int = LONGEST_TEXT) -> dict[str, str]:
        """The texts of the object in that field, by their names; none when it is missing."""
        part = self.part(name)
        return {storable(str(key)): part.text(key, longest=longest) for key in part._raw}

    def wholes_by_name(self, name: str, *, least: int, most: int) -> dict[str, int]:
        """The whole numbers of the object in that field, by their names; none when it is missing."""
        part = self.part(name)
        return {storable(str(key)): part.whole(key, least=least, most=most) for key in part._raw}

    def odd(self, what: str, name: str = "") -> InvalidInput:
        """The error to raise for what only the caller knows to be odd: `what` goes on after the colon."""
        return _odd(self._said, what, self._path(name) if name else self._at)

    def _get(self, name: str, default: Any) -> Any:
        value = self._raw.get(name)
        if value is not None:
            return value
        if default is _MISSING:
            said = "is null" if name in self._raw else "is missing"
            raise _odd(self._said, f"{self._path(name)} {said}", self._path(name))
        return default

    def _path(self, name: str) -> str:
        return f"{self._at}.{name}" if self._at else name

    def _refuse(self, value: object, kind: str, at: str) -> InvalidInput:
        return _odd(self._said, f"{at or 'it'} is {shown_value(value)}, which is no {kind}", at)


# --- single values ----------------------------------------------------------------------------------------------------


def whole_of(value: object, said: str, at: str, *, least: int = -INT64 - 1, most: int = INT64) -> int:
    """See `Fields.whole`."""
    found = value
    if isinstance(value, str) and len(value) <= LONGEST_NUMBER and _WHOLE.fullmatch(value):
        found = int(value)
    if isinstance(found, bool) or not isinstance(found, int):
        raise _odd(said, f"{at} is {shown_value(value)}, which is no whole number", at)
    if not least <= found <= most:
        raise _odd(said, f"{at} is {shown_value(value)}, which is not between {least:,} and {most:,}", at)
    return found


def number_of(
    value: object,
    said: str,
    at: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    finite: bool = True,
) -> float:
    """See `Fields.number`."""
    found = _number(value)
    if found is None:
        raise _odd(said, f"{at} is {shown_value(value)}, which is no number", at)
    if finite and not math.isfinite(found):
        raise _odd(said, f"{at} is {shown_value(value)}, which is not finite", at)
    if found < least or found > most:
        bound = f"below {least:g}" if found < least else f"above {most:g}"
        raise _odd(said, f"{at} is {shown_value(value)}, which is {bound}", at)
    return found


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (len(value) > LONGEST_NUMBER or not _NUMBER.fullmatch(value)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def storable(text: str) -> str:
    """The text without what no database takes: NUL and lone surrogates become the replacement character."""
    return UNREADABLE.sub(REPLACEMENT, text)


def words_of(said: str | bytes, longest: int = LONGEST_WORDS) -> str:
    """Somebody else's words, fit to be quoted in a message: one paragraph of printable characters, cut."""
    text = said[: 4 * longest].decode(errors="replace") if isinstance(said, bytes) else said[: 4 * longest]
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def shown_value(value: object) -> str:
    """A value as an error names it: short, printable, never walked into, for it may be nested without end."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else f"{value[:40]!r}..."
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 256 else "a number too large to be shown"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def _odd(said: str, what: str, field: str = "") -> InvalidInput:
    return InvalidInput(f"{said} cannot be understood: {what}.", field=field, code=ODD_ANSWER)
