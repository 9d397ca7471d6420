"""What the API answers about gates. Forms only: no logic."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from rollouts.domain.gates.verdict import Verdict

VERDICTS = [(verdict.value, verdict.value) for verdict in Verdict]


class MomentField(serializers.DateTimeField):
    """A moment that is kept as seconds since the epoch."""

    def to_representation(self, value: Any) -> Any:
        return super().to_representation(datetime.fromtimestamp(value, tz=UTC))


class OutageOutput(serializers.Serializer[Any]):
    """The variant that serves (of a rollout: its baseline) is out of order, or was until the newest interval."""

    since = MomentField()
    seconds = serializers.FloatField(help_text="that it lasts, as far as it was measured")
    requests = serializers.IntegerField(help_text="that were drawn for it meanwhile")
    failed = serializers.IntegerField(help_text="of those: it gave no answer")
    rescued = serializers.IntegerField(help_text="of those: another variant answered, unseen by the user")
    why = serializers.CharField()
    over = serializers.BooleanField(help_text="the newest interval was in order again")


class AxisOutput(serializers.Serializer[Any]):
    """The change on the axis that all gates share: 0 no worsening, 1 the limit; null: open on that side."""

    estimate = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)


class GateVerdictOutput(serializers.Serializer[Any]):
    """One gate, now, with its numbers and one sentence."""

    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field, not the form's label
    kind = serializers.CharField()
    mode = serializers.CharField()
    required = serializers.BooleanField()  # type: ignore[assignment]  # a field, not the form's flag
    verdict = serializers.ChoiceField(choices=VERDICTS)
    sentence = serializers.CharField()
    finding = serializers.CharField()
    baseline = serializers.FloatField(allow_null=True)
    candidate = serializers.FloatField(allow_null=True)
    change = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    change_unit = serializers.CharField()
    change_text = serializers.CharField()
    interval_text = serializers.CharField()
    limit = serializers.FloatField()
    limit_text = serializers.CharField()
    axis = AxisOutput()
    n_baseline = serializers.IntegerField()
    n_candidate = serializers.IntegerField()
    evidence = serializers.FloatField()
    evidence_pass = serializers.FloatField()
    share_of_rollback = serializers.FloatField()
    forecast_requests = serializers.IntegerField(allow_null=True)
    forecast_minutes = serializers.FloatField(allow_null=True)


class VerdictsOutput(serializers.Serializer[Any]):
    """What the gates say of the whole rollout. Empty `verdicts`: nothing was measured yet."""

    kind = serializers.CharField(default="canary")
    rollback = serializers.BooleanField(default=False)
    cause = serializers.CharField(default=None, allow_null=True)
    evidence = serializers.FloatField(default=None, allow_null=True, help_text="rolls back at `threshold`")
    threshold = serializers.FloatField(default=None, allow_null=True)
    budget = serializers.FloatField(default=None, allow_null=True)
    all_required_pass = serializers.BooleanField(default=False)
    fast_kill = serializers.CharField(default=None, allow_null=True)
    reason = serializers.CharField(default="")
    verdicts = GateVerdictOutput(many=True, default=list)
    outage = OutageOutput(
        default=None, allow_null=True, help_text="of the baseline: nothing counts for the candidate then"
    )
