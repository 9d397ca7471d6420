"""A person's own access, and what an administrator ends of anybody's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from controlplane.access.account import change_password, end_access, end_token
from controlplane.access.actors import Actor
from controlplane.access.models import ApiToken, User
from controlplane.access.roles import Role
from controlplane.access.services import Scope, create_token, find_token
from controlplane.access.sign_in import TRIES_A_NAME, SignInRefused
from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests import factories

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)
NEW = "a staple for the horse"


@pytest.fixture
def mira(db: None) -> User:
    return factories.person(username="mira")


@pytest.fixture
def admin(db: None) -> Actor:
    return Actor.person(factories.person(Role.ADMINISTRATOR, username="root"))


def token_of(person: User, name: str = "ci", **changes: Any) -> tuple[ApiToken, str]:
    wanted: dict[str, Any] = {"name": name, "scopes": [Scope.READ], "expires_at": None, "now": NOW}
    return create_token(user=person, **{**wanted, **changes})


def change(person: User, **changes: Any) -> User:
    wanted: dict[str, Any] = {
        "actor": Actor.person(person, request_id="r-1"),
        "current": factories.PASSWORD,
        "new": NEW,
        "end_tokens": True,
        "address": "10.0.0.1",
        "now": NOW,
    }
    return change_password(**{**wanted, **changes})


# --- the password -------------------------------------------------------------------------------------------------


def test_change_password__right_one__is_the_new_one_and_ends_the_tokens(mira: User) -> None:
    _, secret = token_of(mira)
    before = mira.get_session_auth_hash()
    changed = change(mira)
    assert changed.check_password(NEW)
    assert changed.get_session_auth_hash() != before
    assert find_token(secret, NOW) is None


def test_change_password__tokens_kept__still_work(mira: User) -> None:
    _, secret = token_of(mira)
    change(mira, end_tokens=False)
    assert find_token(secret, NOW) is not None


def test_change_password__is_audited_without_a_password(mira: User) -> None:
    token_of(mira)
    change(mira)
    event = AuditEvent.objects.get()
    assert (event.action, event.actor, event.object_id, event.request_id) == (
        "person.password-changed", "mira", "mira", "r-1"
    )  # fmt: skip
    assert event.after == {"sessions": "ended", "tokens_ended": 1}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"current": "wrong"}, "current"),
        ({"current": ""}, "current"),
        ({"new": factories.PASSWORD}, "new"),
        ({"new": "short"}, "new"),
        ({"new": "password123"}, "new"),
        ({"new": "x" * 1_001}, "new"),
        ({"new": "\ud800" * 12}, "new"),
    ],
)
def test_change_password__what_cannot_be__changes_nothing_and_names_the_field(
    mira: User, changes: dict[str, str], field: str
) -> None:
    _, secret = token_of(mira)
    with pytest.raises(InvalidInput) as caught:
        change(mira, **changes)
    assert caught.value.field == field
    mira.refresh_from_db()
    assert mira.check_password(factories.PASSWORD)
    assert find_token(secret, NOW) is not None
    assert not AuditEvent.objects.exists()


def test_change_password__guessing_the_current_one__is_braked_like_signing_in(mira: User) -> None:
    for _ in range(TRIES_A_NAME):
        with pytest.raises(SignInRefused, match="not the password you have now"):
            change(mira, current="wrong")
    with pytest.raises(SignInRefused, match="Too many tries"):
        change(mira)


def test_change_password__by_a_token__is_forbidden(mira: User) -> None:
    with pytest.raises(Forbidden, match="by the person alone"):
        change(mira, actor=Actor(user=mira, name="mira via ci", kind="token"))


def test_change_password__changed_meanwhile__conflicts(mira: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(password: str) -> str:
        User.objects.filter(pk=mira.pk).update(password="another")
        return password

    monkeypatch.setattr("controlplane.access.account.hashed", meanwhile)
    with pytest.raises(Conflict):
        change(mira)
    assert User.objects.get(pk=mira.pk).password == "another"


# --- sessions and tokens --------------------------------------------------------------------------------------------


def test_end_access__own_sessions__end_and_tokens_stay(mira: User) -> None:
    _, secret = token_of(mira)
    before = mira.get_session_auth_hash()
    ended = end_access(username="mira", sessions=True, tokens=False, actor=Actor.person(mira), now=NOW)
    assert ended.person.get_session_auth_hash() != before
    assert find_token(secret, NOW) is not None


def test_end_access__twice__ends_the_sessions_made_between(mira: User) -> None:
    hashes = {mira.get_session_auth_hash()}
    for _ in range(2):
        ended = end_access(username="mira", sessions=True, tokens=False, actor=Actor.person(mira), now=NOW)
        hashes.add(ended.person.get_session_auth_hash())
    assert len(hashes) == 3


def test_end_access__of_somebody_by_an_administrator__ends_live_tokens_and_is_audited(
    mira: User, admin: Actor
) -> None:
    token_of(mira)
    token_of(mira, "old", expires_at=NOW + timedelta(minutes=1))
    _, other = token_of(factories.person(username="jonas"))
    later = NOW + timedelta(hours=1)
    ended = end_access(username="mira", sessions=True, tokens=True, actor=admin, now=later)
    assert (ended.sessions, ended.tokens) == (True, 1)
    assert find_token(other, later) is not None
    event = AuditEvent.objects.get()
    assert (event.action, event.actor, event.object_id) == ("person.access-ended", "root", "mira")


def test_end_access__of_nobody_or_somebody__is_the_same_answer_for_who_may_not_know(mira: User) -> None:
    jonas = Actor.person(factories.person(Role.RELEASE_MANAGER, username="jonas"))
    answers = []
    for name in ("mira", "nobody", "a\x00b"):
        with pytest.raises(Forbidden) as caught:
            end_access(username=name, sessions=True, tokens=True, actor=jonas, now=NOW)
        answers.append(str(caught.value))
    assert len(set(answers)) == 1


@pytest.mark.parametrize("name", ["nobody", ""])  # a NUL is refused at the edge
def test_end_access__of_nobody_by_an_administrator__is_not_found(admin: Actor, name: str) -> None:
    with pytest.raises(NotFound):
        end_access(username=name, sessions=True, tokens=True, actor=admin, now=NOW)


def test_end_access__of_nothing__is_refused(mira: User) -> None:
    with pytest.raises(InvalidInput):
        end_access(username="mira", sessions=False, tokens=False, actor=Actor.person(mira), now=NOW)


def test_end_token__own__ends_and_is_audited_by_name(mira: User) -> None:
    token, secret = token_of(mira)
    end_token(token_id=token.pk, actor=Actor.person(mira), now=NOW)
    end_token(token_id=token.pk, actor=Actor.person(mira), now=NOW + timedelta(hours=1))
    assert find_token(secret, NOW) is None
    assert AuditEvent.objects.get().after == {"token": "ci"}
    token.refresh_from_db()
    assert token.revoked_at == NOW


def test_end_token__of_somebody_else__is_the_same_answer_as_one_that_does_not_exist(
    mira: User, admin: Actor
) -> None:
    token, _ = token_of(mira)
    jonas = Actor.person(factories.person(username="jonas"))
    answers = []
    for number in (token.pk, 999_999):
        with pytest.raises(Forbidden) as caught:
            end_token(token_id=number, actor=jonas, now=NOW)
        answers.append(str(caught.value))
    assert answers[0] == answers[1]
    end_token(token_id=token.pk, actor=admin, now=NOW)
    with pytest.raises(NotFound):
        end_token(token_id=999_999, actor=admin, now=NOW)


# --- the command ----------------------------------------------------------------------------------------------------


def test_command__end_access__ends_both_and_says_so(mira: User, capsys: pytest.CaptureFixture[str]) -> None:
    _, secret = token_of(mira)
    call_command("end_access", "mira")
    assert capsys.readouterr().out == "mira: signed out everywhere, 1 token ended.\n"
    assert find_token(secret, NOW) is None
    assert AuditEvent.objects.get().actor == "Headgate"


def test_command__end_access_of_nobody__says_so() -> None:
    with pytest.raises(CommandError, match="nobody called 'x'"):
        call_command("end_access", "x")
