"""Who a request acts for, and when: what services want to know of it."""

from __future__ import annotations

from datetime import datetime

from rest_framework.request import Request

from controlplane.access.actors import Actor
from controlplane.access.models import ApiToken, User
from controlplane.api.problems import request_id_of


def actor_of(request: Request) -> Actor:
    """The caller of a request that HasScope let through, as history and audit name it (`NAME via TOKEN`)."""
    user, request_id = user_of(request), request_id_of(request._request)
    token = token_of(request)
    if token is None:
        return Actor.person(user, request_id=request_id)
    return Actor(user=user, name=f"{user.username} via {token.name}", kind="token", request_id=request_id)


def user_of(request: Request) -> User:
    """The person, or the owner of the token, of a request that HasScope let through."""
    assert isinstance(request.user, User)
    return request.user


def token_of(request: Request) -> ApiToken | None:
    """The token of the request; None for a signed-in person."""
    return request.auth if isinstance(request.auth, ApiToken) else None


def now_of(request: Request) -> datetime:
    """When the request came in: the one "now" of all it does. Aware, UTC."""
    now = request._request.received_at  # type: ignore[attr-defined]
    assert isinstance(now, datetime)
    return now
