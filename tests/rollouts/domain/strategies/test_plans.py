"""Plans: what is refused, with which field, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.lifecycle.plan import canary
from rollouts.domain.strategies import strategy_of
from rollouts.domain.strategies.plans import read_plan, stored_plan

STEP = {"share_bp": 500, "hold_seconds": 60, "min_requests": 10}


def plan(**changes: Any) -> dict[str, Any]:
    return {"strategy": "canary", "steps": [STEP, {**STEP, "share_bp": 5000}], **changes}


BAD = {
    "unknown name": (plan(stepz=[]), "plan.stepz"),
    "no steps": (plan(steps=[]), "plan.steps"),
    "steps are text": (plan(steps="5,25"), "plan.steps"),
    "too many steps": (plan(steps=[{**STEP, "share_bp": i + 1} for i in range(21)]), "plan.steps"),
    "a step is a number": (plan(steps=[5]), "plan.steps[0]"),
    "unknown name in a step": (plan(steps=[{**STEP, "share": 5}]), "plan.steps[0].share"),
    "share missing": (plan(steps=[{"hold_seconds": 5}]), "plan.steps[0].share_bp"),
    "hold missing": (plan(steps=[{"share_bp": 5}]), "plan.steps[0].hold_seconds"),
    "share zero": (plan(steps=[{**STEP, "share_bp": 0}]), "plan.steps[0].share_bp"),
    "share whole": (plan(steps=[{**STEP, "share_bp": 10_000}]), "plan.steps[0].share_bp"),
    "share not whole": (plan(steps=[{**STEP, "share_bp": 0.05}]), "plan.steps[0].share_bp"),
    "share true": (plan(steps=[{**STEP, "share_bp": True}]), "plan.steps[0].share_bp"),
    "shares fall": (plan(steps=[{**STEP, "share_bp": 600}, STEP]), "plan.steps[1].share_bp"),
    "shares equal": (plan(steps=[STEP, STEP]), "plan.steps[1].share_bp"),
    "no hold": (plan(steps=[{**STEP, "hold_seconds": 0}]), "plan.steps[0].hold_seconds"),
    "negative requests": (plan(steps=[{**STEP, "min_requests": -1}]), "plan.steps[0].min_requests"),
    "a pass is text": (plan(steps=[{**STEP, "require_pass": "no"}]), "plan.steps[0].require_pass"),
    "unknown strategy": (plan(strategy="big-bang"), "plan.strategy"),
    "negative watch": (plan(watch_seconds=-1), "plan.watch_seconds"),
    "endless deadline": (plan(deadline_seconds=10**9), "plan.deadline_seconds"),
    "text for seconds": (plan(launch_seconds="900"), "plan.launch_seconds"),
    "no-data is None": (plan(no_data_seconds=None), "plan.no_data_seconds"),
    "canary with a bandit": (plan(bandit={}), "plan.bandit"),
    "bandit with steps": ({"strategy": "bandit", "steps": [STEP]}, "plan.steps"),
    "bandit is no object": ({"strategy": "bandit", "bandit": 5}, "plan.bandit"),
    "bandit's unknown name": ({"strategy": "bandit", "bandit": {"betta": 0.5}}, "plan.bandit.betta"),
    "bandit's dial": ({"strategy": "bandit", "bandit": {"beta": 2}}, "plan.bandit.beta"),
    "bandit without baseline": (
        {"strategy": "bandit", "bandit": {"baseline_bp": 0}},
        "plan.bandit.baseline_bp",
    ),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_read_plan__bad_plan__names_the_field(case: str) -> None:
    data, field = BAD[case]
    with pytest.raises(InvalidInput) as caught:
        read_plan(data)
    assert caught.value.field == field
    assert str(caught.value)


def test_read_plan__what_was_stored__is_the_same_plan() -> None:
    made = canary((5, 25, 50), hold_seconds=60, min_requests=20, watch_seconds=900)
    assert read_plan(made.to_json()) == made
    assert read_plan(made.to_json()).digest == made.digest


def test_read_plan__bandit__has_defaults_no_steps_and_its_own_json() -> None:
    made = read_plan({"strategy": "bandit", "bandit": {"beta": 0.3}, "watch_seconds": 60})
    assert made.settings == BanditSpec(beta=0.3)
    assert (made.steps, strategy_of(made).stages(made), made.watch_seconds) == ((), 1, 60)
    assert "steps" not in made.to_json()
    assert read_plan(made.to_json()) == made


def test_stored_plan__of_today__is_read_without_the_rules_for_input() -> None:
    made = stored_plan(
        {"strategy": "bandit", "bandit": {**BanditSpec().to_json(), "alpha": 0.9}, "watch_seconds": 60}
    )
    assert made.settings is not None
    assert made.settings.to_json()["alpha"] == 0.9
    steps = [{"share_bp": 5_000, "hold_seconds": 1}, {"share_bp": 2_500, "hold_seconds": 1}]
    assert [step.share_bp for step in stored_plan({"strategy": "canary", "steps": steps}).steps] == [
        5_000,
        2_500,
    ]


@pytest.mark.parametrize("steps", [[{"weight": 1}], {"first": 5}, None])
def test_stored_plan__strategy_that_is_not_known__keeps_what_all_plans_have(steps: Any) -> None:
    made = stored_plan({"strategy": "mirror", "mirror": {}, "steps": steps, "watch_seconds": 60})
    assert (made.strategy, made.watch_seconds, made.settings) == ("mirror", 60, None)
