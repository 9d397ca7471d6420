"""What strategies add to the forms of the API: one table. A strategy that adds nothing needs no entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rest_framework import serializers

from rollouts.api.bandit_outputs import BanditForm, BanditPreviewOutput, BanditVerdictsOutput
from rollouts.api.verdict_outputs import VerdictsOutput

Form = type[serializers.Serializer[Any]]


@dataclass(frozen=True, slots=True)
class StrategyForms:
    """One strategy in the API.

    settings    what a plan of it holds under its name; None: the published schema calls that an object
    preview     what only its dry run says; None: that is not answered
    verdicts    what its evidence says now
    """

    settings: Form | None = None
    preview: Form | None = None
    verdicts: Form = VerdictsOutput


FORMS: Mapping[str, StrategyForms] = {
    "bandit": StrategyForms(BanditForm, BanditPreviewOutput, BanditVerdictsOutput),
}


def forms_of(strategy: str) -> StrategyForms:
    """The forms of the strategy of that name."""
    return FORMS.get(strategy, StrategyForms())
