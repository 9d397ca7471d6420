"""What gateways say of a route."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.routers.gateway_api.conditions import RouteVerdict, verdict_of
from rollouts.adapters.routers.gateway_api.objects import GatewayParent
from tests.rollouts.adapters.routers.gateway_api.routes import PARENT, said

SECOND = GatewayParent("inner", "edge", "https")


def verdict(*parents: dict[str, Any], of: tuple[GatewayParent, ...] = (PARENT,)) -> RouteVerdict:
    return verdict_of({"parents": list(parents)}, of, namespace="team-a", generation=3)


def test_verdict__accepted_and_resolved_at_the_generation__is_in_force() -> None:
    assert verdict(said(3)) == RouteVerdict(in_force=True)


def test_verdict__nothing_said_yet__waits_for_the_gateway() -> None:
    nothing: tuple[object, ...] = (None, {}, {"parents": []})
    for status in nothing:
        found = verdict_of(status, (PARENT,), namespace="team-a", generation=3)
        assert found == RouteVerdict(waits_for="gateway edge/llm has not looked at the route yet")


def test_verdict__said_of_an_older_generation__is_neither_in_force_nor_refused() -> None:
    assert verdict(said(2)).waits_for == "gateway edge/llm says Accepted of generation 2 only"
    assert verdict(said(2, accepted="False")).refused == ""


@pytest.mark.parametrize("kind", ["accepted", "resolved"])
def test_verdict__condition_false__is_refused_with_the_gateways_words(kind: str) -> None:
    found = verdict(said(3, **{kind: "False"}, reason="BackendNotFound", message="service x not found"))  # type: ignore[arg-type]
    assert not found.in_force
    assert "BackendNotFound: service x not found" in found.refused


def test_verdict__accepted_without_resolved__waits() -> None:
    assert verdict(said(3, resolved="")).waits_for == "gateway edge/llm does not say ResolvedRefs yet"


def test_verdict__unknown__waits() -> None:
    assert verdict(said(3, accepted="Unknown")).waits_for == "gateway edge/llm does not say Accepted yet"


def test_verdict__partially_invalid__is_refused_though_it_is_accepted() -> None:
    found = verdict(said(3, PartiallyInvalid="True"))
    assert found.refused.startswith("gateway edge/llm takes only a part of it")


def test_verdict__partially_invalid_was_of_an_older_generation__says_nothing() -> None:
    entry = said(3)
    entry["conditions"].append({"type": "PartiallyInvalid", "status": "True", "observedGeneration": 2})
    assert verdict(entry).in_force


def test_verdict__two_gateways__is_in_force_when_both_have_it() -> None:
    both = (PARENT, SECOND)
    assert verdict(said(3), of=both).waits_for.startswith("gateway edge/inner, listener https")
    assert verdict(said(3), said(2, parent=SECOND), of=both).waits_for
    assert verdict(said(3), said(3, parent=SECOND), of=both).in_force
    assert verdict(said(3), said(3, parent=SECOND, accepted="False"), of=both).refused


def test_verdict__another_gateways_refusal__does_not_count() -> None:
    stranger = said(3, accepted="False", parent=GatewayParent("somebody-else", "edge"))
    assert verdict(stranger, said(3)).in_force


def test_verdict__two_controllers_speak_for_one_gateway__the_refusal_counts() -> None:
    assert verdict(said(3), said(3, accepted="False", reason="NotAllowed")).refused


def test_verdict__parent_in_the_routes_namespace__need_not_name_it() -> None:
    near = GatewayParent("llm", "team-a")
    entry = said(3, parent=GatewayParent("llm"))
    assert verdict(entry, of=(near,)).in_force


def test_verdict__long_words__are_cut_to_a_paragraph() -> None:
    found = verdict(said(3, accepted="False", message="a\x00b\n" * 5_000))
    assert len(found.refused) < 500
    assert "\n" not in found.refused


@pytest.mark.parametrize(
    "status",
    [
        [],
        "no",
        {"parents": {}},
        {"parents": [1]},
        {"parents": [{"parentRef": PARENT.document(), "conditions": [{}]}]},
    ],
)
def test_verdict__odd_status__cannot_be_understood(status: object) -> None:
    with pytest.raises(InvalidInput, match="The status of the route cannot be understood"):
        verdict_of(status, (PARENT,), namespace="team-a", generation=3)
