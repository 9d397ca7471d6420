"""What a caller may do: the token's scope and the role of its owner, both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from rest_framework.permissions import SAFE_METHODS, BasePermission

from controlplane.access.models import ApiToken, User
from controlplane.access.roles import Action, require
from controlplane.access.services import Scope
from controlplane.kernel.errors import Forbidden

if TYPE_CHECKING:  # the framework's views import this module themselves
    from rest_framework.request import Request
    from rest_framework.views import APIView


@dataclass(frozen=True, slots=True)
class Need:
    """What a call needs: `scope` of the token (if a token is used) and the role for `action`."""

    scope: Scope
    action: Action


READ = Need(Scope.READ, Action.VIEW)


class HasScope(BasePermission):
    """Refuses a caller without a token's scope or without the role.

    A view says what its writing methods need, `needs = {"POST": Need(Scope.ROLLOUTS_WRITE, action_of(service))}`: the
    role is the service's own rule, asked here as well, before anything is looked up. Reading needs READ unless said
    otherwise. A view that forgets to say is an error of the program, never open.
    Raises Forbidden naming the missing scope or role; False (401) when nobody is known.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not isinstance(request.user, User):
            return False
        need = need_of(view, request.method or "GET")
        token = request.auth
        if isinstance(token, ApiToken) and need.scope.value not in token.scopes:
            raise Forbidden(
                f"The token {token.name!r} lacks the scope {need.scope.value}.",
                fix=f"Use a token with the scope {need.scope.value}.",
                code="missing-scope",
                extra={"needs": need.scope.value, "scopes": list(token.scopes)},
            )
        require(request.user.role, need.action)
        return True


def need_of(view: APIView, method: str) -> Need:
    """What `method` of `view` needs. Raises ImproperlyConfigured when a writing method does not say."""
    needs: Mapping[str, Need] = getattr(view, "needs", {})
    if method in needs:
        return needs[method]
    if method in SAFE_METHODS:
        return needs.get("GET", READ)
    if not hasattr(view, method.lower()):
        return READ  # the view answers 405 itself; whoever may read may learn that
    raise ImproperlyConfigured(f"{type(view).__name__} does not say what {method} needs.")
