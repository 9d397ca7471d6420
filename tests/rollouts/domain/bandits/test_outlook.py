from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits import BanditSpec, TopTwoThompson
from rollouts.domain.bandits.outlook import BanditOutlook, answers_to_drop, bandit_outlook

HOUR = 3600.0


def outlook(*, arms: int = 3, per_second: float = 20.0, base: float = 0.08) -> BanditOutlook:
    return bandit_outlook(
        BanditSpec(),
        arms=arms,
        answers_per_second=per_second,
        base_rate=base,
        moments=(600.0, HOUR, 24 * HOUR),
    )


def test_answers_to_drop__simulated_bandits__take_about_as_long() -> None:
    """The learner itself at equal shares, stopped when only the best arm is left."""
    best, others = 0.04, 0.08

    def answers_of_each_arm(seed: int) -> int:
        rng = np.random.default_rng(seed)
        learner = TopTwoThompson.initial(("baseline", "candidate", "candidate-2"), alpha=0.05)
        for step in range(1, 1_000):
            learner = learner.update(
                {
                    name: (40, 40 - int(rng.binomial(40, best if name == "candidate" else others)))
                    for name in learner.arms
                }
            )
            if len(learner.survivors) == 1:
                assert learner.survivors == ("candidate",)
                return 40 * step
        raise AssertionError("no decision")

    simulated = statistics.median(answers_of_each_arm(seed) for seed in range(20))
    forecast = answers_to_drop(best, others, arms=3, alpha=0.05)
    assert forecast is not None
    assert 0.8 < simulated / forecast < 1.6


@pytest.mark.parametrize("best", [0.08, 0.09])
def test_answers_to_drop__best_is_no_better__is_not_in_sight(best: float) -> None:
    assert answers_to_drop(best, 0.08, arms=2, alpha=0.05) is None


def test_answers_to_drop__more_arms_and_smaller_alpha__need_more() -> None:
    usual = answers_to_drop(0.04, 0.08, arms=2, alpha=0.05)
    many = answers_to_drop(0.04, 0.08, arms=6, alpha=0.05)
    strict = answers_to_drop(0.04, 0.08, arms=2, alpha=0.01)
    assert usual is not None
    assert many is not None
    assert strict is not None
    assert usual < many
    assert usual < strict


def test_outlook__more_time__finds_smaller_differences() -> None:
    rates = [one.best_rate for one in outlook().decidable]
    assert all(rate is not None for rate in rates)
    assert rates == sorted(rates, key=lambda rate: rate or 0.0)
    assert all(0 < (rate or 0.0) < 0.08 for rate in rates)


def test_outlook__what_it_says_is_decidable__is_decided_in_that_time() -> None:
    for one in outlook().decidable:
        assert one.best_rate is not None
        needed = answers_to_drop(one.best_rate, 0.08, arms=3, alpha=0.05)
        assert needed is not None
        assert needed / (20.0 / 3) <= one.seconds * 1.001


def test_outlook__hardly_any_answers__nothing_is_decidable() -> None:
    found = outlook(per_second=0.001, base=0.01)
    assert found.decidable[0].best_rate is None


def test_outlook__half_as_many_thumbs_down__is_the_time_of_the_burn_in_at_least() -> None:
    spec = replace(BanditSpec(), burn_in=50_000)
    found = bandit_outlook(spec, arms=2, answers_per_second=10.0, base_rate=0.2, moments=())
    assert found.burn_in_seconds == 10_000.0
    assert found.half_seconds == 10_000.0


def test_outlook__sentence__has_rates_time_and_answers() -> None:
    assert outlook().sentence == (
        "An arm rated down half as often as the others (4% against 8%) is found in about 1 min 40 s, after "
        "670 answers of each arm. Of equal arms several are usually left at the deadline."
    )


@pytest.mark.parametrize(
    ("changed", "field"),
    [({"per_second": 0.0}, "answers_per_second"), ({"base": 0.0}, "base_rate"), ({"arms": 1}, "arms")],
)
def test_outlook__impossible_numbers__are_refused(changed: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        outlook(**changed)  # type: ignore[arg-type]
    assert caught.value.field == field
