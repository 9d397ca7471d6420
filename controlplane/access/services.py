"""What changes people and tokens."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import transaction

from controlplane.access.hashing import hashed
from controlplane.access.models import ApiToken, User
from controlplane.access.roles import Role
from controlplane.kernel.errors import Conflict, InvalidInput
from controlplane.kernel.plain import check_text

TOKEN_PREFIX = "hg_"  # noqa: S105  (a mark to recognise leaked tokens by, not a secret)
LONGEST_USERNAME = 120
LONGEST_TOKEN_NAME = 80
LONGEST_ACTOR = 150  # what history and audit trail keep
LAST_USED_RESOLUTION = timedelta(minutes=1)


class Scope(StrEnum):
    """What a token may do. A token never may more than its owner."""

    READ = "read"
    ROLLOUTS_WRITE = "rollouts:write"
    REGISTRY_WRITE = "registry:write"
    FEEDBACK_WRITE = "feedback:write"


def ensure_user(*, username: str, role: Role | str, password: str) -> User:
    """Makes the person, or gives an existing one this role and password. Idempotent.

    Raises InvalidInput naming `username`, `role` or `password` (also for what nobody could sign in with); TooBusy.
    """
    if not username.strip():
        raise InvalidInput("A person needs a name to sign in with.", field="username")
    check_text(username, field="username")
    if username != username.strip() or not username.isprintable():
        raise InvalidInput(
            "Nobody could sign in with a name that has control characters, or spaces at its ends.",
            field="username",
            fix="Leave them out.",
        )
    if len(username) > LONGEST_USERNAME:
        raise InvalidInput(f"A person's name has at most {LONGEST_USERNAME} characters.", field="username")
    if not password:
        raise InvalidInput("A person needs a password.", field="password")
    known = _role(role)
    before = User.objects.filter(username=username).first()
    if before and before.check_password(password) and before.role == known.value and before.is_active:
        return before  # Hashing again would end the person's sessions for nothing.
    stored = hashed(password)  # takes a second of a core: outside the transaction
    with transaction.atomic():
        user, _ = User.objects.get_or_create(username=username, defaults={"role": known.value})
        user.role = known.value
        user.is_active = True
        user.password = stored
        user.save()
    return user


def create_token(
    *, user: User, name: str, scopes: Sequence[Scope | str], expires_at: datetime | None, now: datetime
) -> tuple[ApiToken, str]:
    """Makes a token for `user` and returns it with its secret, which cannot be shown again.

    Raises InvalidInput naming `name`, `scopes` or `expires_at`, and Conflict when the person has a token of
    that name.
    """
    if not name.strip():
        raise InvalidInput("A token needs a name that says who uses it.", field="name")
    if not scopes:
        raise InvalidInput(
            "A token needs at least one scope.", field="scopes", fix=f"Scopes: {_all_scopes()}."
        )
    _check_name(user, name)
    known = sorted({_scope(scope).value for scope in scopes})
    if expires_at is not None and expires_at <= now:
        raise InvalidInput(
            "The token would already be expired.", field="expires_at", fix="Choose a later time."
        )
    if ApiToken.objects.filter(user=user, name=name).exists():
        raise Conflict(f"{user.username} already has a token named {name!r}.", fix="Choose another name.")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        prefix=secret[:9],
        secret_sha256=hash_secret(secret),
        scopes=known,
        created_at=now,
        expires_at=expires_at,
    )
    return token, secret


def revoke_token(*, token: ApiToken, now: datetime) -> ApiToken:
    """Ends a token at once. A token that was revoked before keeps its first time."""
    ApiToken.objects.filter(id=token.id, revoked_at=None).update(revoked_at=now)
    token.refresh_from_db()
    return token


def find_token(secret: str, now: datetime) -> ApiToken | None:
    """The live token of this secret with its owner, or None (unknown, revoked, expired, owner switched off).

    Notes the use, at most once a minute, so that a busy token does not write on every request.
    """
    token = live_token(secret=secret, now=now)
    if token is None:
        return None
    if token.last_used_at is None or now - token.last_used_at >= LAST_USED_RESOLUTION:
        ApiToken.objects.filter(id=token.id).update(last_used_at=now)
        token.last_used_at = now
    return token


def live_token(*, secret: str, now: datetime) -> ApiToken | None:
    """As `find_token`, and nothing is noted: for probes, which write nothing."""
    token = ApiToken.objects.select_related("user").filter(secret_sha256=hash_secret(secret)).first()
    return token if token is not None and token.is_live(now) and token.user.is_active else None


def hash_secret(secret: str) -> str:
    """Hex SHA-256. The secret has 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _check_name(user: User, name: str) -> None:
    """History and audit trail name an actor as `PERSON via TOKEN`; both databases must be able to hold it."""
    check_text(name, field="name")
    longest = min(LONGEST_TOKEN_NAME, LONGEST_ACTOR - len(f"{user.username} via "))
    if len(name) > longest:
        raise InvalidInput(
            f"A token of {user.username} has a name of at most {longest} characters, not {len(name)}.",
            field="name",
            fix="Choose a shorter name.",
        )


def _role(role: Role | str) -> Role:
    try:
        return Role(role)
    except ValueError:
        known = ", ".join(known.value for known in Role)
        raise InvalidInput(f"There is no role {str(role)!r}.", field="role", fix=f"Roles: {known}.") from None


def _scope(scope: Scope | str) -> Scope:
    try:
        return Scope(scope)
    except ValueError:
        raise InvalidInput(
            f"There is no scope {str(scope)!r}.", field="scopes", fix=f"Scopes: {_all_scopes()}."
        ) from None


def _all_scopes() -> str:
    return ", ".join(scope.value for scope in Scope)
