"""An endpoint whose turns of the loop fail: it is said wherever that endpoint is shown."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
WORDS = "ValueError: it is odd"


@pytest.mark.parametrize("fails", [True, False])
def test_pages_and_api__turns_of_an_endpoint_fail__say_why(viewer: Client, fails: bool) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    other = factories.endpoint("other", of=rollout.endpoint.model, now=NOW)
    factories.turns_fail(rollout.endpoint if fails else other, since=NOW - timedelta(minutes=2))
    for address in ("/endpoints/triage", f"/rollouts/{rollout.pk}"):
        assert (WORDS in viewer.get(address).content.decode()) is fails, address
    assert viewer.get("/api/v1/endpoints/triage").json()["turn_problem"] == (WORDS if fails else None)


def test_overview__turns_of_two_endpoints_fail__names_both(viewer: Client) -> None:
    first = factories.endpoint("first", now=NOW)
    for endpoint in (first, factories.endpoint("second", of=first.model, now=NOW)):
        factories.turns_fail(endpoint, since=NOW - timedelta(minutes=2))
    text = viewer.get("/").content.decode()
    assert "first: the loop cannot work on it" in text
    assert "second: the loop cannot work on it" in text
