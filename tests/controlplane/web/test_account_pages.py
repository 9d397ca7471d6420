"""Pages about access: one's own, and everybody's for administrators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.test import Client, RequestFactory

from controlplane.access.models import ApiToken, User
from controlplane.access.roles import Role
from controlplane.access.services import Scope, create_token
from controlplane.web import views
from controlplane.web.account import TOKENS_SHOWN
from controlplane.web.live import HEARTBEAT_SECONDS, Hint
from tests import factories

pytestmark = pytest.mark.django_db
NEW = "a staple for the horse"
FORM = {"current": factories.PASSWORD, "new": NEW, "again": NEW, "end_tokens": "on"}


@pytest.fixture
def mira(db: None) -> User:
    return factories.person(username="mira")


def browser(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def token(person: User) -> ApiToken:
    return create_token(user=person, name="ci", scopes=[Scope.READ], expires_at=None, now=datetime.now(UTC))[
        0
    ]


def is_signed_in(client: Client) -> bool:
    return client.get("/account").status_code == 200


def test_account__shows_name_role_and_tokens_without_secrets(mira: User) -> None:
    made = token(mira)
    text = browser(mira).get("/account").content.decode()
    assert "mira" in text
    assert made.prefix in text
    assert made.secret_sha256 not in text
    assert '<input type="checkbox" name="end_tokens" checked>' in text


def test_password__changed__ends_the_other_sessions_and_the_tokens_and_keeps_this_one(mira: User) -> None:
    here, elsewhere, made = browser(mira), browser(mira), token(mira)
    response = here.post("/account/password", FORM)
    assert (response.status_code, response.headers["Location"]) == (303, "/account?done=password")
    assert is_signed_in(here)
    assert not is_signed_in(elsewhere)
    made.refresh_from_db()
    assert made.revoked_at is not None


def test_password__box_not_ticked__keeps_the_tokens(mira: User) -> None:
    made = token(mira)
    browser(mira).post("/account/password", {k: v for k, v in FORM.items() if k != "end_tokens"})
    made.refresh_from_db()
    assert made.revoked_at is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"current": "wrong"}, "That is not the password you have now."),
        ({"again": "other"}, "The two new passwords differ."),
        ({"new": "short", "again": "short"}, "This password is too short."),
        ({"new": "x" * 2_000, "again": "x" * 2_000}, "at most 1,000 characters"),
    ],
)
def test_password__mistake__is_said_at_the_field_and_repeats_no_password(
    mira: User, changes: dict[str, str], words: str
) -> None:
    response = browser(mira).post("/account/password", FORM | changes)
    text = response.content.decode()
    assert response.status_code == 400
    assert words in text
    assert text.count('aria-invalid="true"') == 1
    assert NEW not in text
    assert factories.PASSWORD not in text


def test_password__guessed__is_429_with_retry_after(mira: User) -> None:
    here = browser(mira)
    for _ in range(5):
        here.post("/account/password", FORM | {"current": "wrong"})
    response = here.post("/account/password", FORM)
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0


def test_sign_out_everywhere__ends_every_session(mira: User) -> None:
    here, elsewhere = browser(mira), browser(mira)
    assert (
        "Every session of yours ends, this one too."
        in here.get("/account/sign-out-everywhere").content.decode()
    )
    assert here.post("/account/sign-out-everywhere").headers["Location"] == "/sign-in"
    assert not is_signed_in(here)
    assert not is_signed_in(elsewhere)
    assert is_signed_in(browser(User.objects.get(pk=mira.pk)))


def test_sign_out_everywhere__tokens_kept_unless_asked(mira: User) -> None:
    made = token(mira)
    browser(mira).post("/account/sign-out-everywhere")
    made.refresh_from_db()
    assert made.revoked_at is None
    browser(User.objects.get(pk=mira.pk)).post("/account/sign-out-everywhere", {"tokens": "on"})
    made.refresh_from_db()
    assert made.revoked_at is not None


def test_sign_out_everywhere__after_the_secret_key_was_changed__holds_for_older_sessions_too(
    mira: User, settings: pytest.FixtureRequest
) -> None:
    """A key that is only read any more must not let back in what was ended."""
    older, kept = browser(mira), browser(factories.person(username="jonas"))
    browser(mira).post("/account/sign-out-everywhere")
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]  # type: ignore[attr-defined]
    settings.SECRET_KEY = "another-one" * 10  # type: ignore[attr-defined]
    assert not is_signed_in(older)
    assert is_signed_in(kept)


def test_token__ended_on_the_page__is_asked_first(mira: User) -> None:
    made = token(mira)
    asked = browser(mira).get(f"/account/tokens/{made.pk}/end")
    assert "It was never used." in asked.content.decode()
    made.refresh_from_db()
    assert made.revoked_at is None
    assert browser(mira).post(f"/account/tokens/{made.pk}/end").status_code == 303
    made.refresh_from_db()
    assert made.revoked_at is not None


def test_token__of_somebody_else__is_the_same_page_as_one_that_does_not_exist(mira: User) -> None:
    made = token(mira)
    other = browser(factories.person(username="jonas"))
    for number in (made.pk, 999_999):
        assert other.get(f"/account/tokens/{number}/end").status_code == 403
        assert other.post(f"/account/tokens/{number}/end").status_code == 403
    made.refresh_from_db()
    assert made.revoked_at is None


class Session:
    """A page that listens: what its stream says while the session holds for the first `holds` checks.

    hints   what happens meanwhile, each `apart` seconds after the one before; None is a heartbeat
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, hints: list[Hint | None], *, apart: float, holds: int
    ) -> None:
        self.checks, now = 0, [100.0]

        class Feed:
            async def listen(self, topics: list[str], *, last_id: int | None) -> AsyncIterator[Hint | None]:
                for hint in hints:
                    now[0] += apart
                    yield hint

        async def now_known(request: HttpRequest) -> object:
            self.checks += 1
            return User() if self.checks <= holds else AnonymousUser()

        monkeypatch.setattr("controlplane.web.live.feed", Feed)
        monkeypatch.setattr(views, "aget_user", now_known)
        monkeypatch.setattr("controlplane.web.views.monotonic", lambda: now[0])

    def hears(self) -> list[bytes]:
        async def all_of() -> list[bytes]:
            request = RequestFactory().get("/events")
            return [part async for part in views._stream(request, ["overview"], None)]

        return asyncio.run(all_of())


@pytest.mark.parametrize(("holds", "heard"), [(2, [b": alive\n\n"] * 2), (1, [b": alive\n\n"]), (0, [])])
def test_stream__sessions_ended_meanwhile__ends_at_the_next_heartbeat(
    monkeypatch: pytest.MonkeyPatch, holds: int, heard: list[bytes]
) -> None:
    """A page that is open listens for minutes: it is asked again whether its session still holds."""
    assert Session(monkeypatch, [None, None], apart=HEARTBEAT_SECONDS, holds=holds).hears() == heard


def test_stream__sessions_ended_while_much_happens__ends_as_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who watches a busy rollout gets hints and no heartbeats."""
    busy: list[Hint | None] = [Hint(number, "overview") for number in range(1, 60)]
    session = Session(monkeypatch, busy, apart=1.0, holds=1)
    heard = session.hears()
    assert (len(heard), session.checks) == (2 * HEARTBEAT_SECONDS - 1, 2)
    assert heard[0] == b"id: 1\nevent: changed\ndata: overview\n\n"


# --- administrators -------------------------------------------------------------------------------------------------


def test_people__by_an_administrator__are_listed_with_live_tokens(mira: User) -> None:
    token(mira)
    text = browser(factories.person(Role.ADMINISTRATOR)).get("/people").content.decode()
    assert 'href="/people/mira/end-access"' in text
    assert '<td role="cell" class="r num" data-l="Live tokens">1</td>' in text


def test_people__many__come_in_pages() -> None:
    User.objects.bulk_create([User(username=f"person-{number:03}") for number in range(60)])
    admin = browser(factories.person(Role.ADMINISTRATOR))
    first = admin.get("/people").content.decode()
    assert "person-049" not in first
    assert "person-059" in admin.get("/people?after=person-049").content.decode()


def test_end_access__by_an_administrator__signs_the_person_out_and_ends_the_tokens(mira: User) -> None:
    theirs, made = browser(mira), token(mira)
    admin = browser(factories.person(Role.ADMINISTRATOR))
    assert "1 token acts for mira" in admin.get("/people/mira/end-access").content.decode()
    done = admin.post("/people/mira/end-access", {"sessions": "on", "tokens": "on"})
    assert done.headers["Location"] == "/people?done=mira"
    assert not is_signed_in(theirs)
    made.refresh_from_db()
    assert made.revoked_at is not None
    assert is_signed_in(admin)


def test_end_access__name_of_any_letters__goes_back_to_a_whole_address() -> None:
    factories.person(username="ren\u00e9&done=x")
    admin = browser(factories.person(Role.ADMINISTRATOR))
    done = admin.post("/people/ren\u00e9&done=x/end-access", {"sessions": "on"})
    assert done.headers["Location"] == "/people?done=ren%C3%A9%26done%3Dx"


def test_account__more_tokens_than_are_shown__those_that_work_come_first_and_the_rest_is_counted(
    mira: User,
) -> None:
    live = token(mira)
    at = datetime(2090, 1, 1, tzinfo=UTC)  # made after the one that works
    ApiToken.objects.bulk_create(
        ApiToken(user=mira, name=f"old-{n}", secret_sha256=f"{n:064}", created_at=at, revoked_at=at)
        for n in range(TOKENS_SHOWN + 1)
    )
    text = browser(mira).get("/account").content.decode()
    assert f"/account/tokens/{live.pk}/end" in text
    assert "2 older ones are not shown" in text


def test_end_access__nothing_ticked__says_so(mira: User) -> None:
    response = browser(factories.person(Role.ADMINISTRATOR)).post("/people/mira/end-access")
    assert response.status_code == 400
    assert "Choose what to end" in response.content.decode()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ENGINEER, Role.RELEASE_MANAGER])
@pytest.mark.parametrize("path", ["/people", "/people/mira/end-access", "/people/nobody/end-access"])
def test_people__below_administrator__are_forbidden_whoever_is_asked_about(
    mira: User, role: Role, path: str
) -> None:
    client = browser(factories.person(role, username="asker"))
    assert client.get(path).status_code == 403
    if path != "/people":
        assert client.post(path, {"sessions": "on"}).status_code == 403


def test_pages__not_signed_in__lead_to_the_door(client: Client) -> None:
    for path in ("/account", "/people", "/account/sign-out-everywhere"):
        assert client.get(path).headers["Location"].startswith(settings.LOGIN_URL.join(["/", "?"]))
