"""What strategies add to the API is described where they have it, and for no strategy that is not there."""

from __future__ import annotations

from typing import Any, cast

import pytest

from rollouts.api.forms import PlanForm
from rollouts.api.strategies import FORMS, forms_of
from rollouts.api.verdict_outputs import VerdictsOutput
from rollouts.domain.strategies import STRATEGIES
from tests.rollouts import holding


def test_forms__each__is_of_a_strategy() -> None:
    assert set(FORMS) <= set(STRATEGIES)


def test_plan_form__settings_of_each_strategy__are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast(dict[str, Any], STRATEGIES), holding.NAME, holding.STRATEGY)
    fields = PlanForm().get_fields()
    own = {name for name, strategy in STRATEGIES.items() if strategy.SETTINGS is not None}
    assert holding.NAME in own
    assert own <= set(fields)


def test_verdicts__of_a_strategy_without_forms__are_those_of_its_gates() -> None:
    assert forms_of(holding.NAME).verdicts is VerdictsOutput
