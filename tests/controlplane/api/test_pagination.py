from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.access.models import User
from tests.controlplane.api.conftest import ClientOf

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.controlplane.api.probe_urls")]


def cursor(inside: str) -> str:
    """A cursor that holds this: nobody signs them, so anybody can make one."""
    return quote(b64encode(inside.encode()).decode())


def test_pages__followed_to_the_end__hold_everything_once_newest_first(client_of: ClientOf) -> None:
    client = client_of()
    for number in range(6):
        User.objects.create(username=f"p{number}")
    names, url = [], "/api/v1/people?limit=3"

    while url:
        page = client.get(url).json()
        names += [person["username"] for person in page["items"]]
        url = page["next"]

    assert names == ["p5", "p4", "p3", "p2", "p1", "p0", "engineer"]


def test_pages__row_added_meanwhile__moves_nothing(client_of: ClientOf) -> None:
    client = client_of()
    for number in range(4):
        User.objects.create(username=f"p{number}")
    first = client.get("/api/v1/people?limit=2").json()
    User.objects.create(username="late")

    second = client.get(first["next"]).json()

    assert [person["username"] for person in second["items"]] == ["p1", "p0"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=" + "9" * 5_000, "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=é", "cursor"),
        ("cursor=" + "a" * 4_000, "cursor"),
        ("cursor=" + cursor("p=x"), "cursor"),
        ("cursor=" + cursor("p=%00"), "cursor"),
        ("cursor=" + cursor("p=" + "9" * 400), "cursor"),
        ("cursor=" + cursor("p=1&r=x"), "cursor"),
    ],
)
def test_pages__nonsense__is_422_naming_the_parameter(query: str, field: str, client_of: ClientOf) -> None:
    response = client_of().get(f"/api/v1/people?{query}")

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


def test_pages__more_rows__cost_no_more_queries(client_of: ClientOf) -> None:
    client = client_of()
    client.get("/api/v1/people")
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get("/api/v1/people")
    User.objects.bulk_create(User(username=f"p{number}") for number in range(100))

    with CaptureQueriesContext(connection) as many:
        client.get("/api/v1/people")

    assert len(many) == len(few)


@pytest.mark.parametrize("inside", ["p=%00", "p=a%00b"])
def test_pages__in_the_order_of_names__refuse_a_cursor_that_no_database_can_compare_with(
    client_of: ClientOf, inside: str
) -> None:
    response = client_of().get(f"/api/v1/endpoints?cursor={cursor(inside)}")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "cursor")
