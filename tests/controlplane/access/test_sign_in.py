"""Signing in, and the brake on guessing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.access.models import FailedSignIn, User
from controlplane.access.services import ensure_user
from controlplane.access.sign_in import TRIES_A_NAME, TRIES_AN_ADDRESS, SignInRefused, check_sign_in

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)


@pytest.fixture(autouse=True)
def ana() -> User:
    return ensure_user(username="ana", role="viewer", password="the right one")


def attempt(password: str, *, name: str = "ana", address: str = "10.0.0.1", after: float = 0) -> User:
    return check_sign_in(
        username=name, password=password, address=address, now=NOW + timedelta(seconds=after)
    )


def refused(password: str, **where: object) -> SignInRefused:
    with pytest.raises(SignInRefused) as caught:
        attempt(password, **where)  # type: ignore[arg-type]
    return caught.value


def test_sign_in__right_password__gives_the_person(ana: User) -> None:
    assert attempt("the right one") == ana


def test_sign_in__wrong_password__does_not_say_which_part_is_wrong() -> None:
    assert refused("wrong").message == refused("wrong", name="nobody").message
    assert refused("wrong").wait_seconds == 0


def test_sign_in__too_many_tries__refuses_even_the_right_password_for_a_while() -> None:
    for second in range(TRIES_A_NAME):
        refused("wrong", after=second)
    stopped = refused("the right one", after=10)
    assert stopped.wait_seconds == 290
    assert stopped.message == "Too many tries. Try again in 5 minutes."
    assert attempt("the right one", after=301)


def test_sign_in__too_many_tries_elsewhere__does_not_lock_the_person_out(ana: User) -> None:
    for _ in range(TRIES_A_NAME):
        refused("wrong", address="203.0.113.9")
    assert attempt("the right one", address="10.0.0.1") == ana


def test_sign_in__many_names_from_one_address__is_braked() -> None:
    for number in range(TRIES_AN_ADDRESS):
        refused("wrong", name=f"name-{number}")
    assert refused("the right one").wait_seconds > 0


def test_sign_in__success__forgets_the_failures() -> None:
    refused("wrong")
    attempt("the right one")
    assert not FailedSignIn.objects.exists()


def test_sign_in__switched_off__is_refused() -> None:
    User.objects.update(is_active=False)
    assert refused("the right one").wait_seconds == 0


def test_sign_in__old_failures__are_thrown_away() -> None:
    refused("wrong")
    refused("wrong", after=301)
    assert FailedSignIn.objects.count() == 1
