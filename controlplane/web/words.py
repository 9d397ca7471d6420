"""How numbers and times read in the tables and tiles of pages. What sentences say is in `controlplane.kernel.words`."""

from __future__ import annotations

from datetime import UTC, datetime

MINUS = "\N{MINUS SIGN}"


def percent_text(share: float | None, *, digits: int = 2) -> str:
    """0.0024 -> `0.24%`; `no data` for None. Shares of 10% and more lose a digit."""
    if share is None:
        return "no data"
    percent = share * 100
    kept = max(0, digits - 1) if abs(percent) >= 10 else digits
    return f"{percent:.{kept}f}%".replace("-", MINUS)


def number_text(value: float | None) -> str:
    """1234.5 -> `1,234`, 13.1 -> `13.1`, 0.842 -> `0.842`; `no data` for None."""
    if value is None:
        return "no data"
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


def latency_text(seconds: float | None) -> str:
    """A latency: 0.092 -> `92 ms`, 1.4 -> `1.4 s`; `no data` for None."""
    if seconds is None:
        return "no data"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"


def duration_text(seconds: float) -> str:
    """A time span in at most two units: 45 -> `45 s`, 3120 -> `52 min`, 11040 -> `3 h 04 min`, 9 d 2 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


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


def bytes_text(size: int) -> str:
    """1048576 -> `1.0 MiB`."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def count_text(number: int, one: str, many: str = "") -> str:
    """1 -> `1 rollout`, 4 -> `4 rollouts`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
