"""What people do with their own access, and administrators with anybody's: passwords, sessions, tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q

from controlplane.access.actors import Actor
from controlplane.access.hashing import check_readable, hashed
from controlplane.access.models import ApiToken, User
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.access.services import revoke_token
from controlplane.access.sign_in import SignInRefused, check_sign_in
from controlplane.audit.services import record
from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Ended:
    """What `end_access` ended: whether the sessions, and how many tokens that still worked."""

    person: User
    sessions: bool
    tokens: int


@requires(Action.CHANGE_OWN_ACCESS)
def change_password(
    *, actor: Actor, current: str, new: str, end_tokens: bool, address: str, now: datetime
) -> User:
    """Gives the person another password. Every session ends; so do their tokens when `end_tokens`.

    The caller keeps its own session by `update_session_auth_hash`. A wrong current password is a try to sign in, and is
    counted like one. Raises Forbidden for a token (it may be stolen), SignInRefused (field `current`), InvalidInput
    (field `new`, every reason in `extra["reasons"]`), TooBusy, Conflict when the password was changed meanwhile.
    """
    person = actor.user
    if person is None or actor.kind != "person":
        raise Forbidden("A password is changed by the person alone.", fix="Sign in on the pages.")
    if not current:
        raise InvalidInput("Write the password that you have now.", field="current")
    _check_new(new, current, person)
    try:
        person = check_sign_in(username=person.username, password=current, address=address, now=now)
    except SignInRefused as refused:
        if not refused.wait_seconds:
            refused.message = "That is not the password you have now."
        refused.field = "current"
        raise
    stored = hashed(new)
    with transaction.atomic():
        if not User.objects.filter(pk=person.pk, password=person.password).update(password=stored):
            raise Conflict(
                "The password was changed meanwhile.", fix="Sign in again.", code="password-changed"
            )
        ended = _end_tokens(person, now) if end_tokens else 0
        _note(
            actor, "person.password-changed", person, now, after={"sessions": "ended", "tokens_ended": ended}
        )
    person.refresh_from_db()
    return person


@requires(Action.CHANGE_OWN_ACCESS)
def end_access(*, username: str, sessions: bool, tokens: bool, actor: Actor, now: datetime) -> Ended:
    """Ends all sessions of a person, all their tokens, or both, at once. Ending what has ended changes nothing.

    One's own, or an administrator anybody's. Raises Forbidden (also for a name that does not exist, from who may not
    know), NotFound, InvalidInput when neither is asked for.
    """
    if actor.user is None or actor.user.username != username:
        actor.require(Action.MANAGE_ACCESS)
    if not sessions and not tokens:
        raise InvalidInput("Choose what to end: sessions, tokens or both.", field="sessions")
    with transaction.atomic():
        person = User.objects.select_for_update().filter(username=username).first()
        if person is None:
            raise NotFound(f"There is nobody called {username!r}.", code="person-not-found")
        if sessions:
            User.objects.filter(pk=person.pk).update(sessions_ended=F("sessions_ended") + 1)
        ended = _end_tokens(person, now) if tokens else 0
        what = {"sessions": "ended"} if sessions else {}
        _note(actor, "person.access-ended", person, now, after={**what, "tokens_ended": ended})
    person.refresh_from_db()
    return Ended(person, sessions, ended)


@requires(Action.CHANGE_OWN_ACCESS)
def end_token(*, token_id: int, actor: Actor, now: datetime) -> ApiToken:
    """Ends one token at once. One's own, or an administrator anybody's; an ended one stays as it is.

    Raises Forbidden, which says nothing of whether somebody else has such a token; NotFound.
    """
    token = find_token_to_end(token_id=token_id, actor=actor)
    if token.revoked_at is not None:
        return token
    with transaction.atomic():
        ended = revoke_token(token=token, now=now)
        _note(actor, "token.ended", token.user, now, after={"token": token.name})
    return ended


def find_token_to_end(*, token_id: int, actor: Actor) -> ApiToken:
    """A token that `actor` may end, with its owner. Raises like `end_token`."""
    owned = ApiToken.objects.select_related("user").filter(pk=token_id)
    token = owned.filter(user=actor.user).first() if actor.user is not None else None
    if token is None:
        actor.require(Action.MANAGE_ACCESS)
        token = owned.first()
    if token is None:
        raise NotFound("There is no such token.", code="token-not-found")
    return token


def _check_new(new: str, current: str, person: User) -> None:
    try:
        check_readable(new)
        if new == current:
            raise InvalidInput("That is the password you have now.", field="new", fix="Choose another one.")
        validate_password(new, person)
    except ValidationError as error:
        reasons = [str(reason) for reason in error.messages]
        raise InvalidInput(" ".join(reasons), field="new", extra={"reasons": reasons}) from None
    except InvalidInput as error:
        error.field = "new"
        raise


def _end_tokens(person: User, now: datetime) -> int:
    live = Q(expires_at=None) | Q(expires_at__gt=now)
    return ApiToken.objects.filter(live, user=person, revoked_at=None).update(revoked_at=now)


def _note(actor: Actor, action: str, person: User, now: datetime, *, after: dict[str, object]) -> None:
    record(
        at=now,
        actor=actor.name,
        actor_kind=actor.kind,
        action=action,
        object_kind="person",
        object_id=person.username,
        after=after,
        request_id=actor.request_id,
    )
