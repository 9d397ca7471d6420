"""Signed-in browsers of each role."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from controlplane.access.roles import Role
from tests import factories

SignIn = Callable[[Role], Client]
HTMX = {"hx-request": "true"}


@pytest.fixture
def sign_in() -> SignIn:
    def make(role: Role) -> Client:
        client = Client()
        client.force_login(factories.person(role))
        return client

    return make


@pytest.fixture
def viewer(sign_in: SignIn) -> Client:
    return sign_in(Role.VIEWER)


@pytest.fixture
def engineer(sign_in: SignIn) -> Client:
    return sign_in(Role.ENGINEER)


@pytest.fixture
def manager(sign_in: SignIn) -> Client:
    return sign_in(Role.RELEASE_MANAGER)
