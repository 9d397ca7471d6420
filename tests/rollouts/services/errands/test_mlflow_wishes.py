"""What MLflow should say of what serves, beside what it was last read to say: of our own rows alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from registry.models import Alias, Version
from rollouts.domain.lifecycle.effects import WriteBack
from rollouts.models import Effect, EffectState, Endpoint, Rollout
from rollouts.services.errands.mlflow_wishes import LOOKED_AT_WITHIN, TAGS_KEPT, Wish, wish_of, wishes
from rollouts.services.writing import add_effects
from tests import factories

NOW = factories.right_now()
on_the_database = pytest.mark.django_db


# --- one wish, without a database -------------------------------------------------------------------------------------


def wish(**changes: Any) -> Wish:
    """Version 2 serves, and MLflow was read to say so."""
    version = Version(pk=2, number=2, tags={"headgate.decision": "promoted"})
    made = {
        "endpoint": Endpoint(), "version": version, "alias_at": 2,
        "tags": {version: {"headgate.decision": "promoted"}}, "effects": (), "untold": (), "rival": "",
    }  # fmt: skip
    return Wish(**{**made, **changes})


def test_wish__mlflow_says_all_of_it__differs_in_nothing() -> None:
    assert (wish().alias_differs, wish().untrue_tags, wish().differs) == (False, {}, False)


@pytest.mark.parametrize(
    "changes",
    [{"alias_at": None}, {"alias_at": 1}, {"effects": (Effect(),)}],
    ids=["no alias", "another version", "a decision that was not told"],
)
def test_wish__alias__is_written_where_it_differs_or_a_decision_was_not_told(changes: dict[str, Any]) -> None:
    assert (wish(**changes).alias_differs, wish(**changes).differs) == (True, True)


def test_wish__version_was_deleted_there__has_no_alias_and_no_tags() -> None:
    gone = Version(pk=2, number=2, gone_at=NOW)
    found = wish(version=gone, alias_at=None, tags={gone: {"headgate.decision": "promoted"}})
    assert (found.alias_differs, found.untrue_tags, found.differs) == (False, {}, False)


def test_wish__tags__other_ones_are_none_of_ours_and_a_version_that_is_untold_is_told_anew() -> None:
    version = Version(pk=2, number=2, tags={"headgate.decision": "promoted", "trained_by": "mira"})
    tags = {version: {"headgate.decision": "promoted"}}
    assert wish(version=version, tags=tags).untrue_tags == {}
    assert wish(version=version, tags=tags, untold={2}).untrue_tags == tags
    other = {version: {"headgate.decision": "rolled-back"}}
    assert wish(version=version, tags=other).untrue_tags == other


# --- read of our rows -------------------------------------------------------------------------------------------------


def one(endpoint: Endpoint) -> Wish:
    found = wish_of(endpoint, NOW)
    assert found is not None
    return found


def decision_of(found: Wish, number: int) -> str:
    (tags,) = (tags for version, tags in found.tags.items() if version.number == number)
    return next(value for name, value in tags.items() if name.endswith("decision"))


@on_the_database
def test_wishes__of_an_endpoint_that_serves__names_version_alias_and_the_tag_that_it_serves() -> None:
    found = one(factories.endpoint(now=NOW))
    assert (found.version.number, found.alias_at, found.effects, found.rival) == (1, 1, (), "")
    assert decision_of(found, 1) == "serving"


@on_the_database
@pytest.mark.parametrize(
    ("changes", "wished"),
    [
        ({}, True),
        ({"reconciled_at": None}, True),
        ({"reconciled_at": NOW - LOOKED_AT_WITHIN}, False),
        ({"restored_state": "held"}, False),
        ({"desired_shares": {}}, False),
        ({"stable": None}, False),
    ],
    ids=[
        "looked at",
        "made a moment ago",
        "nobody looked",
        "an older copy",
        "never served",
        "nothing stable",
    ],
)
def test_wishes__while_nobody_knows_what_serves__there_is_none(changes: dict[str, Any], wished: bool) -> None:
    endpoint = factories.endpoint(now=NOW)
    Endpoint.objects.update(**changes)
    assert (wish_of(endpoint, NOW) is not None) is wished


@on_the_database
@pytest.mark.parametrize(
    ("make", "number", "said"),
    [(factories.rollout_promoted, 2, "promoted"), (factories.rollout_rolled_back, 3, "rolled-back")],
)
def test_wishes__after_a_decision__tags_carry_it_for_a_while(make: Any, number: int, said: str) -> None:
    rollout = make(now=NOW)
    found = one(rollout.endpoint)
    assert decision_of(found, number) == said
    assert str(rollout.pk) in {value for tags in found.tags.values() for value in tags.values()}
    Rollout.objects.update(phase_since=NOW - TAGS_KEPT - timedelta(seconds=1))
    later = one(rollout.endpoint)
    still = [version.number for version in later.tags if version.number == number]
    assert still == ([number] if said == "promoted" else []), "the one that serves keeps its own"


@on_the_database
def test_wishes__decisions_that_wait__come_in_their_order_with_the_versions_that_they_are_about() -> None:
    endpoint = factories.endpoint(now=NOW)
    second = factories.variant(endpoint, 2, now=NOW)
    assert endpoint.stable is not None
    for name in (second.name, endpoint.stable.name):
        add_effects(endpoint=endpoint, rollout=None, effects=[WriteBack(name, name, "promoted")], now=NOW)
    Effect.objects.create(
        endpoint=endpoint, kind=WriteBack.kind, payload={}, created_at=NOW, state=EffectState.DONE
    )
    found = one(endpoint)
    assert [effect.payload["tagged_variant"] for effect in found.effects] == [
        second.name,
        endpoint.stable.name,
    ]
    assert set(found.untold) == {second.version_id, endpoint.stable.version_id}


@on_the_database
@pytest.mark.parametrize("odd", [[], "odd", {}])
def test_wishes__decision_of_one_is_odd__all_others_are_told(odd: Any) -> None:
    endpoint = factories.endpoint(now=NOW)
    other = factories.endpoint("other", of=endpoint.model, now=NOW)
    Effect.objects.create(endpoint=other, kind=WriteBack.kind, payload=odd, created_at=NOW)
    assert {wish.endpoint.name for wish in wishes(NOW)} == {endpoint.name, other.name}


@on_the_database
def test_wishes__two_endpoints_keep_one_alias_on_two_versions__name_each_other() -> None:
    first = factories.endpoint(now=NOW)
    second = factories.endpoint("another", of=first.model, now=NOW)
    Endpoint.objects.update(alias="production")
    assert (one(first).rival, one(second).rival) == ("", ""), "both want the same version"
    Endpoint.objects.filter(pk=second.pk).update(stable=factories.variant(second, 2, now=NOW))
    assert (one(first).rival, one(second).rival) == ("another", "triage")


@on_the_database
def test_wishes__of_one_model__are_those_of_its_endpoints() -> None:
    first = factories.endpoint(now=NOW)
    factories.endpoint("another", of=factories.model("other", now=NOW), now=NOW)
    assert [found.endpoint for found in wishes(NOW, model_id=first.model_id)] == [first]
    assert len(wishes(NOW)) == 2


@on_the_database
def test_wishes__more_endpoints__cost_no_more_queries() -> None:
    costs = []
    for number in range(3):
        endpoint = factories.endpoint(
            f"endpoint-{number}", of=factories.model(f"m-{number}", now=NOW), now=NOW
        )
        name = endpoint.stable.name if endpoint.stable else ""
        add_effects(endpoint=endpoint, rollout=None, effects=[WriteBack(name, name, "promoted")], now=NOW)
        with CaptureQueriesContext(connection) as asked:
            assert len([found.untrue_tags for found in wishes(NOW)]) == number + 1
        costs.append(len(asked))
    assert costs[0] == costs[-1] <= 8
    assert Alias.objects.exists()
