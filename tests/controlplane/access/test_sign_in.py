"""Signing in, and the brake on guessing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth import hashers
from django.db import connection

from controlplane.access import hashing, sign_in
from controlplane.access.hashing import LONGEST_PASSWORD, MOST_AT_ONCE, TooBusy
from controlplane.access.models import KnownAddress, SignInTry, User
from controlplane.access.services import ensure_user
from controlplane.access.sign_in import (
    FREE_TRIES,
    LONGEST_PAUSE,
    TRIES_A_NAME,
    TRIES_AN_ADDRESS,
    SignInRefused,
    check_sign_in,
)
from controlplane.kernel.errors import InvalidInput
from tests.controlplane.access.at_once import PASSWORD, TRIES, sign_in_at_once

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def ana(request: pytest.FixtureRequest) -> User:
    request.getfixturevalue("transactional_db" if "at_once" in request.node.name else "db")
    return ensure_user(username="ana", role="viewer", password=PASSWORD)


def attempt(password: str, *, name: str = "ana", address: str = "10.0.0.1", after: float = 0) -> User:
    return check_sign_in(
        username=name, password=password, address=address, now=NOW + timedelta(seconds=after)
    )


def refused(password: str, **where: object) -> SignInRefused:
    with pytest.raises(SignInRefused) as caught:
        attempt(password, **where)  # type: ignore[arg-type]
    return caught.value


def guess_from_elsewhere(times: int, *, after: float = 0) -> None:
    """A stranger with many addresses."""
    for number in range(times):
        refused("wrong", address=f"203.0.{number // 250}.{number % 250}", after=after)


def test_sign_in__right_password__gives_the_person(ana: User) -> None:
    assert attempt(PASSWORD) == ana


def test_sign_in__wrong_password__does_not_say_which_part_is_wrong() -> None:
    assert refused("wrong").message == refused("wrong", name="nobody").message
    assert refused("wrong").wait_seconds == 0


def test_sign_in__switched_off__is_refused() -> None:
    User.objects.update(is_active=False)
    assert refused(PASSWORD).wait_seconds == 0


# --- a name from one address ----------------------------------------------------------------------------------------


def test_sign_in__too_many_tries__refuses_even_the_right_password_for_a_while() -> None:
    for second in range(TRIES_A_NAME):
        refused("wrong", after=second)
    stopped = refused(PASSWORD, after=10)
    assert stopped.wait_seconds == 290
    assert stopped.message == "Too many tries. Try again in 5 minutes."
    assert attempt(PASSWORD, after=301)


def test_sign_in__refused_tries__make_the_wait_no_longer() -> None:
    for _ in range(TRIES_A_NAME + 20):
        refused("wrong")
    assert attempt(PASSWORD, after=301)


def test_sign_in__addresses_of_one_ipv6_network__are_one() -> None:
    for number in range(TRIES_A_NAME):
        refused("wrong", address=f"2001:db8:0:7::{number}")
    assert refused(PASSWORD, address="2001:db8:0:7:ffff::1").wait_seconds > 0
    assert attempt(PASSWORD, address="2001:db8:0:8::1")


def test_sign_in__name_in_other_letters__is_the_same_name() -> None:
    for name in ("ana", "Ana", " ANA ", "aNa", "ana "):
        refused("wrong", name=name)
    assert refused(PASSWORD).wait_seconds > 0


def test_sign_in__success__forgets_the_failures() -> None:
    refused("wrong")
    attempt(PASSWORD)
    assert not SignInTry.objects.exists()


# --- an address ----------------------------------------------------------------------------------------------------


def test_sign_in__many_names_from_one_address__is_braked() -> None:
    for number in range(TRIES_AN_ADDRESS):
        refused("wrong", name=f"name-{number}")
    assert refused(PASSWORD).wait_seconds > 0
    assert attempt(PASSWORD, address="10.0.0.2")


# --- a name from everywhere ----------------------------------------------------------------------------------------


def test_sign_in__guesses_from_many_addresses__are_paused_longer_and_longer() -> None:
    guess_from_elsewhere(FREE_TRIES)
    pauses = []
    after = 0.0
    for number in range(33):
        wait = refused(PASSWORD, address=f"198.51.100.{number}", after=after).wait_seconds
        pauses.append(wait)
        after += wait
        refused("wrong", address=f"198.51.100.{number}", after=after)
    assert pauses[0] == 5
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE.total_seconds()


def test_sign_in__somebody_guesses_from_elsewhere__the_usual_address_stays_open(ana: User) -> None:
    attempt(PASSWORD, address="10.0.0.1")
    guess_from_elsewhere(FREE_TRIES)
    assert refused(PASSWORD, address="10.0.0.2").wait_seconds > 0
    assert attempt(PASSWORD, address="10.0.0.1") == ana


def test_sign_in__somebody_guesses_from_elsewhere__a_new_address_is_open_after_the_pause(ana: User) -> None:
    guess_from_elsewhere(FREE_TRIES)
    wait = refused(PASSWORD, address="10.0.0.2").wait_seconds
    assert attempt(PASSWORD, address="10.0.0.2", after=wait) == ana


def test_sign_in__known_addresses__are_not_kept_for_ever() -> None:
    attempt(PASSWORD, address="10.0.0.1")
    KnownAddress.objects.update(seen_at=NOW - sign_in.KNOWN_FOR)
    guess_from_elsewhere(FREE_TRIES)
    assert refused(PASSWORD, address="10.0.0.1").wait_seconds > 0


def test_sign_in__many_addresses_of_one_person__the_newest_are_kept() -> None:
    for number in range(sign_in.MOST_KNOWN + 3):
        attempt(PASSWORD, address=f"10.0.1.{number}", after=number)
    assert KnownAddress.objects.count() == sign_in.MOST_KNOWN
    assert not KnownAddress.objects.filter(address="10.0.1.0").exists()


# --- time -----------------------------------------------------------------------------------------------------------


def test_sign_in__old_failures__are_thrown_away() -> None:
    refused("wrong")
    refused("wrong", after=3601)
    assert SignInTry.objects.count() == 1


def test_sign_in__clock_was_set_back__tries_in_the_future_do_not_count() -> None:
    for _ in range(TRIES_A_NAME):
        refused("wrong", after=3600)
    assert attempt(PASSWORD)


# --- hashing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every password that was hashed."""
    seen: list[str] = []
    hasher = type(hashers.get_hasher())
    encode = hasher.encode

    def noted(self: object, password: str, *args: object, **kwargs: object) -> str:
        seen.append(password)
        return str(encode(self, password, *args, **kwargs))  # type: ignore[arg-type]

    monkeypatch.setattr(hasher, "encode", noted)
    return seen


@pytest.mark.parametrize("name", ["ana", "nobody", "off", "no-password"])
def test_sign_in__every_kind_of_name__costs_one_hash(name: str, hashes: list[str]) -> None:
    User.objects.create(username="off", password=User.objects.get().password, is_active=False)
    User.objects.create(username="no-password", password="!")
    refused("wrong", name=name)
    assert len(hashes) == 1


@pytest.mark.parametrize("password", ["x" * (LONGEST_PASSWORD + 1), "\ud800"])
def test_sign_in__password_not_worth_a_hash__is_refused_before_it(password: str, hashes: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        attempt(password)
    assert caught.value.field == "password"
    assert not hashes


@pytest.mark.parametrize("name", ["", "a\x00na", "ana\ud800", "a" * 151])
def test_sign_in__name_that_nobody_can_have__is_refused_like_a_wrong_one(name: str) -> None:
    assert refused(PASSWORD, name=name).message == "Name and password do not match."


def test_sign_in__as_many_hash_as_may__is_told_to_come_back_and_counts_as_no_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hashing, "WAIT_SECONDS", 0.01)
    for _ in range(MOST_AT_ONCE):
        assert hashing._gate.acquire(timeout=1)
    try:
        with pytest.raises(TooBusy) as caught:
            attempt(PASSWORD)
    finally:
        for _ in range(MOST_AT_ONCE):
            hashing._gate.release()
    assert caught.value.wait_seconds > 0
    assert not SignInTry.objects.exists()


def test_hashing__many_at_the_same_moment__never_more_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    now_hashing, most = 0, 0
    lock = threading.Lock()

    def slow(password: str) -> str:
        nonlocal now_hashing, most
        with lock:
            now_hashing += 1
            most = max(most, now_hashing)
        threading.Event().wait(0.01)
        with lock:
            now_hashing -= 1
        return "hash"

    monkeypatch.setattr(hashing, "make_password", slow)
    threads = [threading.Thread(target=hashing.hashed, args=("a password",)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == MOST_AT_ONCE


# --- at the same moment -----------------------------------------------------------------------------------------------


def test_sign_in__at_once__only_so_many_are_checked(tmp_path: Path) -> None:
    """Forty wrong passwords at the same moment. On SQLite in a process of its own: a file, as the demo has it."""
    if connection.vendor == "sqlite":
        done = subprocess.run(
            [sys.executable, "-m", "tests.controlplane.access.at_once"],
            cwd=ROOT, env={**os.environ, "HEADGATE_RUN_DIR": str(tmp_path), "HEADGATE_DATABASE_URL": ""},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        ends = json.loads(done.stdout.splitlines()[-1])
    else:
        ends = sign_in_at_once()
    assert sum(ends.values()) - ends.get("hashed", 0) == TRIES
    assert ends.get("in", 0) == 0
    assert ends.get("hashed", 0) <= TRIES_A_NAME
