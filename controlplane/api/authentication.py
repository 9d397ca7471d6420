"""Who calls: a token in the Authorization header, or a person signed in to the web UI."""

from __future__ import annotations

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.authentication import SessionAuthentication as BaseSessionAuthentication
from rest_framework.request import Request

from controlplane.access.models import ApiToken, User
from controlplane.access.services import TOKEN_PREFIX, find_token
from controlplane.kernel.clock import SystemClock

SCHEME = "bearer"


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer hg_...`. `request.user` is the token's owner, `request.auth` the token.

    Another scheme is left to the next class; a bearer token that is not live is refused, never ignored.
    """

    clock = SystemClock()

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != SCHEME:
            return None
        secret = secret.strip()
        if not secret.startswith(TOKEN_PREFIX):
            raise exceptions.AuthenticationFailed(
                f"That is no token of Headgate: it begins with {TOKEN_PREFIX}."
            )
        token = find_token(secret=secret, now=self.clock.now())
        if token is None:
            # One message for unknown, revoked and expired: a stranger learns nothing from it.
            raise exceptions.AuthenticationFailed("This token is unknown, revoked or expired.")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="headgate"'


class SessionAuthentication(BaseSessionAuthentication):
    """The signed-in person of the web UI, for the pages' own reads and the try-outs of the docs page.

    Writes need the CSRF token, as forms do. There is no token then: the role alone decides.
    """


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tells the OpenAPI document how to send a token."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": SCHEME,
            "description": f"An API token of Headgate ({TOKEN_PREFIX}...), made by manage.py create_token.",
        }


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tells the OpenAPI document about the web UI's session."""

    target_class = SessionAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "The web UI's session; writes need the X-CSRFToken header as well.",
        }
