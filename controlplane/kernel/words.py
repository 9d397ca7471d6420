"""Numbers and units as people read them, in sentences, on pages and in the command: one place for all of them.

The name of a function says the unit of what it is given: `percent_of_bp` gets basis points, `percent_of_share` a share
from 0 to 1, `duration_of_seconds` seconds, `duration_of_minutes` minutes.
"""

from __future__ import annotations

from datetime import UTC, datetime

# --- shares and changes -----------------------------------------------------------------------------------------------


def percent_of_bp(basis_points: float) -> str:
    """1000 -> `10%`, 1250 -> `12.5%`, 995 -> `9.95%`."""
    return f"{basis_points / 100:.2f}".rstrip("0").rstrip(".") + "%"


def percent_of_share(share: float) -> str:
    """0.0024 -> `0.24%`, 0.123 -> `12.3%`."""
    value = share * 100
    return f"{significant(value, 3 if abs(value) >= 10 else 2)}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points: 0.01 -> `+1 pp`, -0.002 -> `−0.2 pp`."""
    return f"{_sign(difference)}{significant(abs(difference * 100))} pp"


def ratio_text(ratio: float) -> str:
    """1.163 -> `×1.16`."""
    return f"×{significant(ratio, 3)}"


def signed(value: float) -> str:
    """A difference of scores: 0.006 -> `+0.006`."""
    return f"{_sign(value)}{significant(abs(value))}"


def _sign(value: float) -> str:
    return "−" if value < 0 else "+" if value > 0 else ""


# --- numbers ----------------------------------------------------------------------------------------------------------


def significant(value: float, digits: int = 2) -> str:
    """Rounded to `digits` significant digits, in plain notation, without a trailing point."""
    if value == 0:
        return "0"
    rounded = f"{value:.{digits}g}"
    if "e" in rounded:
        rounded = (
            f"{float(rounded):.12f}".rstrip("0").rstrip(".") if abs(value) < 1 else f"{float(rounded):.0f}"
        )
    return rounded


def whole(value: float) -> str:
    """15604 -> `15,604`."""
    return f"{value:,.0f}"


def rough(value: float) -> str:
    """A forecast: two significant digits with thousands, 7123 -> `7,100`."""
    return f"{float(f'{value:.2g}'):,.0f}"


def odds(evidence: float) -> str:
    """Evidence E as the first number of "412 to 1": `412`, `over a million`."""
    if evidence >= 1e6:
        return "over a million"
    return f"{evidence:,.0f}" if evidence >= 10 else significant(evidence)


# --- times ------------------------------------------------------------------------------------------------------------


def duration_of_seconds(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h: the two largest units, whole."""
    left = max(0, round(seconds))
    for unit, size, smaller, smaller_size in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if left >= size:
            rest = left % size // smaller_size
            return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{left} s"


def duration_of_minutes(minutes: float) -> str:
    """A forecast, which is not exact: `under a minute`, `9 min`, `2.5 h`."""
    if minutes < 1:
        return "under a minute"
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{significant(minutes / 60)} h"


def seconds_text(seconds: float) -> str:
    """A limit or a setting, exact: 0.5 -> `500 ms`, 2.5 -> `2.5 s`, 540 -> `9 min`."""
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min"


def clock_time(at: float) -> str:
    """When something was, given in seconds since the epoch: `14:02:11 UTC`."""
    return f"{datetime.fromtimestamp(at, tz=UTC):%H:%M:%S} UTC"
