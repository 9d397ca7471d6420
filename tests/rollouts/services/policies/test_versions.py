"""Policies as versioned data: the next version, never another one in its place."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound
from rollouts.models import Endpoint, GatePolicyVersion, HistoryEvent
from rollouts.services.policies.text import read_policy_text
from rollouts.services.policies.versions import (
    check_gate_policy,
    define_from_document,
    define_gate_policy,
    set_endpoint_policy,
)
from tests import factories
from tests.factories.endpoints import POLICY_BODY
from tests.rollouts.worlds import world_in_memory, worlds_of

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
BODY: dict[str, Any] = POLICY_BODY
EDGES = {"ttft": (0.1, 0.25, 0.5), "duration": (1.0, 2.5)}


def body(**changes: Any) -> dict[str, Any]:
    return {**BODY, **changes}


def gates(**changes: Any) -> list[dict[str, Any]]:
    """The usual gates; `ttft={...}` changes one."""
    return [{**gate, **changes.get(gate["key"], {})} for gate in BODY["gates"]]


def manager() -> Actor:
    return Actor.person(factories.person(Role.RELEASE_MANAGER), request_id="r-1")


def define(**changes: Any) -> GatePolicyVersion:
    arguments: dict[str, Any] = {"name": "triage-default", "body": body(), "actor": manager(), "now": NOW}
    return define_gate_policy(**{**arguments, **changes})


# --- the next version ---------------------------------------------------------------------------------------


def test_define__new_name__is_version_one_with_author_and_digest() -> None:
    made = define(note=" first ")
    assert str(made) == "triage-default@1"
    assert (made.created_by, made.note) == ("release-manager", "first")
    assert made.digest == digest_of(made.policy.to_json())


def test_define__other_content__is_the_next_version_and_the_old_one_stays() -> None:
    first = define()
    second = define(body=body(alpha=0.01))
    assert str(second) == "triage-default@2"
    assert GatePolicyVersion.objects.get(pk=first.pk).policy.alpha == 0.05


def test_define__same_content__makes_no_version() -> None:
    first = define()
    assert define(body={**body(), "version": 7, "name": "other"}) == first
    assert GatePolicyVersion.objects.count() == 1


def test_define__content_of_an_older_version__is_a_new_version() -> None:
    define()
    define(body=body(alpha=0.01))
    assert str(define()) == "triage-default@3"


def test_define__stored__is_audited_with_what_changed() -> None:
    define()
    define(body=body(alpha=0.01), note="stricter")
    event = AuditEvent.objects.filter(action="gate-policy.defined").first()
    assert event is not None
    assert (event.object_id, event.actor, event.why, event.request_id) == (
        "triage-default@2",
        "release-manager",
        "stricter",
        "r-1",
    )
    assert event.before == {"newest": "triage-default@1"}
    assert event.after is not None
    assert event.after["changes"] == [{"field": "alpha", "before": "0.05", "after": "0.01"}]


def test_define__edit_of_an_older_version__conflicts_naming_the_newer_one() -> None:
    define()
    define(body=body(alpha=0.01))
    with pytest.raises(Conflict) as caught:
        define(body=body(alpha=0.02), expected_version=1, now=NOW + timedelta(seconds=8))
    assert caught.value.code == "policy-changed"
    assert caught.value.message.startswith("triage-default@2 was stored by release-manager 8 s ago")
    assert caught.value.extra == {"newest": 2, "expected": 1}
    assert GatePolicyVersion.objects.count() == 2


def test_define__same_as_the_newer_version__is_no_conflict() -> None:
    define()
    second = define(body=body(alpha=0.01))
    assert define(body=body(alpha=0.01), expected_version=1) == second


def test_define__expected_to_be_new_but_there__conflicts() -> None:
    define()
    with pytest.raises(Conflict):
        define(body=body(alpha=0.01), expected_version=0)


def test_define__version_expected_of_an_unknown_name__conflicts() -> None:
    with pytest.raises(Conflict):
        define(name="elsewhere", expected_version=3)


def test_define__two_at_the_same_moment__one_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    define()
    create = GatePolicyVersion.objects.create

    def beaten(**values: Any) -> GatePolicyVersion:
        create(**{**values, "created_by": "ana"})
        return create(**values)

    monkeypatch.setattr(GatePolicyVersion.objects, "create", beaten)
    with pytest.raises(Conflict):
        define(body=body(alpha=0.01))
    assert GatePolicyVersion.objects.count() == 1  # neither: the stand-in's row was rolled back with ours


@pytest.mark.parametrize("name", ["", "Triage", "a b", "a@1", "1st", "x" * 61, "new", "check", "a/b", "é"])
def test_define__name_that_is_none__is_named(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        define(name=name)
    assert caught.value.field == "name"


def test_define__several_mistakes__are_all_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        define(body=body(alpha=3, gates=gates(ttft={"mode": "mild"})))
    assert [one["field"] for one in caught.value.extra["problems"]] == ["gates[2].mode", "alpha"]


def test_define__slo_that_is_no_edge__names_both_neighbours() -> None:
    with pytest.raises(InvalidInput) as caught:
        define(body=body(gates=gates(ttft={"slo_seconds": 0.3})), edges=EDGES)
    assert caught.value.field == "gates[2].slo_seconds"
    assert (caught.value.extra["below"], caught.value.extra["above"]) == (0.25, 0.5)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ENGINEER])
def test_define__role_too_low__is_forbidden(role: Role) -> None:
    with pytest.raises(Forbidden):
        define(actor=Actor.person(factories.person(role)))


def test_version__once_stored__cannot_be_changed_or_deleted() -> None:
    made = define()
    made.note = "other"
    for attempt in (
        made.save,
        made.delete,
        GatePolicyVersion.objects.all().delete,
        lambda: GatePolicyVersion.objects.update(note="other"),
    ):
        with pytest.raises(TypeError):
            attempt()
    assert GatePolicyVersion.objects.get(pk=made.pk).note == ""


# --- from a text ----------------------------------------------------------------------------------------------


def document(text: str, **changes: Any) -> GatePolicyVersion:
    return define_from_document(
        name="triage-default", document=read_policy_text(text), actor=manager(), now=NOW, **changes
    )


def test_define_from_document__its_version__is_what_it_is_an_edit_of() -> None:
    define()
    define(body=body(alpha=0.01))
    text = "version: 1\nalpha: 0.02\ngates: [{key: errors, kind: error_rate, delta: 0.01}]"
    with pytest.raises(Conflict):
        document(text)
    assert document(text, expected_version=2).version == 3


def test_define_from_document__version_of_a_policy_that_is_new__is_not_minded() -> None:
    text = "name: triage-default\nversion: 4\ngates: [{key: errors, kind: error_rate, delta: 0.01}]"
    assert str(document(text)) == "triage-default@1"


def test_define_from_document__of_another_policy__is_refused_with_the_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        document("alpha: 0.1\nname: else")
    assert (caught.value.field, caught.value.extra["line"]) == ("name", 2)


def test_define_from_document__mistake__has_its_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        document("gates:\n- key: errors\n  kind: error_rate\n  delta: 0.01\n  mode: mild\n")
    assert (caught.value.field, caught.value.extra["line"]) == ("gates[0].mode", 5)


# --- a draft --------------------------------------------------------------------------------------------------


def check(**changes: Any) -> Any:
    arguments: dict[str, Any] = {"name": "triage-default", "body": body(), "now": NOW, "edges": EDGES}
    return check_gate_policy(**{**arguments, **changes})


def test_check__sound_draft__is_explained_and_nothing_is_stored() -> None:
    found = check()
    assert (found.reference, found.problems, found.same) == ("triage-default@1", (), False)
    assert found.outlook is not None
    assert [gate.key for gate in found.outlook.gates] == ["quality", "errors", "ttft", "thumbs"]
    assert not GatePolicyVersion.objects.exists()


def test_check__changed__says_what_and_as_which_version() -> None:
    define()
    found = check(body=body(alpha=0.01))
    assert found.reference == "triage-default@2"
    assert [change.field for change in found.changes] == ["alpha"]


def test_check__same__says_so() -> None:
    define()
    found = check()
    assert found.same
    assert found.reference == "triage-default@1"


def test_check__mistakes_and_an_slo_off_the_edges__are_all_found() -> None:
    assert [one.field for one in check(name="X Y", body=body(alpha=9)).problems] == ["name", "alpha"]
    wrong = check(body=body(gates=gates(ttft={"slo_seconds": 0.3})))
    assert [one.field for one in wrong.problems] == ["gates[2].slo_seconds"]
    assert wrong.policy is None
    assert wrong.outlook is None


# --- numbers of an endpoint -----------------------------------------------------------------------------------


# --- the policy of an endpoint ----------------------------------------------------------------------------------


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint(now=NOW)


def use(reference: str = "triage-default", **changes: Any) -> Endpoint:
    arguments: dict[str, Any] = {
        "endpoint_name": "triage",
        "reference": reference,
        "actor": manager(),
        "now": NOW,
    }
    return set_endpoint_policy(**{**arguments, **changes})


def test_set_endpoint_policy__newer_version__is_told_and_audited(endpoint: Endpoint) -> None:
    define(body=body(alpha=0.01))
    assert str(use().gate_policy) == "triage-default@2"
    assert str(Endpoint.objects.get().gate_policy) == "triage-default@2"
    assert HistoryEvent.objects.get().title == "Gate policy triage-default@1 → triage-default@2"
    event = AuditEvent.objects.get(action="endpoint.gate-policy-set")
    assert (event.before, event.after) == (
        {"gate_policy": "triage-default@1"},
        {"gate_policy": "triage-default@2"},
    )


def test_set_endpoint_policy__running_rollout__keeps_its_own(endpoint: Endpoint) -> None:
    rollout = factories.rollout_paused(of=endpoint, now=NOW)
    define(body=body(alpha=0.01))
    use()
    rollout.refresh_from_db()
    assert str(rollout.gate_policy) == "triage-default@1"


def test_set_endpoint_policy__the_same__changes_nothing(endpoint: Endpoint) -> None:
    use("triage-default@1")
    assert not HistoryEvent.objects.exists()


def test_set_endpoint_policy__changed_meanwhile__conflicts(endpoint: Endpoint) -> None:
    define(body=body(alpha=0.01))
    with pytest.raises(Conflict) as caught:
        use(expected="other@3")
    assert caught.value.extra == {"current": "triage-default@1"}


def test_set_endpoint_policy__gate_on_a_golden_set_it_lacks__is_refused(endpoint: Endpoint) -> None:
    define(body=body(alpha=0.01))
    endpoint.golden_set = None
    endpoint.save()
    with pytest.raises(InvalidInput, match="has a gate on a golden set, and triage has none"):
        use()


def test_set_endpoint_policy__slo_that_cannot_be_measured__is_refused(endpoint: Endpoint) -> None:
    define(body=body(gates=gates(ttft={"slo_seconds": 0.3})))
    with pytest.raises(InvalidInput, match="cannot be measured here") as caught:
        use(worlds=worlds_of(world_in_memory(ManualClock(NOW), edges=EDGES)))
    assert caught.value.field == "gate_policy"


def test_set_endpoint_policy__unknown_endpoint_or_policy__is_said(endpoint: Endpoint) -> None:
    with pytest.raises(NotFound):
        use(endpoint_name="nobody")
    with pytest.raises(InvalidInput):
        use("triage-default@9")


def test_set_endpoint_policy__engineer__is_forbidden(endpoint: Endpoint) -> None:
    with pytest.raises(Forbidden):
        use(actor=Actor.person(factories.person(Role.ENGINEER)))
