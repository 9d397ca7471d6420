"""Numbers as people type them into a form, and back."""

from __future__ import annotations

import math

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.plain import shown

LARGEST = 1e12  # of any number in a form, before its own range: nothing is computed with more


def need_number(text: str, name: str, what: str) -> float:
    """The number typed as `what`. Raises InvalidInput with the field `name`."""
    value = read_number(text)
    if value is None:
        raise InvalidInput(
            f"{shown(text)!r} is no {what}: a number is needed." if text else f"The {what} is missing.",
            field=name,
        )
    return value


def read_number(text: str) -> float | None:
    """1,000, −2 and ×1.5 are numbers; None for what is none, or beyond LARGEST."""
    try:
        value = float(text.replace(",", "").replace("\N{MINUS SIGN}", "-").replace("×", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) <= LARGEST else None


def typed_number(value: float) -> str:
    """As it stands in a field: no thousands, no trailing zeros."""
    return f"{round(value, 6):g}"
