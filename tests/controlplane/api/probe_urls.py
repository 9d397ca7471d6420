"""Addresses that only these tests have: a view that fails on demand, one that counts, one with pages."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404
from django.urls import include, path
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.models import User
from controlplane.access.roles import Action
from controlplane.access.services import Scope
from controlplane.api.callers import actor_of
from controlplane.api.idempotency import idempotent
from controlplane.api.inputs import Input
from controlplane.api.permissions import Need
from controlplane.api.throttling import ClientRateThrottle
from controlplane.kernel import errors

FAILURES: dict[str, Exception] = {
    "invalid-input": errors.InvalidInput(
        "0.7 s is not a bucket edge.",
        field="gates.latency.slo",
        fix="Use 0.5 or 1.0.",
        extra={"neighbours": [0.5, 1.0]},
    ),
    "not-found": errors.NotFound(
        "There is no endpoint named tickets.", fix="List them: GET /api/v1/endpoints."
    ),
    "forbidden": errors.Forbidden("Needs release manager."),
    "conflict": errors.Conflict("Changed by ana 8 s ago.", extra={"current": {"revision": 4}}),
    "illegal-transition": errors.IllegalTransition("succeeded", "pause", ("roll-back",)),
    "stale-writer": errors.StaleWriter("The lease is lost."),
    "refused": errors.Refused("The global stop is on."),
    "tampered-file": errors.TamperedFile("model.safetensors", "has another digest"),
    "unavailable": errors.Unavailable("MLflow did not answer."),
    "rejected": errors.Rejected("Envoy refused the configuration."),
    "error": errors.HeadgateError("Of no kind."),
    "http404": Http404("secret table name"),
    "denied": PermissionDenied("secret reason"),
    "database": OperationalError("password=hunter2 host=db"),
    "bug": RuntimeError("password=hunter2"),
}


class Failing(APIView):
    def get(self, request: Request, kind: str) -> Response:
        raise FAILURES[kind]


class StepInput(Input):
    share_bp = serializers.IntegerField()


class FormInput(Input):
    name = serializers.CharField()
    steps = StepInput(many=True)


class Counting(APIView):
    """Each call that is really made counts one more; `fail` in the body makes it fail after counting."""

    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, Action.START_ROLLOUT)}
    calls = 0

    @idempotent
    def post(self, request: Request) -> Response:
        type(self).calls += 1
        if "fail" in request.data:
            raise errors.Unavailable("MLflow did not answer.")
        return Response({"calls": self.calls}, status=201, headers={"Location": "/api/v1/things/1"})


class Form(APIView):
    needs = {"POST": Need(Scope.ROLLOUTS_WRITE, Action.START_ROLLOUT)}

    def post(self, request: Request) -> Response:
        actor = actor_of(request)
        return Response(FormInput.read(request) | {"actor": actor.name, "kind": actor.kind})


class Forgetful(APIView):
    def post(self, request: Request) -> Response:
        return Response({})


class Limited(APIView):
    rate = "2/min"
    throttle_classes = [ClientRateThrottle]

    def get(self, request: Request) -> Response:
        return Response({})


class PersonOutput(serializers.Serializer[Any]):
    username = serializers.CharField()


class People(generics.ListAPIView[User]):
    queryset = User.objects.all()
    serializer_class = PersonOutput


urlpatterns = [
    path("api/v1/failing/<str:kind>", Failing.as_view()),
    path("api/v1/counting", Counting.as_view()),
    path("api/v1/form", Form.as_view()),
    path("api/v1/forgetful", Forgetful.as_view()),
    path("api/v1/limited", Limited.as_view()),
    path("api/v1/people", People.as_view()),
    path("", include("controlplane.config.urls")),
]
