"""Numbers and units as people read them, in sentences, on pages and in the command: the one place for all of them.

The name of a function says the unit of what it is given: `percent_of_bp` gets basis points, `percent_of_share` a share
from 0 to 1, `duration_of_seconds` seconds, `duration_of_minutes` minutes. What tables and tiles show may be unknown:
those functions take None and say `NO_DATA`. A test finds percent that is written
elsewhere (`tests/rules/test_words.py`).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

NO_DATA = "no data"
MINUS = "\N{MINUS SIGN}"

ROUNDING = 1e-9  # of floats that stand for round numbers
FAIRLY = 1.05  # so much may a bound grow by being written with few digits

# --- shares and changes -----------------------------------------------------------------------------------------------


def percent_of_bp(basis_points: float) -> str:
    """1000 -> `10%`, 1250 -> `12.5%`, 995 -> `9.95%`."""
    return f"{basis_points / 100:.2f}".rstrip("0").rstrip(".") + "%"


def percent_of_share(share: float) -> str:
    """0.0024 -> `0.24%`, 0.123 -> `12.3%`."""
    value = share * 100
    return f"{significant(value, 3 if abs(value) >= 10 else 2)}%"


def percent_or_no_data(share: float | None) -> str:
    """As `percent_of_share`; `no data` for None."""
    return NO_DATA if share is None else percent_of_share(share)


def percent_of_count(part: int, count: int) -> str:
    """`part` of `count`: 117, 250 -> `46.8%`. Only all of them are `100%`, and of none it is `no data`."""
    if not count:
        return NO_DATA
    return percent_of_share(1.0 if part == count else min(part / count, 0.999))


def cases_of(share: float) -> str:
    """A probability as people count, rounded up so that a bound stays one: 0.05 -> `5 of 100`, 1 / 60 -> `17 of 1,000`.

    `share` is above 0 and at most 1.
    """
    count = 100
    while (exact := share * count) < 1 or math.ceil(exact - ROUNDING) > FAIRLY * exact:
        count *= 10
    return f"{math.ceil(exact - ROUNDING):,} of {count:,}"


def points_of_bp(basis_points: int) -> str:
    """How large a change of shares is, in percentage points: 250 -> `2.5 pp`."""
    return f"{significant(basis_points / 100, 3)} pp"


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
    return MINUS if value < 0 else "+" if value > 0 else ""


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


def number_text(value: float | None) -> str:
    """A measured figure: 1234.5 -> `1,234`, 13.1 -> `13.1`, 0.842 -> `0.842`; `no data` for None."""
    if value is None:
        return NO_DATA
    size = abs(value)
    if size >= 1000 or (float(value).is_integer() and size >= 1):
        text = f"{value:,.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 1:
        text = f"{value:.2f}".rstrip("0").rstrip(".")
    elif value == 0:
        text = "0"
    else:
        text = f"{value:.3g}"
    return text.replace("-", MINUS)


def count_text(number: int, one: str, many: str = "") -> str:
    """1 -> `1 rollout`, 4 -> `4 rollouts`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def bytes_text(size: int) -> str:
    """1048576 -> `1.0 MiB`."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


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


def window_text(seconds: float) -> str:
    """A time looked back over, not exact: 30 -> `30 s`, 750 -> `12 min`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{significant(seconds / 60)} min"


def latency_text(seconds: float | None) -> str:
    """A measured latency: 0.092 -> `92 ms`, 1.4 -> `1.4 s`; `no data` for None."""
    if seconds is None:
        return NO_DATA
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"


def clock_time(at: float) -> str:
    """When something was, given in seconds since the epoch: `14:02:11 UTC`."""
    return f"{datetime.fromtimestamp(at, tz=UTC):%H:%M:%S} UTC"


def clock_text(at: datetime, *, now: datetime) -> str:
    """When, as short as it stays clear: `09:44` today, `Thu 18:22` this week, `4 Nov`, `4 Nov 2025`. UTC."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    days = (now.date() - at.date()).days
    if days == 0:
        return f"{at:%H:%M}"
    if 0 < days < 7:
        return f"{at:%a %H:%M}"
    if at.year == now.year:
        return f"{at.day} {at:%b}"
    return f"{at.day} {at:%b %Y}"
