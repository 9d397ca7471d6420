"""API tokens: the secret is shown once and only its hash is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.access.models import ApiToken, User
from controlplane.access.roles import Role
from controlplane.access.selectors import tokens_of
from controlplane.access.services import Scope, create_token, ensure_user, find_token, revoke_token
from controlplane.kernel.errors import Conflict, InvalidInput

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)


@pytest.fixture
def owner() -> User:
    return ensure_user(username="mira", role=Role.ENGINEER, password="a long enough one")


def make(owner: User, *, name: str = "ci", expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    return create_token(
        user=owner, name=name, scopes=["rollouts:write", "read"], expires_at=expires_at, now=NOW
    )


def test_create_token__secret__is_not_stored(owner: User) -> None:
    token, secret = make(owner)
    token.refresh_from_db()
    kept = [str(value) for value in vars(token).values()]
    assert secret.startswith("hg_")
    assert not any(secret in value for value in kept)
    assert secret.startswith(token.prefix)
    assert token.scopes == ["read", "rollouts:write"]


def test_find_token__right_secret__gives_token_and_owner(owner: User) -> None:
    token, secret = make(owner)
    found = find_token(secret, NOW)
    assert found is not None
    assert found.pk == token.pk
    assert found.user == owner


def test_find_token__wrong_secret__is_none(owner: User) -> None:
    make(owner)
    assert find_token("hg_" + "x" * 43, NOW) is None


def test_find_token__expired__is_none(owner: User) -> None:
    _, secret = make(owner, expires_at=NOW + timedelta(hours=1))
    assert find_token(secret, NOW + timedelta(minutes=59)) is not None
    assert find_token(secret, NOW + timedelta(hours=1)) is None


def test_find_token__revoked__is_none(owner: User) -> None:
    token, secret = make(owner)
    revoke_token(token=token, now=NOW)
    assert find_token(secret, NOW) is None


def test_find_token__owner_switched_off__is_none(owner: User) -> None:
    _, secret = make(owner)
    User.objects.update(is_active=False)
    assert find_token(secret, NOW) is None


def test_find_token__used_twice_in_a_minute__writes_once(owner: User) -> None:
    token, secret = make(owner)
    find_token(secret, NOW)
    find_token(secret, NOW + timedelta(seconds=59))
    token.refresh_from_db()
    assert token.last_used_at == NOW
    find_token(secret, NOW + timedelta(seconds=61))
    token.refresh_from_db()
    assert token.last_used_at == NOW + timedelta(seconds=61)


def test_revoke_token__twice__keeps_the_first_time(owner: User) -> None:
    token, _ = make(owner)
    revoke_token(token=token, now=NOW)
    again = revoke_token(token=token, now=NOW + timedelta(hours=1))
    assert again.revoked_at == NOW


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "  "}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"expires_at": NOW}, "expires_at"),
    ],
)
def test_create_token__bad_value__names_the_field(owner: User, change: dict[str, object], field: str) -> None:
    wanted: dict[str, object] = {"name": "ci", "scopes": [Scope.READ], "expires_at": None, **change}
    with pytest.raises(InvalidInput) as caught:
        create_token(user=owner, now=NOW, **wanted)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert not ApiToken.objects.exists()


def test_create_token__name_taken__conflicts(owner: User) -> None:
    make(owner)
    with pytest.raises(Conflict, match="mira already has a token named 'ci'"):
        make(owner)


def test_tokens_of__two_people__gives_only_theirs(owner: User) -> None:
    other = ensure_user(username="jonas", role=Role.ENGINEER, password="a long enough one")
    make(other)
    token, _ = make(owner)
    assert tokens_of(owner) == [token]


@pytest.mark.parametrize("name", ["x" * 81, "a\x00b", "\ud800"])
def test_create_token__name_that_the_trail_cannot_hold__is_refused(owner: User, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make(owner, name=name)
    assert caught.value.field == "name"


def test_create_token__longest_names__are_held_together_by_history_and_audit_trail() -> None:
    long = ensure_user(username="m" * 120, role=Role.ENGINEER, password="a long enough one")
    make(long, name="n" * 25)
    with pytest.raises(InvalidInput, match="at most 25 characters"):
        make(long, name="n" * 26)


@pytest.mark.parametrize("username", ["m" * 121, "a\x00b", "\ud800"])
def test_ensure_user__name_that_no_database_can_hold__is_refused(username: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ensure_user(username=username, role=Role.VIEWER, password="a long enough one")
    assert caught.value.field == "username"
