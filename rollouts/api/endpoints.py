"""Calls about endpoints and the feedback on what they answered."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from controlplane.access.rules import action_of
from controlplane.access.services import Scope
from controlplane.api.callers import actor_of, now_of
from controlplane.api.idempotency import idempotent
from controlplane.api.pagination import ByName
from controlplane.api.permissions import Need
from controlplane.api.throttling import ClientRateThrottle
from registry.selectors import get_golden_set, get_version
from rollouts import selectors, wiring
from rollouts.api.feedback_outputs import FeedbackOutput
from rollouts.api.inputs import EndpointInput, FeedbackInput, RescueInput, RestoredInput
from rollouts.api.outputs import EndpointOutput, HistoryOutput, VariantOutput
from rollouts.domain.variants import ServingSpec
from rollouts.models import Endpoint, HistoryEvent, Variant
from rollouts.services.commands.endpoints import create_endpoint, set_rescue
from rollouts.services.commands.feedback import MOST_WAITING, record_feedback
from rollouts.services.commands.restored_choice import choose_after_restore
from rollouts.wake import wake

TAGS = ["endpoints"]
FEEDBACK_RATE = "600/min"


def _shown(request: Request, name: str) -> Any:
    """An endpoint as the API answers it. Raises NotFound."""
    return EndpointOutput(selectors.find_endpoint_with_ratings(name, now=now_of(request))).data


class Endpoints(generics.ListAPIView[Endpoint]):
    """Endpoints by name; POST makes one."""

    serializer_class = EndpointOutput
    pagination_class = ByName
    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, action_of(create_endpoint))}

    def get_queryset(self) -> Any:
        return selectors.endpoints_with_ratings(now=now_of(self.request))

    @extend_schema(operation_id="endpoints_list", summary="List endpoints", tags=TAGS)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)

    @extend_schema(
        operation_id="endpoints_create",
        summary="Make an endpoint",
        tags=TAGS,
        request=EndpointInput,
        responses={201: EndpointOutput},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        form = EndpointInput.read(request)
        version = get_version(model=form["model"], number=form["version"])
        endpoint = create_endpoint(
            name=form["name"],
            model=version.model,
            version=version,
            serving=ServingSpec.from_json(form.get("serving", {})),
            gate_policy=selectors.find_gate_policy(form["gate_policy"]),
            golden_set=get_golden_set(name=form["golden_set"]) if form["golden_set"] else None,
            cluster=selectors.find_cluster(form["cluster"]),
            worlds=wiring.worlds(),
            alias=form["alias"],
            environment=form["environment"],
            rescue=form["rescue"],
            actor=actor_of(request),
            now=now_of(request),
        )
        wake(endpoint.pk)
        return Response(
            _shown(request, endpoint.name),
            status=status.HTTP_201_CREATED,
            headers={"Location": reverse("api-endpoint", kwargs={"name": endpoint.name})},
        )


class OneEndpoint(APIView):
    """One endpoint."""

    @extend_schema(
        operation_id="endpoints_get", summary="Get an endpoint", tags=TAGS, responses=EndpointOutput
    )
    def get(self, request: Request, name: str) -> Response:
        return Response(_shown(request, name))


class EndpointRescue(APIView):
    """Whether another variant answers for a dead one."""

    needs = {"PUT": Need(Scope.ROLLOUTS_WRITE, action_of(set_rescue))}

    @extend_schema(
        operation_id="endpoints_set_rescue",
        summary="Set whether another variant answers for a dead one",
        description=(
            "On: the candidates that have traffic and that no gate blames, and the previous variant while it is warm,"
            " answer for a dead baseline. What they answer counts as a failure of the variant that was drawn. Off:"
            " nobody answers for a dead baseline; the baseline answers for a dead candidate in any case."
        ),
        tags=TAGS,
        request=RescueInput,
        responses=EndpointOutput,
    )
    def put(self, request: Request, name: str) -> Response:
        form = RescueInput.read(request)
        endpoint = set_rescue(endpoint_name=name, on=form["on"], actor=actor_of(request), now=now_of(request))
        wake(endpoint.pk)
        return Response(_shown(request, name))


class EndpointRestored(APIView):
    """What an endpoint serves after the database was restored from an older copy."""

    needs = {"PUT": Need(Scope.ROLLOUTS_WRITE, action_of(choose_after_restore))}

    @extend_schema(
        operation_id="endpoints_choose_after_restore",
        summary="Choose what serves after a restore",
        description=(
            "Possible while `restored.state` of the endpoint is `held`, `keeping` or `returning` (else 409). Keep: the"
            " variant that serves becomes the stable one and has all traffic, and a rollout that the database holds for"
            " under way is superseded. Return: the router is set to what the database says once that is ready."
        ),
        tags=TAGS,
        request=RestoredInput,
        responses=EndpointOutput,
    )
    def put(self, request: Request, name: str) -> Response:
        form = RestoredInput.read(request)
        endpoint = choose_after_restore(
            endpoint_name=name,
            choice=form["choice"],
            variant=form["variant"],
            why=form["why"],
            actor=actor_of(request),
            now=now_of(request),
        )
        wake(endpoint.pk)
        return Response(_shown(request, name))


class EndpointVariants(generics.ListAPIView[Variant]):
    """The variants of an endpoint, newest first."""

    serializer_class = VariantOutput

    def get_queryset(self) -> Any:
        return selectors.variants_of(selectors.find_endpoint(self.kwargs["name"]))

    @extend_schema(operation_id="endpoints_variants", summary="Variants of an endpoint", tags=TAGS)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)


class EndpointHistory(generics.ListAPIView[HistoryEvent]):
    """What happened to an endpoint, its rollouts included, newest first."""

    serializer_class = HistoryOutput

    def get_queryset(self) -> Any:
        return selectors.history(endpoint=selectors.find_endpoint(self.kwargs["name"]))

    @extend_schema(operation_id="endpoints_history", summary="History of an endpoint", tags=TAGS)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)


class EndpointFeedback(APIView):
    """Scores for responses."""

    needs = {"POST": Need(Scope.FEEDBACK_WRITE, action_of(record_feedback))}
    throttle_classes = [ClientRateThrottle]
    rate = FEEDBACK_RATE

    @extend_schema(
        operation_id="endpoints_feedback",
        summary="Score a response",
        description=(
            "`request_id` and `variant` are the headers x-request-id and x-headgate-variant of the response. "
            "One score a response counts, and only after the router's log has confirmed who answered. "
            f"At most {FEEDBACK_RATE} a client, of which {MOST_WAITING:,} may wait for that at once; beyond it 429 with"
            " Retry-After."
        ),
        tags=TAGS,
        request=FeedbackInput,
        responses={202: FeedbackOutput},
    )
    @idempotent
    def post(self, request: Request, name: str) -> Response:
        form = FeedbackInput.read(request)
        feedback = record_feedback(
            endpoint_name=name,
            request_id=form["request_id"],
            variant=form["variant"],
            up=form["score"] == "up",
            comment=form["comment"],
            actor=actor_of(request),
            now=now_of(request),
        )
        return Response(FeedbackOutput(feedback).data, status=status.HTTP_202_ACCEPTED)
