"""Numbers and units read the same wherever people meet them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.kernel.words import (
    bytes_text,
    cases_of,
    clock_text,
    clock_time,
    count_text,
    duration_of_minutes,
    duration_of_seconds,
    latency_text,
    number_text,
    odds,
    percent_of_bp,
    percent_of_count,
    percent_of_share,
    percent_or_no_data,
    points,
    points_of_bp,
    ratio_text,
    rough,
    seconds_text,
    signed,
    whole,
    window_text,
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


NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)  # a Friday


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "no data"), (0.0024, "0.24%"), (0.05, "5%"), (0.123, "12.3%"), (0.0, "0%")],
)
def test_percent_or_no_data(value: float | None, text: str) -> None:
    assert percent_or_no_data(value) == text


@pytest.mark.parametrize(
    ("part", "count", "text"),
    [
        (0, 0, "no data"),
        (0, 10, "0%"),
        (117, 250, "46.8%"),
        (1, 100_000, "0.001%"),
        (99_999, 100_000, "99.9%"),
        (7, 7, "100%"),
    ],
)
def test_percent_of_count__edges__neither_zero_nor_all_unless_it_is(part: int, count: int, text: str) -> None:
    assert percent_of_count(part, count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.05, "5 of 100"),
        (0.1, "10 of 100"),
        (0.001, "1 of 1,000"),
        (0.025, "25 of 1,000"),
        (1 / 60, "17 of 1,000"),
        (0.3 - 0.2, "10 of 100"),
        (1e-7, "1 of 10,000,000"),
        (1.0, "100 of 100"),
    ],
)
def test_cases_of__probability__is_so_many_cases(share: float, text: str) -> None:
    assert cases_of(share) == text


@pytest.mark.parametrize("share", [0.05, 0.013, 1 / 3, 1 / 7, 0.000123, 0.5, 0.9999])
def test_cases_of__bound__stays_a_bound_and_grows_little(share: float) -> None:
    cases, count = (float(one.replace(",", "")) for one in cases_of(share).split(" of "))
    assert share - 1e-9 <= cases / count <= share * 1.06


@pytest.mark.parametrize(("basis_points", "text"), [(200, "2 pp"), (250, "2.5 pp"), (1_234, "12.3 pp")])
def test_points_of_bp(basis_points: int, text: str) -> None:
    assert points_of_bp(basis_points) == text


@pytest.mark.parametrize(("seconds", "text"), [(29.6, "30 s"), (119, "119 s"), (750, "12 min")])
def test_window_text(seconds: float, text: str) -> None:
    assert window_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "no data"),
        (0, "0"),
        (1234.5, "1,234"),
        (13.14, "13.1"),
        (1.5, "1.5"),
        (0.8421, "0.842"),
        (3, "3"),
        (-7, "−7"),
    ],
)
def test_number_text(value: float | None, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (timedelta(minutes=5), "09:44"),
        (timedelta(hours=15, minutes=27), "Thu 18:22"),
        (timedelta(days=16), "4 Nov"),
        (timedelta(days=366), "19 Nov 2025"),
        (timedelta(days=-1), "21 Nov"),
    ],
)
def test_clock_text(before: timedelta, text: str) -> None:
    assert clock_text(NOW - before, now=NOW) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, "no data"), (0.092, "92 ms"), (1.4, "1.4 s")])
def test_latency_text(seconds: float | None, text: str) -> None:
    assert latency_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(812, "812 B"), (1_204_224, "1.1 MiB"), (0, "0 B"), (5 * 2**40, "5.0 TiB")]
)
def test_bytes_text(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_count_text__one_and_many() -> None:
    assert count_text(1, "rollout") == "1 rollout"
    assert count_text(2_000, "rollout") == "2,000 rollouts"
