"""The API's own calls: who am I, its document, its docs page, and the answer for paths that do not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from csp.decorators import csp_update
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.roles import Action
from controlplane.api.callers import token_of, user_of
from controlplane.kernel.errors import NotFound


class CallerOutput(serializers.Serializer[Any]):
    """Who the caller is and what they may do."""

    username = serializers.CharField()
    role = serializers.CharField()
    token = serializers.CharField(allow_null=True, help_text="name of the token used; null for a session")
    scopes = serializers.ListField(child=serializers.CharField(), allow_null=True)
    may = serializers.ListField(child=serializers.CharField(), help_text="actions that the role allows")


class WhoAmI(APIView):
    """The caller itself: a way to try a token."""

    @extend_schema(operation_id="me", summary="Who am I", tags=["access"], responses=CallerOutput)
    def get(self, request: Request) -> Response:
        user, token = user_of(request), token_of(request)
        return Response(
            {
                "username": user.username,
                "role": user.role,
                "token": token.name if token else None,
                "scopes": token.scopes if token else None,
                "may": [action.value for action in Action if user.may(action)],
            }
        )


class Schema(SpectacularAPIView):
    """The OpenAPI document of this API. Public: it holds nothing but the form of calls."""

    permission_classes = [AllowAny]
    authentication_classes: list[Any] = []


class Docs(SpectacularSwaggerSplitView):
    """The docs page: Swagger UI from this server, its script in a request of its own (nothing inline)."""

    permission_classes = [AllowAny]
    authentication_classes: list[Any] = []
    url_name = "api-schema"
    template_name = "api/docs.html"


class NoSuchPath(APIView):
    """Every path under /api/ that nothing else answers, as a problem instead of an HTML page."""

    permission_classes = [AllowAny]
    authentication_classes: list[Any] = []
    schema = None

    def _refuse(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        raise NotFound(f"There is nothing at {request.path}.", fix="/api/v1/docs lists the calls.")

    get = post = put = patch = delete = _refuse


# Swagger UI draws its icons from data: addresses; it needs nothing else beyond the policy of all other pages.
docs: Callable[..., Any] = csp_update({"img-src": ["data:"]})(Docs.as_view())
