"""What the API answers to a dry run. Forms only: no logic."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rollouts.api.strategies import FORMS


class CheckOutput(serializers.Serializer[Any]):
    """One thing the dry run looked at."""

    state = serializers.ChoiceField(choices=["ok", "warning", "refused"])
    code = serializers.CharField()
    title = serializers.CharField()
    detail = serializers.CharField()
    fix = serializers.CharField()
    field = serializers.CharField()


class StepForecastOutput(serializers.Serializer[Any]):
    """One step of the plan in time, in seconds from now at the earliest."""

    share_bp = serializers.IntegerField()
    starts_after = serializers.FloatField()
    ends_after = serializers.FloatField()
    load = serializers.FloatField(help_text="of a candidate replica against a baseline one")
    latency = serializers.CharField(help_text="what a latency gate may say in this step")


class GateForecastOutput(serializers.Serializer[Any]):
    """What the plan can show about one gate."""

    key = serializers.CharField()
    detectable = serializers.FloatField(allow_null=True)
    detectable_rate = serializers.FloatField(allow_null=True)
    requests_to_pass = serializers.IntegerField(allow_null=True)
    minutes_to_pass = serializers.FloatField(
        allow_null=True, help_text="from the first step on that can give a PASS, as the requests"
    )
    passes_in_plan = serializers.BooleanField()
    sentence = serializers.CharField()


class PreviewOutput(serializers.Serializer[Any]):
    """A dry run: nothing was written and nothing runs."""

    can_start = serializers.BooleanField()
    strategy = serializers.CharField()
    variant = serializers.CharField(help_text="the candidate that would be made")
    variants = serializers.ListField(child=serializers.CharField(), help_text="all candidates")
    baseline = serializers.CharField()
    ends_at = serializers.DateTimeField(
        help_text="at the earliest, or the deadline of a strategy that has no steps"
    )
    seconds = serializers.FloatField()
    requests_per_second = serializers.FloatField()
    promise = serializers.CharField()
    checks = CheckOutput(many=True)
    steps = StepForecastOutput(many=True)
    gates = GateForecastOutput(many=True, help_text="of several candidates: of each, at equal shares")

    def get_fields(self) -> dict[str, Any]:
        """And, by the name of its strategy, what only that one can say; null of the others."""
        own = {name: forms.preview for name, forms in FORMS.items() if forms.preview is not None}
        return super().get_fields() | {
            name: form(source=f"own_of.{name}", allow_null=True) for name, form in own.items()
        }
