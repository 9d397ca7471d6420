"""What the API is sent about endpoints and rollouts. Forms only: no logic."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from controlplane.api.inputs import LARGEST_NUMBER, LONGEST_NAME, LONGEST_REFERENCE, Input
from registry.api.serializers import LONGEST_MODEL_NAME
from rollouts.api.forms import PlanField, PolicyObjectField, ServingField
from rollouts.api.outputs import PHASES
from rollouts.services.commands.feedback import MAX_COMMENT, MAX_ID
from rollouts.services.policies.text import LONGEST

MOST_VERSIONS = 12  # that are read at all; how many a strategy takes, it says itself


class RolloutFilter(Input):
    """Which rollouts to list."""

    endpoint = serializers.CharField(
        required=False, default="", max_length=LONGEST_NAME, help_text="only this endpoint's"
    )
    phase = serializers.ChoiceField(choices=PHASES, required=False, default="")
    active = serializers.BooleanField(required=False, default=False, help_text="only those not decided")


class StartInput(Input):
    """Start a rollout of a version, or with `dry_run` only say what would happen."""

    endpoint = serializers.CharField(max_length=LONGEST_NAME)
    version = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=LARGEST_NUMBER,
        help_text="number of the model version; either this or `versions`",
    )
    versions = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_NUMBER),
        required=False,
        min_length=1,
        max_length=MOST_VERSIONS,
        help_text="the candidates, in the order of their arms, where the strategy takes several",
    )
    plan = PlanField()
    serving = ServingField(required=False, help_text="default: as the stable variant")
    gate_policy = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=LONGEST_REFERENCE,
        help_text="NAME or NAME@VERSION; default: the endpoint's",
    )
    own_policy = PolicyObjectField(
        required=False,
        help_text=(
            "a policy for this rollout alone, as `body` of a stored one; it is made from `gate_policy` and no version "
            "of it. One that is weaker than the endpoint's in any value needs a release manager"
        ),
    )
    own_policy_text = serializers.CharField(
        required=False, max_length=LONGEST, trim_whitespace=False, help_text="the same as YAML or JSON"
    )
    note = serializers.CharField(required=False, default="", allow_blank=True, max_length=2_000)
    supersede = serializers.BooleanField(
        required=False, default=False, help_text="take the place of a rollout that has no traffic yet"
    )
    dry_run = serializers.BooleanField(required=False, default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """`versions` holds the candidates, however they were given."""
        if "version" not in attrs and "versions" not in attrs:
            raise serializers.ValidationError({"version": "This field is required, or `versions`."})
        if "version" in attrs and "versions" in attrs:
            raise serializers.ValidationError({"versions": "Give either `version` or `versions`."})
        if "own_policy" in attrs and "own_policy_text" in attrs:
            words = "Give either `own_policy` or `own_policy_text`."
            raise serializers.ValidationError({"own_policy_text": words})
        return {"versions": [attrs["version"]] if "version" in attrs else [], **attrs}


class ActionInput(Input):
    """Something to do to a rollout."""

    expected_revision = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=0,
        max_value=LARGEST_NUMBER,
        help_text="the revision you saw: 409 when it moved on since; left out: whatever it is now",
    )
    expected_version = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=0,
        max_value=LARGEST_NUMBER,
        help_text="the old name of expected_revision, still understood",
    )
    why = serializers.CharField(required=False, default="", allow_blank=True, max_length=2_000)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """`expected_revision` holds it, under whichever name it came."""
        old = attrs.pop("expected_version", None)
        seen = attrs.get("expected_revision")
        if old is not None and seen is not None and old != seen:
            words = "It is the old name of expected_revision, which says something else. Leave it out."
            raise serializers.ValidationError({"expected_version": words})
        return {**attrs, "expected_revision": old if seen is None else seen}


class PromoteInput(ActionInput):
    """Move all traffic to a candidate."""

    arm = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=20,
        help_text="which arm, such as candidate-2; needed while several are in the race",
    )


class EvidenceFilter(Input):
    """Which intervals to read."""

    after = serializers.IntegerField(
        required=False,
        default=-1,
        min_value=-1,
        max_value=LARGEST_NUMBER,
        help_text="only those with a larger index",
    )
    limit = serializers.IntegerField(required=False, default=200, min_value=1, max_value=1_000)


class EndpointInput(Input):
    """Make an endpoint and launch its first variant."""

    name = serializers.CharField(max_length=40)
    model = serializers.CharField(max_length=LONGEST_MODEL_NAME, help_text="name of the registered model")
    version = serializers.IntegerField(min_value=1, max_value=LARGEST_NUMBER)
    gate_policy = serializers.CharField(max_length=LONGEST_REFERENCE, help_text="NAME or NAME@VERSION")
    golden_set = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=80,
        help_text="NAME, its newest revision; needed by a gate on paired probes",
    )
    serving = ServingField(required=False)
    cluster = serializers.CharField(required=False, default="local", max_length=40)
    alias = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=80,
        help_text="MLflow alias that follows the stable version",
    )
    environment = serializers.CharField(required=False, default="production", max_length=40)
    rescue = serializers.BooleanField(
        required=False,
        default=True,
        help_text="whether a healthy variant that no gate blames answers for a dead one",
    )


class RescueInput(Input):
    """Whether a healthy variant that no gate blames answers for a dead one."""

    on = serializers.BooleanField()


class RestoredInput(Input):
    """What an endpoint serves after the database was restored from an older copy."""

    choice = serializers.ChoiceField(
        choices=["keep", "return"],
        help_text="keep: the variant that serves becomes the stable one; return: to what the database says",
    )
    variant = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=80,
        help_text="which one is kept, when several serve; default: the one with most of the traffic",
    )
    why = serializers.CharField(required=False, default="", allow_blank=True, max_length=2_000)


class GlobalStopInput(Input):
    """Set or lift the global stop."""

    on = serializers.BooleanField()
    why = serializers.CharField(required=False, default="", allow_blank=True, max_length=2_000)


class FeedbackInput(Input):
    """A user's score for one response; `request_id` and `variant` are headers of that response."""

    request_id = serializers.CharField(min_length=8, max_length=MAX_ID, help_text="its x-request-id header")
    variant = serializers.CharField(max_length=80, help_text="its x-headgate-variant header")
    score = serializers.ChoiceField(choices=["up", "down"])
    comment = serializers.CharField(required=False, default="", allow_blank=True, max_length=MAX_COMMENT)
