"""Numbers and units read the same wherever people meet them."""

from __future__ import annotations

import pytest

from controlplane.kernel.words import (
    clock_time,
    duration_of_minutes,
    duration_of_seconds,
    odds,
    percent_of_bp,
    percent_of_share,
    points,
    ratio_text,
    rough,
    seconds_text,
    signed,
    whole,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0%"), (500, "5%"), (995, "9.95%"), (1_250, "12.5%"), (9_005, "90.05%"), (10_000, "100%")],
)
def test_percent_of_bp(value: int, text: str) -> None:
    assert percent_of_bp(value) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7_500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_duration_of_seconds__has_the_two_largest_units(seconds: float, words: str) -> None:
    assert duration_of_seconds(seconds) == words


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (percent_of_share(0.0024), "0.24%"),
        (percent_of_share(0.9005), "90%"),
        (percent_of_share(0.123), "12.3%"),
        (percent_of_share(0.0), "0%"),
        (percent_of_share(0.0000012), "0.00012%"),
        (points(-0.002), "−0.2 pp"),
        (points(0.0), "0 pp"),
        (ratio_text(1.163), "×1.16"),
        (signed(0.006), "+0.006"),
        (rough(7123), "7,100"),
        (seconds_text(0.5), "500 ms"),
        (seconds_text(2.5), "2.5 s"),
        (seconds_text(540), "9 min"),
        (duration_of_minutes(0.4), "under a minute"),
        (duration_of_minutes(9.2), "9 min"),
        (duration_of_minutes(150), "2.5 h"),
        (odds(412.3), "412"),
        (odds(1e12), "over a million"),
    ],
)
def test_words__numbers__read_naturally(said: str, expected: str) -> None:
    assert said == expected


def test_whole__has_thousands() -> None:
    assert whole(15_604.2) == "15,604"


def test_clock_time__is_utc() -> None:
    assert clock_time(1_770_000_000.0) == "02:40:00 UTC"
