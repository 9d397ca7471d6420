"""Lists in which one row is odd: it is named with what is wrong, and all others are shown."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from rollouts.models import Arm, Endpoint, Rollout
from rollouts.ui.parts.odd_rows import or_odd
from tests import factories

pytestmark = pytest.mark.django_db
ODD_ROWS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "outage of an endpoint": (Endpoint, {"outage": ["odd"]}),
    "splits of an endpoint": (Endpoint, {"desired_shares": 7, "observed_shares": 7}),
    "plan of a rollout": (Rollout, {"plan": ["odd"]}),
    "phase that is not known": (Rollout, {"phase": "baking"}),
    "pause that is not known": (Rollout, {"phase": "paused", "pause_reason": "approval"}),
    "own policy of a rollout": (Rollout, {"own_policy": ["odd"], "cause": "gate:errors"}),
    "counts of an arm": (Arm, {"outcomes": ["odd"], "completions": "odd"}),
}


@pytest.fixture(params=ODD_ROWS, ids=str)
def odd(request: pytest.FixtureRequest) -> Rollout:
    """Three endpoints with a rollout each; of the second one something is odd."""
    made = [
        factories.rollout_progressing(of=factories.endpoint(name)) for name in ("first", "second", "third")
    ]
    kind, values = ODD_ROWS[request.param]
    paths = {Endpoint: "name", Rollout: "endpoint__name", Arm: "rollout__endpoint__name"}
    assert kind.objects.filter(**{paths[kind]: "second"}).update(**values)
    return made[1]


@pytest.mark.parametrize("address", ["/", "/endpoints", "/rollouts"])
def test_page_of_a_list__one_row_is_odd__all_are_shown(odd: Rollout, viewer: Client, address: str) -> None:
    answer = viewer.get(address)
    assert answer.status_code == 200
    text = answer.content.decode()
    assert all(name in text for name in ("first", "second", "third"))


@pytest.mark.parametrize("address", ["/api/v1/endpoints", "/api/v1/rollouts"])
def test_list_of_the_api__one_row_is_odd__the_others_are_there_and_it_is_named(
    odd: Rollout, viewer: Client, address: str
) -> None:
    answer = viewer.get(address)
    assert answer.status_code == 200
    page = answer.json()
    names = [one["name"] if "name" in one else one["endpoint"] for one in page["items"]]
    assert {"first", "third"} <= set(names)
    if "second" not in names:
        (said,) = page["unreadable"]
        assert "second" in said or f"#{odd.pk}" in said


def test_or_odd__the_database_fails__is_no_fault_of_the_row() -> None:
    def fails() -> str:
        raise OperationalError("away")

    with pytest.raises(OperationalError):
        or_odd("rollout #7", fails, str)
