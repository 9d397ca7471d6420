"""Amounts as Kubernetes writes them: "100m", "8Gi", "1.5", "2e3". Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import ODD_ANSWER, Fields, shown_value, words_of

LONGEST = 40  # characters
LONGEST_NAME = 320  # of a resource: a prefix of 253 and a name of 63, as Kubernetes allows
MOST_RESOURCES = 500  # of one node, container or quota
LARGEST = 10**24  # thousandths: a thousand exabytes
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<power>[+-]?[0-9]{1,2}))?"
)
_FACTORS: Mapping[str, Fraction] = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 10**3),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15),
    "E": Fraction(10**18), "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40),
    "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip


def thousandths(written: object, said: str, *, up: bool) -> int:
    """An amount in thousandths of its unit; what is finer is rounded `up`, or down.

    Raises InvalidInput for what is none, for a negative one and for one without end. `said`: as in `Fields`.
    """
    text = str(written) if isinstance(written, int) and not isinstance(written, bool) else written
    found = _QUANTITY.fullmatch(text) if isinstance(text, str) and len(text) <= LONGEST else None
    if found is None:
        raise _odd(said, written, "no amount")
    factor = _FACTORS[found["suffix"]] if found["suffix"] else Fraction(10) ** int(found["power"] or 0)
    exact = Fraction(found["number"]) * factor * 1_000
    if not 0 <= exact <= LARGEST:
        raise _odd(said, written, "no amount that there can be")
    return math.ceil(exact) if up else math.floor(exact)


def amounts(raw: Fields, name: str, said: str, *, up: bool) -> dict[str, int]:
    """The amounts of the object in that field, by their names; none when it is missing. Raises InvalidInput."""
    if not raw.has_object(name):
        return {}
    part = raw.part(name)
    names = part.names()
    if len(names) > MOST_RESOURCES:
        raise InvalidInput(f"{said} names {len(names):,} resources.", code=ODD_ANSWER)
    # Sentences quote these names.
    return {words_of(one, LONGEST_NAME): thousandths(_written(part, one), said, up=up) for one in names}


def _written(part: Fields, name: str) -> object:
    """Text, as Kubernetes writes amounts; or a whole number, as people write them in YAML."""
    try:
        return part.exact(name)
    except InvalidInput:
        return part.whole(name)


def _odd(said: str, written: object, what: str) -> InvalidInput:
    return InvalidInput(f"{said} cannot be understood: {shown_value(written)} is {what}.", code=ODD_ANSWER)
