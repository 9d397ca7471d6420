"""The weights of the starts: all of the stake, never more, and always a part of it left for later."""

from __future__ import annotations

import itertools
import math

import pytest

from rollouts.domain.gates.evidence import Wealth, start_weight, unspent_weight


@pytest.mark.parametrize("first", [0.5, 0.9])
@pytest.mark.parametrize("starts", [0, 1, 2, 3, 60, 61, 2880, 100_000])
def test_unspent_weight__any_number_of_starts__is_what_the_starts_left(starts: int, first: float) -> None:
    spent = math.fsum(start_weight(k, first) for k in range(1, starts + 1))
    assert unspent_weight(starts, first) == pytest.approx(1 - spent, rel=1e-8)
    assert unspent_weight(starts, first) > 0


def test_start_weight__first_and_later_starts__half_first_then_never_more() -> None:
    weights = [start_weight(k) for k in range(1, 3000)]
    assert weights[0] == 0.5
    assert all(later <= earlier for earlier, later in itertools.pairwise(weights))
    assert unspent_weight(61) == pytest.approx(0.25)  # half of the other half after 60 later starts


@pytest.mark.parametrize("first", [0.5, 0.9])
def test_evidence__starts_without_any_data__stays_one(first: float) -> None:
    evidence = Wealth.empty(3, "spread", first)
    for _ in range(500):
        evidence = evidence.start()
        assert evidence.log_e == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("starts", [0, 1, 2, 13, 300])
def test_evidence__state_of_the_first_release__goes_on_with_what_it_had_unspent(starts: int) -> None:
    lost = -800.0 if starts else 0.0  # all that was staked is gone
    old = {"logs": [lost] * 3, "starts": starts, "spread": True}
    evidence = Wealth.from_json(old)
    for _ in range(50):
        assert math.exp(evidence.log_e) == pytest.approx(1 / (starts + 1))
        evidence = evidence.start()
