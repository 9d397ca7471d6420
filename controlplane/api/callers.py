"""Who a request acts for, in the words of the audit trail."""

from __future__ import annotations

from dataclasses import dataclass

from rest_framework.request import Request

from controlplane.access.models import ApiToken, User
from controlplane.api.problems import request_id_of


@dataclass(frozen=True, slots=True)
class Caller:
    """The person, the token used (None for a signed-in person) and the id of the request."""

    user: User
    token: ApiToken | None
    request_id: str

    @property
    def actor(self) -> str:
        """As audit events name it: a user name, or `NAME via TOKEN`."""
        return self.user.username if self.token is None else f"{self.user.username} via {self.token.name}"

    @property
    def actor_kind(self) -> str:
        """`person` or `token`."""
        return "person" if self.token is None else "token"


def caller_of(request: Request) -> Caller:
    """The caller of a request that HasScope let through."""
    assert isinstance(request.user, User)
    token = request.auth if isinstance(request.auth, ApiToken) else None
    return Caller(user=request.user, token=token, request_id=request_id_of(request._request))
