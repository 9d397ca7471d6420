"""One URL, one page: whole, as a part for htmx, or nothing when nothing changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from controlplane.access.roles import Role
from controlplane.web.live import newest_id, publish
from tests import factories

pytestmark = pytest.mark.django_db
HTMX = {"hx-request": "true"}


@pytest.fixture
def mira(client: Client) -> Client:
    client.force_login(factories.person())
    return client


def test_page__plain_request__is_whole(mira: Client) -> None:
    text = mira.get("/rollouts").content.decode()
    assert text.startswith("<!doctype html>")
    assert "hx-partial" not in text


def test_page__htmx__is_its_parts_and_varies(mira: Client) -> None:
    response = mira.get("/rollouts", headers=HTMX)
    text = response.content.decode()
    assert "<html" not in text
    assert '<hx-partial hx-target="#rollout-list"' in text
    assert "HX-Request" in response.headers["Vary"]


@pytest.mark.parametrize("header", ["hx-boosted", "hx-history-restore-request"])
def test_page__boosted_or_restored__is_whole(mira: Client, header: str) -> None:
    text = mira.get("/rollouts", headers={**HTMX, header: "true"}).content.decode()
    assert text.startswith("<!doctype html>")


def test_fragment__nothing_changed__is_204(mira: Client) -> None:
    first = mira.get("/rollouts", headers=HTMX)
    again = mira.get("/rollouts", headers={**HTMX, "hx-ptag": first.headers["HX-PTag"]})
    assert again.status_code == 204
    assert again.content == b""


def test_fragment__something_changed__is_sent(mira: Client) -> None:
    first = mira.get("/rollouts", headers=HTMX)
    factories.rollout_pending()
    again = mira.get("/rollouts", headers={**HTMX, "hx-ptag": first.headers["HX-PTag"]})
    assert again.status_code == 200
    assert again.headers["HX-PTag"] != first.headers["HX-PTag"]


def test_search__words__finds_endpoints_models_and_rollouts(mira: Client) -> None:
    rollout = factories.rollout_pending()
    text = mira.get("/search", {"q": "tri"}, headers=HTMX).content.decode()
    assert 'href="/endpoints/triage"' in text
    assert 'href="/models/triage"' in text
    assert f'href="/rollouts/{rollout.pk}"' in text


def test_search__number__finds_the_rollout(mira: Client) -> None:
    rollout = factories.rollout_pending()
    assert f'href="/rollouts/{rollout.pk}"' in mira.get("/search", {"q": f"#{rollout.pk}"}).content.decode()


def test_search__more_than_are_listed__says_how_many_of_what(mira: Client) -> None:
    first = factories.endpoint("chat-0")
    for number in range(1, 9):
        factories.rollout_pending(of=factories.endpoint(f"chat-{number}", of=first.model))
    text = mira.get("/search", {"q": "chat"}).content.decode()
    assert text.count('href="/endpoints/') == 6
    assert "Not listed: 3 endpoints, 2 rollouts. Type more of the name." in text


def called_endpoint(name: str) -> object:
    return factories.endpoint(name, of=factories.model("model"))


@pytest.mark.parametrize(
    ("make", "address"),
    [
        (called_endpoint, "/endpoints/{}"),
        (factories.model, "/models/{}"),
        (factories.golden_set, "/golden-sets/{}"),
    ],
)
def test_search__whole_name_late_in_the_alphabet__is_found_first(
    mira: Client, make: Callable[[str], object], address: str
) -> None:
    for letter in "abcdefgh":
        make(f"{letter}-zebra")
    make("zebra")
    links = re.findall(r'href="([^"]+)"', mira.get("/search", {"q": "zebra"}).content.decode())
    assert next(link for link in links if link.startswith(address.format(""))) == address.format("zebra")


def test_search__more_to_find__costs_the_same(mira: Client) -> None:
    first = factories.endpoint("chat-0")
    factories.rollout_pending(of=first)
    costs = []
    for number in range(1, 3):
        with CaptureQueriesContext(connection) as captured:
            mira.get("/search", {"q": "chat"}, headers=HTMX)
        costs.append(len(captured))
        for more in range(4):
            factories.rollout_pending(of=factories.endpoint(f"chat-{number}{more}", of=first.model))
    assert costs[0] == costs[1] <= 8


def test_search__nothing_like_it__says_so(mira: Client) -> None:
    assert "Nothing is called “&lt;x&gt;”." in mira.get("/search", {"q": "<x>"}).content.decode()


def test_banners__no_stop__are_empty(mira: Client) -> None:
    assert mira.get("/banners", headers=HTMX).content.decode().strip() == ""


# --- the stream ---------------------------------------------------------------------------------------------


def test_events__not_signed_in__is_forbidden(client: Client) -> None:
    assert client.get("/events?topics=overview").status_code == 403


@pytest.mark.parametrize("topics", ["", ",", ",".join(f"t{i}" for i in range(21)), "x" * 121])
def test_events__bad_topics__are_refused(mira: Client, topics: str) -> None:
    assert mira.get("/events", {"topics": topics}).status_code == 400


@pytest.mark.django_db(transaction=True)
def test_events__hint_published__arrives_with_name_id_and_topic_only() -> None:
    person = factories.person(Role.VIEWER)
    publish("overview", "rollout:9", now=factories.right_now())

    async def first_event() -> tuple[str, str]:
        client = AsyncClient()
        await client.aforce_login(person)
        response = await client.get("/events?topics=rollout:9&after=0")
        received = b""
        async with asyncio.timeout(20):
            async for chunk in response.streaming_content:  # type: ignore[attr-defined]
                received += chunk
                if b"data:" in received:
                    break
        return response.headers["Content-Type"], received.decode()

    kind, text = asyncio.run(first_event())
    assert kind == "text/event-stream"
    lines = [line for line in text.splitlines() if line and not line.startswith(":")]
    assert lines == [f"id: {newest_id()}", "event: changed", "data: rollout:9"]
