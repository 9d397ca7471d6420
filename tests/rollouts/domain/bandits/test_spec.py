from __future__ import annotations

import math
from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits import BanditSpec


def test_bandit_spec__json__gives_it_back() -> None:
    spec = BanditSpec(alpha=0.1, beta=0.7, floor_bp=300, baseline_bp=2000, burn_in=50, discount=0.99)
    assert BanditSpec.from_json(spec.to_json()) == spec
    assert BanditSpec.from_json({}) == BanditSpec()


def test_bandit_spec__whole_number_for_a_float__is_the_same_spec() -> None:
    assert (
        BanditSpec(beta=1, reweight_seconds=60).to_json()
        == BanditSpec(beta=1.0, reweight_seconds=60.0).to_json()
    )


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"reward": "latency"}, "bandit.reward"),
        ({"alpha": 0}, "bandit.alpha"),
        ({"alpha": 0.6}, "bandit.alpha"),
        ({"alpha": 1e-310}, "bandit.alpha"),
        ({"beta": 0}, "bandit.beta"),
        ({"beta": 1.5}, "bandit.beta"),
        ({"beta": "much"}, "bandit.beta"),
        ({"discount": 0.2}, "bandit.discount"),
        ({"discount": math.nan}, "bandit.discount"),
        ({"floor_bp": -1}, "bandit.floor_bp"),
        ({"floor_bp": 12.5}, "bandit.floor_bp"),
        ({"baseline_bp": 0}, "bandit.baseline_bp"),
        ({"baseline_bp": 9_500}, "bandit.baseline_bp"),
        ({"burn_in": -5}, "bandit.burn_in"),
        ({"reweight_seconds": 0}, "bandit.reweight_seconds"),
        ({"min_change_bp": 6_000}, "bandit.min_change_bp"),
        ({"floors": 100}, "bandit.floors"),
    ],
)
def test_bandit_spec__impossible_value__refused_with_the_field(data: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        BanditSpec.from_json(data)
    assert refused.value.field == field


def test_check_arms__floors_leave_no_room__refused_with_the_sum() -> None:
    spec = BanditSpec(floor_bp=3000, baseline_bp=2000)
    spec.check_arms(3)
    with pytest.raises(InvalidInput, match="11,000") as refused:
        spec.check_arms(4)
    assert refused.value.field == "bandit.floor_bp"


@pytest.mark.parametrize("arms", [1, 13])
def test_check_arms__too_few_or_many__refused(arms: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        BanditSpec(floor_bp=0).check_arms(arms)
    assert refused.value.field == "bandit.arms"
