"""Calls about the installation as a whole: the global stop."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.rules import action_of
from controlplane.access.services import Scope
from controlplane.api.callers import actor_of, now_of
from controlplane.api.permissions import Need
from rollouts import selectors
from rollouts.api.inputs import GlobalStopInput
from rollouts.api.outputs import GlobalStopOutput
from rollouts.services.commands.rollouts import set_global_stop

TAGS = ["installation"]


class GlobalStopSwitch(APIView):
    """While it is on, nothing in the installation moves forward. Rolling back is never stopped."""

    needs = {"PUT": Need(Scope.ROLLOUTS_WRITE, action_of(set_global_stop))}

    @extend_schema(
        operation_id="global_stop_get", summary="Get the global stop", tags=TAGS, responses=GlobalStopOutput
    )
    def get(self, request: Request) -> Response:
        return Response(GlobalStopOutput(selectors.global_stop()).data)

    @extend_schema(
        operation_id="global_stop_set",
        summary="Set or lift the global stop",
        tags=TAGS,
        request=GlobalStopInput,
        responses=GlobalStopOutput,
    )
    def put(self, request: Request) -> Response:
        form = GlobalStopInput.read(request)
        set_global_stop(on=form["on"], why=form["why"], actor=actor_of(request), now=now_of(request))
        return Response(GlobalStopOutput(selectors.global_stop()).data)
