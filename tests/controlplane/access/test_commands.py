"""The operator's commands for people and tokens."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from controlplane.access.services import ensure_user, find_token

pytestmark = pytest.mark.django_db


def made() -> str:
    ensure_user(username="rosa", role="release_manager", password="a-long-password-1")
    out = StringIO()
    call_command("create_token", "rosa", "ci", "--scopes", "read,rollouts:write", stdout=out)
    return out.getvalue().strip()


def test_create_token__for_a_person__prints_a_secret_that_works() -> None:
    token = find_token(made(), timezone.now())
    assert token is not None
    assert token.scopes == ["read", "rollouts:write"]


def test_create_token__nobody_of_that_name__says_so() -> None:
    with pytest.raises(CommandError, match="nobody called 'nora'"):
        call_command("create_token", "nora", "ci")


def test_revoke_token__its_secret__works_no_more() -> None:
    secret = made()
    call_command("revoke_token", "rosa", "ci", stdout=StringIO())
    assert find_token(secret, timezone.now()) is None


def test_revoke_token__unknown_name__names_those_that_exist() -> None:
    made()
    with pytest.raises(CommandError, match="only: ci"):
        call_command("revoke_token", "rosa", "other")
