"""Differences worth a sentence: found soon when they are there, not found by looking for long when they are not."""

from __future__ import annotations

import numpy as np
import pytest

from rollouts.domain.standing_out import differ, is_high


@pytest.mark.parametrize(
    ("events", "trials", "other_events", "other_trials"),
    [(47, 100, 1, 320), (212, 451, 3, 1000), (30, 1000, 2, 1000), (0, 200, 30, 200)],
)
def test_differ__what_anybody_would_call_different__yes(
    events: int, trials: int, other_events: int, other_trials: int
) -> None:
    assert differ(events, trials, other_events, other_trials)
    assert differ(other_events, other_trials, events, trials)


@pytest.mark.parametrize(
    ("events", "trials", "other_events", "other_trials"),
    [(0, 0, 5, 10), (2, 10, 0, 10), (50, 1000, 44, 1000), (5, 9, 5, 9), (3, 100, 0, 100)],
)
def test_differ__what_chance_explains__no(
    events: int, trials: int, other_events: int, other_trials: int
) -> None:
    assert not differ(events, trials, other_events, other_trials)


def test_differ__proven_but_too_small_to_strike__no() -> None:
    assert not differ(5_000, 1_000_000, 1_000, 1_000_000)


@pytest.mark.parametrize("rate", [0.002, 0.05, 0.5])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_differ__same_rate_and_a_look_every_interval__seldom_cries(rate: float, share: float) -> None:
    rng = np.random.default_rng(5)
    cried = 0
    for _ in range(200):
        trials = rng.multinomial(100, [share, 1 - share], size=200).cumsum(axis=0)
        events = rng.binomial(np.diff(trials, axis=0, prepend=0), rate).cumsum(axis=0)
        cried += any(
            differ(int(events[i, 0]), int(trials[i, 0]), int(events[i, 1]), int(trials[i, 1]))
            for i in range(200)
        )
    assert cried <= 2


@pytest.mark.parametrize(("events", "trials", "high"), [(432, 451, True), (3, 5, False), (100, 1000, False)])
def test_is_high__share__only_when_it_surely_is(events: int, trials: int, high: bool) -> None:
    assert is_high(events, trials) is high


@pytest.mark.parametrize("counts", [(5, 4), (-1, 4)])
def test_impossible_counts__are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        is_high(*counts)
