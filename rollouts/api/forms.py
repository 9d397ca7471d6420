"""What is both sent and answered: a plan, and how a version is served."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from rollouts.api.strategies import forms_of
from rollouts.domain import accelerators, images
from rollouts.domain.lifecycle.plan import MAX_HOLD_SECONDS, MAX_STEPS, MOST_REQUESTS
from rollouts.domain.secrets import FILE_NAME, FINGERPRINT
from rollouts.domain.strategies import STRATEGIES
from rollouts.domain.strategies.plans import USUAL
from rollouts.services.policies.text import LONGEST


class StepForm(serializers.Serializer[Any]):
    """One step of a plan; `share_bp` is the candidate's share in basis points (500 = 5%)."""

    share_bp = serializers.IntegerField(min_value=1, max_value=9_999)
    hold_seconds = serializers.IntegerField(min_value=1, max_value=MAX_HOLD_SECONDS)
    min_requests = serializers.IntegerField(min_value=0, max_value=MOST_REQUESTS, default=0)
    require_pass = serializers.BooleanField(default=False)


class PlanForm(serializers.Serializer[Any]):
    """A plan has steps with growing shares below 100%, or what its strategy understands under its own name. The
    promotion to 100% and its watch follow by themselves."""

    strategy = serializers.ChoiceField(choices=list(STRATEGIES), default=USUAL)
    steps = serializers.ListField(
        child=StepForm(), required=False, min_length=1, max_length=MAX_STEPS, help_text="of a canary"
    )
    watch_seconds = serializers.IntegerField(min_value=0, max_value=MAX_HOLD_SECONDS, required=False)
    no_data_seconds = serializers.IntegerField(min_value=0, max_value=MAX_HOLD_SECONDS, required=False)
    deadline_seconds = serializers.IntegerField(min_value=0, max_value=MAX_HOLD_SECONDS, required=False)
    launch_seconds = serializers.IntegerField(min_value=0, max_value=MAX_HOLD_SECONDS, required=False)

    def get_fields(self) -> dict[str, Any]:
        """And the settings of each strategy that has some, under its name."""
        made = {}
        for name, strategy in STRATEGIES.items():
            if strategy.SETTINGS is not None:
                form = forms_of(name).settings or serializers.DictField
                made[name] = form(required=False, help_text=f"of a {name}")
        return super().get_fields() | made


SECRET_BY_REFERENCE = {
    "type": "object",
    "description": "A file of the operator's folder of secrets, read at every launch and stored nowhere.",
    "required": ["secret"],
    "additionalProperties": False,
    "properties": {
        "secret": {
            "type": "object",
            "required": ["file"],
            "additionalProperties": False,
            "properties": {"file": {"type": "string", "pattern": f"^{FILE_NAME.pattern}$"}},
        }
    },
}
SECRET_THAT_IS_SET = {
    "type": "object",
    "description": (
        "A secret whose value is stored encrypted. That is all that is ever answered of it; sent back, it means the"
        " value that the stable variant has. The fingerprint is the same for the same value of the same variable."
    ),
    "required": ["secret"],
    "additionalProperties": False,
    "properties": {
        "secret": {"type": "boolean", "enum": [True]},
        "set": {"type": "boolean"},
        "fingerprint": {"type": "string", "pattern": f"^{FINGERPRINT.pattern}$"},
    },
}


@extend_schema_field(
    {"oneOf": [{"type": "string"}, {"type": "number"}, SECRET_BY_REFERENCE, SECRET_THAT_IS_SET]}
)
class VariableField(serializers.JSONField):
    """A variable of the engine: a text, or a secret."""


class AcceleratorsForm(serializers.Serializer[Any]):
    """Accelerators of one replica."""

    count = serializers.IntegerField(min_value=1, max_value=accelerators.MOST)
    resource = serializers.CharField(
        max_length=accelerators.LONGEST, help_text="as the cluster names it, for example `nvidia.com/gpu`"
    )


class ServingForm(serializers.Serializer[Any]):
    """How a version is served."""

    engine = serializers.CharField(default="vllm")
    arguments = serializers.DictField(
        required=False,
        help_text="engine arguments by name without dashes; `GET /clusters/{name}/engines` lists all that may be set",
    )
    environment = serializers.DictField(
        child=VariableField(),
        required=False,
        help_text="variables of the engine, likewise; the value of a secret one is taken once and never shown",
    )
    resources = serializers.DictField(
        child=serializers.IntegerField(min_value=0),
        required=False,
        help_text="what one replica needs; a cluster refuses what it cannot set apart. This machine: `memory_mb`",
    )
    replicas = serializers.IntegerField(min_value=1, max_value=64, default=1)
    image = serializers.CharField(
        max_length=images.LONGEST,
        required=False,
        allow_null=True,
        help_text="`REPOSITORY:TAG`, `REPOSITORY@sha256:...` or both; left out: the cluster's own. A cluster refuses"
        " repositories that its operator did not list; this machine takes none",
    )
    accelerators = AcceleratorsForm(
        required=False,
        allow_null=True,
        help_text="that one replica has to itself; left out: none. This machine gives none: its engines share them",
    )
    adopts = serializers.CharField(
        max_length=253,
        required=False,
        help_text="of a new endpoint only: the Deployment on its cluster that serves the version already. It becomes"
        " the baseline as it is, without a restart; all else of the serving spec is its owner's and left out",
    )


class ObjectField(serializers.JSONField):
    """A JSON object that the domain reads, checks, and names what is wrong in."""

    default_error_messages = {"not_an_object": "This must be an object."}

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            self.fail("not_an_object")
        return super().to_internal_value(data)


@extend_schema_field(PlanForm)
class PlanField(ObjectField):
    """A plan."""


@extend_schema_field(ServingForm)
class ServingField(ObjectField):
    """A serving spec."""


class PolicyObjectField(serializers.DictField):
    """A policy as an object, which is no longer than its text may be."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().to_internal_value(data)
        if len(json.dumps(found)) > LONGEST:
            raise serializers.ValidationError(f"The policy is longer than {LONGEST:,} characters.")
        return found
