"""A policy of one rollout: made from a shared one, refused with every mistake, and told where it is weaker."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.access.actors import HEADGATE, Actor
from controlplane.access.roles import Role
from controlplane.kernel.errors import Forbidden, InvalidInput
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.weaker import Weakening
from rollouts.models import Endpoint, GatePolicyVersion
from rollouts.services.policies.own import (
    own_policy_from_values,
    own_policy_of,
    require_may_weaken,
    weaker_checks,
    weaker_than_endpoint,
)
from rollouts.services.policies.text import PolicyDocument
from tests import factories
from tests.factories.endpoints import POLICY_BODY

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint(now=NOW)


def body(**changes: Any) -> dict[str, Any]:
    """The shared policy as somebody writes it; `errors={...}` changes that gate."""
    gates = [{**gate, **changes.pop(str(gate["key"]), {})} for gate in POLICY_BODY["gates"]]  # type: ignore[attr-defined]
    rest = {name: value for name, value in POLICY_BODY.items() if name not in ("name", "version", "gates")}
    return {**rest, "gates": gates, **changes}


def own(endpoint: Endpoint, **changes: Any) -> GatePolicy:
    made = own_policy_from_values(body(**changes), source=endpoint.gate_policy)
    assert made is not None
    return made


# --- made -------------------------------------------------------------------------------------------------------------


def test_own_policy__that_says_the_same__is_none(endpoint: Endpoint) -> None:
    assert own_policy_from_values(body(), source=endpoint.gate_policy) is None


def test_own_policy__says_where_it_is_from_whatever_was_written(endpoint: Endpoint) -> None:
    made = own(endpoint, alpha=0.01, name="mine", version=9)
    assert (made.name, made.version, made.alpha) == ("triage-default", 1, 0.01)


def test_own_policy__as_it_is_stored_and_read__is_the_same(endpoint: Endpoint) -> None:
    made = own(endpoint, errors={"delta": 0.01})
    assert GatePolicy.from_json(made.to_json()) == made


def test_own_policy__with_mistakes__names_the_first_with_its_line_and_has_all(endpoint: Endpoint) -> None:
    document = PolicyDocument(
        body(alpha=2, errors={"delta": -1}), lines={"alpha": 3, "gates[1]": 9, "gates[1].delta": 11}
    )
    with pytest.raises(InvalidInput) as refused:
        own_policy_of(document, source=endpoint.gate_policy)
    fields = [one["field"] for one in refused.value.extra["problems"]]
    assert sorted(fields) == ["alpha", "gates[1].delta"]
    assert refused.value.field == fields[0]
    assert refused.value.extra["line"] == {"alpha": 3, "gates[1].delta": 11}[fields[0]]


# --- weaker -----------------------------------------------------------------------------------------------------------


def test_weaker__the_endpoints_own_policy__is_in_nothing(endpoint: Endpoint) -> None:
    assert weaker_than_endpoint(endpoint, source=None, own=None) == ()
    assert (
        weaker_than_endpoint(endpoint, source=endpoint.gate_policy, own=own(endpoint, errors={"delta": 0.01}))
        == ()
    )


def test_weaker__own_policy__names_every_value(endpoint: Endpoint) -> None:
    found = weaker_than_endpoint(
        endpoint, source=None, own=own(endpoint, errors={"delta": 0.5}, quality={"margin": 0.5})
    )
    assert [one.field for one in found] == ["gates.quality.margin", "gates.errors.delta"]


def shared(name: str, **changes: Any) -> GatePolicyVersion:
    """Another policy that is there for all."""
    policy = GatePolicy.from_json({**body(**changes), "name": name, "version": 1})
    return GatePolicyVersion.objects.create(
        name=name, version=1, body=policy.to_json(), digest=name, created_at=NOW
    )


def test_weaker__another_shared_policy__is_compared_with_the_endpoints(endpoint: Endpoint) -> None:
    found = weaker_than_endpoint(endpoint, source=shared("lax", errors={"delta": 0.5}), own=None)
    assert [one.field for one in found] == ["gates.errors.delta"]


def test_weaker__own_policy_from_a_stricter_one__is_compared_with_both_and_told_once(
    endpoint: Endpoint,
) -> None:
    strict = shared("strict", errors={"delta": 0.001})
    for delta in (0.02, 0.5):  # as the endpoint's, and weaker than both
        found = weaker_than_endpoint(
            endpoint, source=strict, own=own(endpoint, errors={"delta": delta, "label": "Errors"})
        )
        assert [(one.field, one.before) for one in found] == [("gates.errors.delta", "0.001")]


# --- who may ----------------------------------------------------------------------------------------------------------

WEAKER = (
    Weakening("alpha", "5 %", "10 %", "more false alarms"),
    Weakening("gates.errors", "Error rate", "", "this gate is missing"),
)


def actor(role: Role) -> Actor:
    return Actor.person(factories.person(role))


def test_require__engineer_with_a_weaker_policy__is_forbidden_with_every_value(endpoint: Endpoint) -> None:
    with pytest.raises(Forbidden) as refused:
        require_may_weaken(WEAKER, endpoint=endpoint, actor=actor(Role.ENGINEER))
    assert refused.value.code == "weaker-policy"
    assert [one["field"] for one in refused.value.extra["weaker"]] == ["alpha", "gates.errors"]
    assert all(one.sentence in refused.value.message for one in WEAKER)
    assert refused.value.fix.startswith("Take them back, or ask a release manager")


def test_require__who_may__passes(endpoint: Endpoint) -> None:
    require_may_weaken(WEAKER, endpoint=endpoint, actor=actor(Role.RELEASE_MANAGER))
    require_may_weaken(WEAKER, endpoint=endpoint, actor=HEADGATE)
    require_may_weaken((), endpoint=endpoint, actor=actor(Role.VIEWER))


@pytest.mark.parametrize(
    ("role", "state"), [(Role.ENGINEER, "refused"), (Role.RELEASE_MANAGER, "warning"), (None, "warning")]
)
def test_checks__of_a_weaker_policy__refuse_whom_the_start_would_refuse(
    endpoint: Endpoint, role: Role | None, state: str
) -> None:
    (check,) = weaker_checks(WEAKER, endpoint=endpoint, actor=None if role is None else actor(role))
    assert (check.state, check.code) == (state, "weaker-policy")
    assert check.title == "The policy is weaker than triage-default@1 in 2 values"


def test_checks__nothing_is_weaker__say_nothing(endpoint: Endpoint) -> None:
    assert weaker_checks((), endpoint=endpoint, actor=None) == []
