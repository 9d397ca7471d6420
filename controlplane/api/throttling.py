"""Limits on how often one client may call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.throttling import SimpleRateThrottle

from controlplane.access.models import ApiToken, User

if TYPE_CHECKING:  # the framework's views import throttles themselves
    from rest_framework.request import Request
    from rest_framework.views import APIView


class ClientRateThrottle(SimpleRateThrottle):
    """At most `view.rate` ("60/min") calls a client and view; beyond it 429 with Retry-After.

    A client is a token, else a person. Counted in Django's default cache: with the cache in memory each web
    process counts for itself, so the limit of an installation is at most the rate times its processes.
    """

    def __init__(self) -> None:
        """The rate comes from the view, in `allow_request`."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        self.scope = type(view).__name__
        self.rate = view.rate  # type: ignore[attr-defined]
        self.num_requests, self.duration = self.parse_rate(self.rate)
        return super().allow_request(request, view)

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        if isinstance(request.auth, ApiToken):
            ident = f"token-{request.auth.pk}"
        elif isinstance(request.user, User):
            ident = f"user-{request.user.pk}"
        else:
            return None  # nobody: HasScope has refused already
        return self.cache_format % {"scope": self.scope, "ident": ident}
