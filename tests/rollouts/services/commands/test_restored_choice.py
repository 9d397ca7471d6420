"""What a release manager chooses for an endpoint whose database is an older copy: checked here, carried out by the
loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound, Refused
from rollouts.domain.restored import Restored, RestoredState
from rollouts.models import Effect, Endpoint, HistoryEvent
from rollouts.services.commands.restored_choice import choose_after_restore
from tests import factories
from tests.factories.endpoints import held_after_restore

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
SERVES = "triage-v9-abcdef"


@pytest.fixture
def held() -> Endpoint:
    return held_after_restore(factories.endpoint(now=NOW))


def choose(choice: str, role: Role = Role.RELEASE_MANAGER, **options: Any) -> Endpoint:
    actor = Actor.person(factories.person(role))
    return choose_after_restore(
        **{"endpoint_name": "triage", "choice": choice, "actor": actor, "now": NOW, **options}
    )


def found(**changes: Any) -> None:
    """What was seen of the endpoint is otherwise."""
    endpoint = Endpoint.objects.get()
    endpoint.restored = replace(Restored.from_json(endpoint.restored), **changes).to_json()
    endpoint.save(update_fields=["restored"])


def choice_of(endpoint: Endpoint) -> str:
    return Restored.from_json(endpoint.restored).choice


def test_keep__without_a_name__is_what_has_most_of_the_traffic(held: Endpoint) -> None:
    found(served={"triage-v8-a": 4_000, SERVES: 6_000}, problem="it was not ready")
    endpoint = choose("keep", why="promoted at noon")
    assert (endpoint.restored_state, choice_of(endpoint)) == (RestoredState.KEEPING, SERVES)
    assert Restored.from_json(endpoint.restored).problem == "", "an old problem is none of the new choice"
    told = AuditEvent.objects.get(action="endpoint.restore-chosen")
    assert (told.why, told.after) == ("promoted at noon", {"state": "keeping", "variant": SERVES})
    assert HistoryEvent.objects.get(kind="restored").detail == "promoted at noon"
    assert Endpoint.objects.get().next_look_at is None


def test_keep__by_name__is_that_one(held: Endpoint) -> None:
    found(served={"triage-v8-a": 4_000, SERVES: 6_000})
    assert choice_of(choose("keep", variant="triage-v8-a")) == "triage-v8-a"


def test_return__asks_for_all_that_the_database_wants_to_have_traffic(held: Endpoint) -> None:
    Endpoint.objects.update(desired_shares={"one": 7_500, "two": 2_500, "gone": 0})
    endpoint = choose("return")
    assert (endpoint.restored_state, choice_of(endpoint)) == (RestoredState.RETURNING, "")
    asked = Effect.objects.values_list("kind", "payload__variant")
    assert sorted(asked) == [("ensure-workload", "one"), ("ensure-workload", "two")]


def test_choice__made_already__may_be_changed_until_it_is_carried_out(held: Endpoint) -> None:
    choose("return")
    assert choose("keep").restored_state == RestoredState.KEEPING


@pytest.mark.parametrize("state", [RestoredState.NONE, RestoredState.WATCHING, RestoredState.RIVAL])
def test_choice__where_none_is_open__conflict(held: Endpoint, state: RestoredState) -> None:
    Endpoint.objects.update(restored_state=state.value)
    with pytest.raises(Conflict) as refused:
        choose("keep")
    assert refused.value.code == "not-held"


@pytest.mark.parametrize(
    ("choice", "options", "seen", "error", "words"),
    [
        ("perhaps", {}, {}, InvalidInput, "choice"),
        ("keep", {"variant": "triage-v1-x"}, {}, InvalidInput, "variant"),
        ("return", {"variant": SERVES}, {}, InvalidInput, "variant"),
        ("keep", {}, {"served": {}}, Refused, "cannot-be-kept"),
        ("keep", {}, {"unkept": {SERVES: "Nobody knows its files."}}, Refused, "cannot-be-kept"),
        ("keep", {"endpoint_name": "nobody"}, {}, NotFound, "endpoint-not-found"),
        ("keep", {"role": Role.ENGINEER}, {}, Forbidden, ""),
    ],
)
def test_choice__that_cannot_be__is_refused_and_the_endpoint_stays_held(
    held: Endpoint, choice: str, options: dict[str, Any], seen: dict[str, Any], error: Any, words: str
) -> None:
    found(**seen)
    before = Endpoint.objects.get().restored
    with pytest.raises(error) as refused:
        choose(choice, **options)
    assert words in (refused.value.code, getattr(refused.value, "field", ""), "")
    after = Endpoint.objects.get()
    assert (after.restored_state, after.restored) == (RestoredState.HELD, before)
    assert not Effect.objects.exists()
    assert not AuditEvent.objects.exists()
