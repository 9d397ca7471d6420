"""Numbers as people read them, the same everywhere a verdict is shown."""

from __future__ import annotations

# What a gate counts, by its kind; requests where nothing else is said.
UNITS = {"paired": "pairs", "feedback": "answers", "empty": "completions", "truncated": "completions"}


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


def percent(share: float) -> str:
    """0.0024 -> `0.24%`, 0.123 -> `12.3%`."""
    value = share * 100
    return f"{significant(value, 3 if abs(value) >= 10 else 2)}%"


def points(difference: float) -> str:
    """0.01 -> `+1 pp`, -0.002 -> `−0.2 pp`."""
    value = difference * 100
    sign = "−" if value < 0 else "+" if value > 0 else ""
    return f"{sign}{significant(abs(value))} pp"


def ratio_text(ratio: float) -> str:
    """1.163 -> `×1.16`."""
    return f"×{significant(ratio, 3)}"


def signed(value: float) -> str:
    """A score difference: 0.006 -> `+0.006`."""
    sign = "−" if value < 0 else "+" if value > 0 else ""
    return f"{sign}{significant(abs(value))}"


def whole(value: float) -> str:
    """15604 -> `15,604`."""
    return f"{value:,.0f}"


def rough(value: float) -> str:
    """A forecast: two significant digits with thousands, 7123 -> `7,100`."""
    return f"{float(f'{value:.2g}'):,.0f}"


def seconds_text(seconds: float) -> str:
    """0.5 -> `500 ms`, 2.5 -> `2.5 s`, 540 -> `9 min`."""
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min"


def duration(minutes: float) -> str:
    """A forecast in minutes: `under a minute`, `9 min`, `2.5 h`."""
    if minutes < 1:
        return "under a minute"
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{significant(minutes / 60)} h"


def odds(evidence: float) -> str:
    """Evidence E as people say it: `412`, `over a million`."""
    if evidence >= 1e6:
        return "over a million"
    return f"{evidence:,.0f}" if evidence >= 10 else significant(evidence)
