"""Calls about gate policies: versions that are stored once and never change."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from controlplane.access.roles import Action
from controlplane.access.rules import action_of
from controlplane.access.services import Scope
from controlplane.api.callers import actor_of, now_of
from controlplane.api.idempotency import idempotent
from controlplane.api.inputs import LARGEST_NUMBER, LONGEST_NAME, LONGEST_REFERENCE, Input
from controlplane.api.permissions import Need
from controlplane.kernel.errors import InvalidInput
from rollouts import selectors, wiring
from rollouts.api.forms import PolicyObjectField
from rollouts.api.outputs import EndpointOutput, GatePolicyOutput
from rollouts.models import Endpoint, GatePolicyVersion
from rollouts.services.policies.text import (
    LONGEST,
    PolicyDocument,
    document_of,
    policy_text,
    read_policy_text,
)
from rollouts.services.policies.versions import (
    check_document_name,
    check_gate_policy,
    define_from_document,
    find_policy,
    first_of,
    set_endpoint_policy,
)

TAGS = ["gate policies"]


# --- forms ------------------------------------------------------------------------------------------------------


class PolicyDraftInput(Input):
    """A policy as `text` (YAML or JSON) or as `policy` (an object); exactly one of them."""

    name = serializers.CharField(max_length=60, help_text="the next version of this policy")
    text = serializers.CharField(
        required=False, max_length=LONGEST, trim_whitespace=False, help_text="YAML or JSON; comments are lost"
    )
    policy = PolicyObjectField(required=False, help_text="as `body` of a stored policy")


class PolicyInput(PolicyDraftInput):
    """Store the next version."""

    expected_version = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=0,
        max_value=LARGEST_NUMBER,
        help_text=(
            "the version that this is an edit of, 0 for a new policy: 409 when there is a newer one; default: the "
            "`version` in the policy, else whatever is the newest"
        ),
    )
    note = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=500, help_text="why, kept with the version"
    )


class PolicyCheckInput(PolicyDraftInput):
    """Check a draft."""

    name = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=60,
        help_text="default: the name in the policy, else `draft`",
    )
    endpoint = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=LONGEST_NAME,
        help_text="whose last 24 hours and newest plan the numbers are from; default: assumed ones, as `basis` says",
    )


class EndpointPolicyInput(Input):
    """Use another policy for the next rollouts of an endpoint."""

    gate_policy = serializers.CharField(
        max_length=LONGEST_REFERENCE, help_text="NAME@VERSION, or NAME for its newest"
    )
    expected = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=LONGEST_REFERENCE,
        help_text="the NAME@VERSION you saw: 409 when it is another by now",
    )


class OneGatePolicyOutput(GatePolicyOutput):
    """A version with its canonical YAML, which reads back as the same policy with the same digest."""

    yaml = serializers.SerializerMethodField()

    def get_yaml(self, row: GatePolicyVersion) -> str:
        return policy_text(row.policy)


class PolicyChangeOutput(serializers.Serializer[Any]):
    """One field; `before` or `after` is empty where it is not there."""

    field = serializers.CharField()
    before = serializers.CharField()
    after = serializers.CharField()


class PolicyExposureOutput(serializers.Serializer[Any]):
    """The smallest worsening found after so many requests of the candidate (pairs) at 50%; null: none."""

    requests = serializers.IntegerField()
    detectable = serializers.FloatField(allow_null=True)


class GateOutlookOutput(serializers.Serializer[Any]):
    """One gate explained. `detectable` is a ratio of rates, or a drop of the mean score for a paired gate."""

    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field, not the form's label
    does = serializers.CharField()
    base_rate = serializers.FloatField(allow_null=True)
    base_rate_measured = serializers.BooleanField()
    odds_alone = serializers.FloatField(
        allow_null=True,
        help_text="so many to 1 that a worsening is no accident: then it rolls back by itself; null: a fixed limit",
    )
    detectable = serializers.FloatField(allow_null=True, help_text="by the end of the plan")
    detectable_rate = serializers.FloatField(allow_null=True)
    requests_to_pass = serializers.IntegerField(allow_null=True, help_text="when nothing changed")
    minutes_to_pass = serializers.FloatField(
        allow_null=True, help_text="from the first step on that can give a PASS, as the requests"
    )
    passes_in_plan = serializers.BooleanField()
    sentence = serializers.CharField()
    by_exposure = PolicyExposureOutput(many=True)


class PolicyOutlookStepOutput(serializers.Serializer[Any]):
    """A step of the plan that the numbers assume."""

    share_bp = serializers.IntegerField()
    seconds = serializers.FloatField()


class PolicyOutlookOutput(serializers.Serializer[Any]):
    """A policy explained: `promises` hold always, `notes` say what to think about, `basis` what numbers rest on."""

    gates = GateOutlookOutput(many=True)
    promises = serializers.ListField(child=serializers.CharField())
    notes = serializers.ListField(child=serializers.CharField())
    basis = serializers.ListField(child=serializers.CharField())
    false_alarms_per_100 = serializers.FloatField(
        help_text="at most so many of 100 rollouts of versions that are no worse are rolled back by mistake"
    )
    steps = PolicyOutlookStepOutput(many=True)


class PolicyCheckOutput(serializers.Serializer[Any]):
    """A draft that could be stored as `reference`; nothing was. `same`: the newest version says this already."""

    reference = serializers.CharField()
    same = serializers.BooleanField()
    changes = PolicyChangeOutput(many=True)
    yaml = serializers.CharField()
    explanation = PolicyOutlookOutput()


# --- calls ------------------------------------------------------------------------------------------------------


class GatePolicies(generics.ListAPIView[GatePolicyVersion]):
    """All versions of all gate policies, newest first; POST stores the next version of one."""

    serializer_class = GatePolicyOutput
    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, action_of(define_from_document))}

    def get_queryset(self) -> Any:
        return selectors.gate_policies()

    @extend_schema(operation_id="gate_policies_list", summary="List gate policies", tags=TAGS)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)

    @extend_schema(
        operation_id="gate_policies_define",
        summary="Store the next version of a gate policy",
        description="The same content as the newest version stores nothing and answers 200 with that version.",
        tags=TAGS,
        request=PolicyInput,
        responses={201: OneGatePolicyOutput, 200: OneGatePolicyOutput},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        form = PolicyInput.read(request)
        now = now_of(request)
        made = define_from_document(
            name=form["name"],
            document=_document(form),
            expected_version=form["expected_version"],
            note=form["note"],
            edges=wiring.worlds().edges(),
            actor=actor_of(request),
            now=now,
        )
        return Response(
            OneGatePolicyOutput(made).data,
            status=status.HTTP_201_CREATED if made.created_at == now else status.HTTP_200_OK,
            headers={"Location": reverse("api-gate-policy", kwargs={"reference": str(made)})},
        )


class OneGatePolicy(APIView):
    """One version of a gate policy."""

    @extend_schema(
        operation_id="gate_policies_get",
        summary="Get a gate policy, NAME@VERSION or NAME for its newest",
        tags=TAGS,
        responses=OneGatePolicyOutput,
    )
    def get(self, request: Request, reference: str) -> Response:
        name, at, version = reference.partition("@")
        number = int(version) if version.isascii() and version.isdecimal() and len(version) < 10 else 0
        return Response(OneGatePolicyOutput(find_policy(name, number if at else None)).data)


class CheckGatePolicy(APIView):
    """A draft checked and explained."""

    needs = {"POST": Need(Scope.READ, Action.VIEW)}

    @extend_schema(
        operation_id="gate_policies_check",
        summary="Check and explain a draft of a gate policy",
        description="Stores nothing. A draft with mistakes is a 422 whose `errors` name every one of them.",
        tags=TAGS,
        request=PolicyCheckInput,
        responses=PolicyCheckOutput,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        form = PolicyCheckInput.read(request)
        document = _document(form)
        name = form["name"] or document.name or "draft"
        found = check_gate_policy(
            name=name,
            body=document.body,
            endpoint=_endpoint(form["endpoint"]),
            edges=wiring.worlds().edges(),
            now=now_of(request),
        )
        if found.problems:
            raise first_of([document.located(one) for one in found.problems])
        check_document_name(name, document)
        assert found.policy is not None
        assert found.outlook is not None
        return Response(
            {
                "reference": found.reference,
                "same": found.same,
                "changes": [one.to_json() for one in found.changes],
                "yaml": policy_text(found.newest.policy if found.same and found.newest else found.policy),
                "explanation": found.outlook.to_json(),
            }
        )


class EndpointGatePolicy(APIView):
    """Which policy the next rollouts of an endpoint are tested by."""

    needs = {"PUT": Need(Scope.ROLLOUTS_WRITE, action_of(set_endpoint_policy))}

    @extend_schema(
        operation_id="endpoints_set_gate_policy",
        summary="Set the gate policy of an endpoint",
        description="For its next rollouts; one that runs keeps the policy it was started with.",
        tags=["endpoints"],
        request=EndpointPolicyInput,
        responses=EndpointOutput,
    )
    def put(self, request: Request, name: str) -> Response:
        form = EndpointPolicyInput.read(request)
        set_endpoint_policy(
            endpoint_name=name,
            reference=form["gate_policy"],
            expected=form["expected"],
            worlds=wiring.worlds(),
            actor=actor_of(request),
            now=now_of(request),
        )
        return Response(EndpointOutput(selectors.find_endpoint_with_ratings(name, now=now_of(request))).data)


def _document(form: dict[str, Any]) -> PolicyDocument:
    if ("text" in form) == ("policy" in form):
        raise InvalidInput(
            "Send the policy either as text or as an object, and not both.",
            field="text",
            fix="Put YAML into text, or the object into policy.",
        )
    if "text" in form:
        return read_policy_text(form["text"])
    return document_of(form["policy"])


def _endpoint(name: str) -> Endpoint | None:
    return selectors.find_endpoint(name) if name else None
