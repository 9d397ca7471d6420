"""Numbers as people read them. One place, so that the same value reads the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h: the two largest units, whole."""
    whole = max(0, round(seconds))
    for unit, size, smaller, smaller_size in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def percent(basis_points: int) -> str:
    """5%, 12.5%: a share given in basis points."""
    return f"{basis_points / 100:g}%"


def clock_time(at: float) -> str:
    """14:02:11 UTC: when something was, given in seconds since the epoch."""
    return f"{datetime.fromtimestamp(at, tz=UTC):%H:%M:%S} UTC"
