"""Calls about rollouts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from controlplane.access.actors import Actor
from controlplane.access.rules import action_of
from controlplane.access.services import Scope
from controlplane.api.callers import actor_of, now_of
from controlplane.api.idempotency import idempotent
from controlplane.api.permissions import Need
from controlplane.kernel.errors import Conflict, InvalidInput
from rollouts import selectors, wiring
from rollouts.api.inputs import ActionInput, EvidenceFilter, PromoteInput, RolloutFilter, StartInput
from rollouts.api.outputs import (
    EvidencePage,
    HistoryOutput,
    RolloutOutput,
)
from rollouts.api.preview_outputs import PreviewOutput
from rollouts.api.strategies import forms_of
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.strategies import STRATEGIES, strategy_of
from rollouts.domain.strategies.plans import read_plan
from rollouts.domain.variants import ServingSpec
from rollouts.evidence import require_readable
from rollouts.models import GatePolicyVersion, HistoryEvent, Rollout
from rollouts.services.commands import rollouts as commands
from rollouts.services.commands.start import preview_rollout, start_rollout
from rollouts.services.policies.own import own_policy_of
from rollouts.services.policies.text import document_of, read_policy_text
from rollouts.wake import wake

TAGS = ["rollouts"]


class Rollouts(generics.ListAPIView[Rollout]):
    """Rollouts, newest first; POST starts one."""

    serializer_class = RolloutOutput
    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, action_of(start_rollout))}

    def get_queryset(self) -> Any:
        return selectors.rollouts_where(**RolloutFilter.read_query(self.request))

    @extend_schema(
        operation_id="rollouts_list", summary="List rollouts", tags=TAGS, parameters=[RolloutFilter]
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)

    @extend_schema(
        operation_id="rollouts_start",
        summary="Start a rollout, or try it dry",
        description="With `dry_run` nothing is written; the answer is a preview: every check with its fix.",
        tags=TAGS,
        request=StartInput,
        responses={201: RolloutOutput, 200: PreviewOutput},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        form = StartInput.read(request)
        first, *others = form["versions"]
        endpoint = selectors.find_endpoint(form["endpoint"])
        shared = selectors.find_gate_policy(form["gate_policy"]) if form["gate_policy"] else None
        wanted: dict[str, Any] = {
            "endpoint": endpoint,
            "version_number": first,
            "other_versions": others,
            "plan": read_plan(form["plan"]),
            "serving": ServingSpec.from_json(form["serving"]) if "serving" in form else None,
            "gate_policy": shared,
            "own_policy": _own_policy(form, shared or endpoint.gate_policy),
            "worlds": wiring.worlds(),
            "now": now_of(request),
        }
        if form["dry_run"]:
            preview = preview_rollout(**wanted, actor=actor_of(request))
            return Response(PreviewOutput(preview).data)
        rollout = start_rollout(
            **wanted, actor=actor_of(request), note=form["note"], supersede=form["supersede"]
        )
        wake(rollout.endpoint_id)
        return Response(
            RolloutOutput(selectors.find_rollout(rollout.pk)).data,
            status=status.HTTP_201_CREATED,
            headers={"Location": reverse("api-rollout", kwargs={"rollout_id": rollout.pk})},
        )


def _own_policy(form: dict[str, Any], source: GatePolicyVersion) -> GatePolicy | None:
    """The policy of this rollout alone, if one was sent. Raises InvalidInput with the field as the form calls it."""
    field = "own_policy_text" if "own_policy_text" in form else "own_policy"
    if field not in form:
        return None
    try:
        read = read_policy_text if field == "own_policy_text" else document_of
        return own_policy_of(read(form[field]), source=source)
    except InvalidInput as error:
        # A mistake of the text as a whole is called `text`; the policy's own values are parts of the field.
        error.field = field if error.field in ("", "text") else f"{field}.{error.field}"
        for one in error.extra.get("problems", ()):
            one["field"] = f"{field}.{one['field']}"
        raise


class OneRollout(APIView):
    """One rollout."""

    @extend_schema(operation_id="rollouts_get", summary="Get a rollout", tags=TAGS, responses=RolloutOutput)
    def get(self, request: Request, rollout_id: int) -> Response:
        return Response(RolloutOutput(selectors.find_rollout(rollout_id)).data)


class RolloutAction(APIView):
    """What all actions share: read the form, run the service, wake the loop, answer with the fresh state."""

    service: ClassVar[Callable[..., Rollout]]
    form: ClassVar[type[ActionInput]] = ActionInput

    def act(self, request: Request, rollout_id: int) -> Response:
        said = type(self).form.read(request)
        actor: Actor = actor_of(request)
        now: datetime = now_of(request)
        try:
            type(self).service(
                rollout_id=rollout_id,
                actor=actor,
                now=now,
                **said,
            )
        except Conflict as conflict:
            # Who was too late decides anew: the answer holds what is true now.
            conflict.extra["current"] = RolloutOutput(selectors.find_rollout(rollout_id)).data
            raise
        rollout = selectors.find_rollout(rollout_id)
        wake(rollout.endpoint_id)
        return Response(RolloutOutput(rollout).data)


class Pause(RolloutAction):
    """Holds the shares where they are until somebody resumes. The gates go on watching and may roll back; of several
    candidates one that is proven worse still leaves."""

    service = commands.pause_rollout
    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, action_of(service))}

    @extend_schema(
        operation_id="rollouts_pause",
        summary="Pause",
        tags=TAGS,
        request=ActionInput,
        responses=RolloutOutput,
    )
    @idempotent
    def post(self, request: Request, rollout_id: int) -> Response:
        return self.act(request, rollout_id)


class Resume(RolloutAction):
    """Goes on with the step; weights that were set by hand are set as planned again."""

    service = commands.resume_rollout
    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, action_of(service))}

    @extend_schema(
        operation_id="rollouts_resume",
        summary="Resume",
        tags=TAGS,
        request=ActionInput,
        responses=RolloutOutput,
    )
    @idempotent
    def post(self, request: Request, rollout_id: int) -> Response:
        return self.act(request, rollout_id)


class Promote(RolloutAction):
    """Moves all traffic to the candidate (of several: to the arm named) now, whatever the gates still wait for."""

    service = commands.promote_rollout
    form = PromoteInput
    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, action_of(service))}

    @extend_schema(
        operation_id="rollouts_promote",
        summary="Promote now",
        tags=TAGS,
        request=PromoteInput,
        responses=RolloutOutput,
    )
    @idempotent
    def post(self, request: Request, rollout_id: int) -> Response:
        return self.act(request, rollout_id)


class RollBack(RolloutAction):
    """Returns all traffic to the baseline. Never stopped by a global stop."""

    service = commands.roll_back_rollout
    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, action_of(service))}

    @extend_schema(
        operation_id="rollouts_rollback",
        summary="Roll back",
        tags=TAGS,
        request=ActionInput,
        responses=RolloutOutput,
    )
    @idempotent
    def post(self, request: Request, rollout_id: int) -> Response:
        return self.act(request, rollout_id)


class Cancel(RolloutAction):
    """Ends a rollout before any traffic moved."""

    service = commands.cancel_rollout
    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, action_of(service))}

    @extend_schema(
        operation_id="rollouts_cancel",
        summary="Cancel",
        tags=TAGS,
        request=ActionInput,
        responses=RolloutOutput,
    )
    @idempotent
    def post(self, request: Request, rollout_id: int) -> Response:
        return self.act(request, rollout_id)


class RolloutHistory(generics.ListAPIView[HistoryEvent]):
    """What happened to a rollout, newest first."""

    serializer_class = HistoryOutput

    def get_queryset(self) -> Any:
        return selectors.history(rollout=selectors.find_rollout(self.kwargs["rollout_id"]))

    @extend_schema(operation_id="rollouts_history", summary="History of a rollout", tags=TAGS)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)


class RolloutEvidence(APIView):
    """What was measured, interval by interval."""

    @extend_schema(
        operation_id="rollouts_evidence",
        summary="Evidence of a rollout",
        tags=TAGS,
        parameters=[EvidenceFilter],
        responses=EvidencePage,
    )
    def get(self, request: Request, rollout_id: int) -> Response:
        asked = EvidenceFilter.read_query(request, besides=())
        rollout = selectors.find_rollout(rollout_id)
        rows = selectors.evidence_of(rollout, after_index=asked["after"], limit=asked["limit"])
        return Response(EvidencePage({"items": rows}).data)


class RolloutVerdicts(APIView):
    """What the gates say now."""

    @extend_schema(
        operation_id="rollouts_verdicts",
        summary="Verdicts of the gates",
        tags=TAGS,
        responses=PolymorphicProxySerializer(
            component_name="Verdicts",
            serializers={name: forms_of(name).verdicts for name in STRATEGIES},
            resource_type_field_name="kind",
        ),
    )
    def get(self, request: Request, rollout_id: int) -> Response:
        rollout = selectors.find_rollout(rollout_id)
        strategy_of(
            rollout.parsed_plan
        )  # the form of its evidence is known to the version alone that started it
        require_readable(rollout)
        said = forms_of(rollout.strategy).verdicts(rollout.verdicts).data
        return Response({**said, "kind": rollout.strategy})
