"""People and the time."""

from __future__ import annotations

from datetime import UTC, datetime

from controlplane.access.models import User
from controlplane.access.roles import Role
from controlplane.access.services import ensure_user

PASSWORD = "correct horse battery"


def person(role: Role = Role.ENGINEER, *, username: str = "") -> User:
    """Somebody who can sign in with PASSWORD."""
    return ensure_user(username=username or role.value.replace("_", "-"), role=role, password=PASSWORD)


def right_now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
