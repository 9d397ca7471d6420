"""People come into being with a role and a password."""

from __future__ import annotations

import pytest

from controlplane.access.models import User
from controlplane.access.roles import Action, Role
from controlplane.access.services import ensure_user
from controlplane.kernel.errors import InvalidInput

pytestmark = pytest.mark.django_db


def test_ensure_user__new__may_what_the_role_may() -> None:
    user = ensure_user(username="ana", role="release_manager", password="long enough")
    assert user.check_password("long enough")
    assert user.may(Action.PROMOTE_NOW)
    assert not user.may(Action.MANAGE_ACCESS)
    assert user.role_words == "release manager"


def test_ensure_user__same_again__keeps_the_password_hash() -> None:
    first = ensure_user(username="ana", role=Role.VIEWER, password="long enough")
    again = ensure_user(username="ana", role=Role.VIEWER, password="long enough")
    assert User.objects.count() == 1
    assert again.password == first.password


def test_ensure_user__other_role_and_password__takes_both() -> None:
    ensure_user(username="ana", role=Role.VIEWER, password="long enough")
    user = ensure_user(username="ana", role=Role.ENGINEER, password="another one")
    user.refresh_from_db()
    assert user.role == "engineer"
    assert user.check_password("another one")


@pytest.mark.parametrize(
    ("username", "role", "password", "field"),
    [
        (" ", "viewer", "x", "username"),
        ("ana ", "viewer", "x", "username"),
        ("a\tna", "viewer", "x", "username"),
        ("ana", "boss", "x", "role"),
        ("ana", "viewer", "", "password"),
        ("ana", "viewer", "x" * 1_001, "password"),
    ],
)
def test_ensure_user__bad_value__names_the_field(username: str, role: str, password: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ensure_user(username=username, role=role, password=password)
    assert caught.value.field == field
    assert not User.objects.exists()
