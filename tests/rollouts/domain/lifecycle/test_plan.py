"""Plans as values: what they are called by, and the shares that they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.lifecycle.plan import MAX_HOLD_SECONDS, Step, canary, shares_of


def test_to_json__canary__has_no_word_of_a_bandit() -> None:
    assert "bandit" not in canary((5,), hold_seconds=60, min_requests=20).to_json()


def test_digest__changes_with_any_step() -> None:
    digests = {
        canary(shares, hold_seconds=60, min_requests=20).digest
        for shares in ((5, 25), (5, 26), (5,), (5, 25, 50))
    }
    assert len(digests) == 4


def test_canary__shares_in_percent__become_basis_points() -> None:
    assert [step.share_bp for step in canary((0.5, 5, 33.3), hold_seconds=1, min_requests=0).steps] == [
        50,
        500,
        3330,
    ]


@given(st.integers(0, 10_000))
def test_shares_of__any_share__sum_to_the_whole(share: int) -> None:
    assert sum(shares_of("a", "b", share).values()) == 10_000


@pytest.mark.parametrize("share", [-1, 10_001])
def test_shares_of__impossible_share__is_refused(share: int) -> None:
    with pytest.raises(InvalidInput):
        shares_of("a", "b", share)


@pytest.mark.parametrize(
    ("min_requests", "requests_per_second", "seconds"),
    [
        (0, 0.0, 60),
        (60, 20.0, 60),
        (600, 20.0, 120),
        (60, 0.0, MAX_HOLD_SECONDS),
        (10**9, 1e-6, MAX_HOLD_SECONDS),
    ],
)
def test_step_lasts__time_and_requests__the_longer_of_both_within_what_a_plan_may_ask(
    min_requests: int, requests_per_second: float, seconds: float
) -> None:
    assert Step(2_500, 60, min_requests).lasts(requests_per_second) == pytest.approx(seconds)
