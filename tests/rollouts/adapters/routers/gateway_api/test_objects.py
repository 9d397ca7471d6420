"""The HTTPRoute of an endpoint."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.backends import at_address
from rollouts.adapters.routers.gateway_api.objects import (
    MOST_MATCHES,
    MOST_RULES,
    RouteLayout,
    RouteMirror,
    arms_order,
    document_of,
    placed,
    spec_of,
)
from rollouts.adapters.routers.gateway_api.references import route_name
from rollouts.ports import Backend, EngineApi, Route
from tests.rollouts.adapters.routers.gateway_api.routes import PLACE, V1, V2, service, two

SMALL = EngineApi(("/v1/chat/completions",), ("/health",))


def split(spec: dict[str, Any]) -> dict[str, Any]:
    """The rule that splits: the only one with weights in basis points."""
    (found,) = [rule for rule in spec["rules"] if sum(ref["weight"] for ref in rule["backendRefs"]) > 1]
    rule: dict[str, Any] = found
    return rule


def weights(spec: dict[str, Any]) -> dict[str, int]:
    return {ref["name"]: ref["weight"] for ref in split(spec)["backendRefs"]}


def test_split__shares__are_weights_in_basis_points() -> None:
    assert weights(spec_of(two(125), PLACE)) == {V1: 9875, V2: 125}


def test_split__a_share_of_zero__keeps_its_reference_with_weight_zero() -> None:
    assert weights(spec_of(two(0), PLACE)) == {V1: 10_000, V2: 0}


def test_split__a_share_of_zero_where_gateways_leak_it__is_left_out_and_stays_forcible() -> None:
    spec = spec_of(two(0), replace(PLACE, keeps_zero=False))
    assert weights(spec) == {V1: 10_000}
    assert spec["rules"][3]["matches"][0]["headers"][0]["value"] == V2


def test_forced__each_variant__has_a_rule_with_its_header_behind_the_split() -> None:
    spec = spec_of(two(0), PLACE)
    forced = spec["rules"][2:]
    for rule, variant in zip(forced, (V1, V2), strict=True):
        assert all(
            match["headers"] == [{"type": "Exact", "name": "x-headgate-variant", "value": variant}]
            for match in rule["matches"]
        )
        assert [ref["name"] for ref in rule["backendRefs"]] == [variant]
    assert spec["rules"].index(split(spec)) == 0


def test_forced__suffix_of_the_place__goes_to_the_second_service() -> None:
    spec = spec_of(two(500), replace(PLACE, forced_suffix="-forced"))
    assert [ref["name"] for ref in spec["rules"][2]["backendRefs"]] == [f"{V1}-forced"]
    assert set(weights(spec)) == {V1, V2}


def test_matches__calls__are_those_of_the_engine_and_no_others() -> None:
    spec = spec_of(two(0, api=SMALL), PLACE)
    seen = {
        (match.get("method", "any"), match["path"]["type"], match["path"]["value"])
        for rule in spec["rules"]
        for match in rule["matches"]
    }
    assert seen == {
        ("POST", "Exact", "/v1/chat/completions"),
        ("GET", "Exact", "/v1/models"),
        ("any", "Exact", "/health"),
    }


def test_other__calls_that_are_no_inference__go_to_the_fallback() -> None:
    other = spec_of(two(10_000, api=SMALL), PLACE)["rules"][1]
    assert [ref["name"] for ref in other["backendRefs"]] == [V1]


def test_answers__every_drawn_or_forced_one__says_its_variant() -> None:
    rules = spec_of(two(500), PLACE)["rules"]
    for rule in (rules[0], rules[2], rules[3]):
        for ref in rule["backendRefs"]:
            says = ref["filters"][0]["responseHeaderModifier"]["set"]
            assert says[0] == {"name": "x-headgate-variant", "value": ref["name"]}


def test_answers__forced_ones_alone__say_by_which_revision_of_the_route() -> None:
    layout = RouteLayout((V1, V2), {V1: 10_000}, 17)
    rules = spec_of(two(0), PLACE, layout=layout)["rules"]
    said = [
        ref["filters"][0]["responseHeaderModifier"]["set"][1:]
        for rule in (rules[0], rules[2], rules[3])
        for ref in rule["backendRefs"]
    ]
    revision = [{"name": "x-headgate-route", "value": "17"}]
    assert said == [[], [], revision, revision]


def test_places__a_variant_more__stands_behind_the_others_whatever_it_is_called() -> None:
    assert placed((V1, V2), [V1, V2, "chat-v0-0000"]) == (V1, V2, "chat-v0-0000")


def test_places__a_variant_less__leaves_the_others_where_they_are() -> None:
    assert placed((V1, V2, "chat-v3-cccc"), [V1, "chat-v3-cccc"]) == (V1, "", "chat-v3-cccc")
    assert placed((V1, V2), [V1]) == (V1,)


def test_places__one_goes_and_another_comes__do_not_share_a_place_at_once() -> None:
    after = placed((V1, V2), [V2, "chat-v3-cccc"])
    assert after == ("", V2, "chat-v3-cccc")
    assert placed(after, [V2, "chat-v3-cccc", "chat-v4-dddd"])[0] == "chat-v4-dddd"


def test_places__a_route_is_full__takes_the_place_that_is_given_up_now() -> None:
    before = [f"v{index}" for index in range(MOST_RULES - 2)]
    assert placed(before, [*before[1:], "new"]) == ("new", *before[1:])


@pytest.mark.parametrize("noted", [[V1, V1], ["", "x"] * 50, ["nobody"]])
def test_places__odd_note__still_gives_everybody_one(noted: list[str]) -> None:
    found = placed(noted, [V1, V2])
    assert sorted(filter(None, found)) == [V1, V2]
    assert len(found) <= MOST_RULES - 2


def test_places__nobody_has_one__it_holds_what_changes_nothing() -> None:
    spec = spec_of(two(500), PLACE, layout=RouteLayout(("", V1, V2), {V1: 9_500, V2: 500}))
    held, *others = spec["rules"][0]["backendRefs"]
    assert (held["name"], held["weight"]) == (V1, 0)
    assert [(ref["name"], ref["weight"]) for ref in others] == [(V1, 9_500), (V2, 500)]
    assert spec["rules"][2]["matches"] == spec["rules"][3]["matches"]
    assert spec["rules"][2]["backendRefs"] == spec["rules"][3]["backendRefs"]


def test_mirror__fraction__is_on_the_split_alone() -> None:
    spec = spec_of(two(500), PLACE, RouteMirror(service("chat-v3-cccc"), 5, 1000))
    (found,) = split(spec)["filters"]
    assert found["requestMirror"] == {
        "backendRef": {"group": "", "kind": "Service", "name": "chat-v3-cccc", "port": 8000},
        "fraction": {"numerator": 5, "denominator": 1000},
    }
    mirrors = [
        one for rule in spec["rules"] for one in rule.get("filters", ()) if one["type"] == "RequestMirror"
    ]
    assert mirrors == [found]


def test_other_calls__answer__names_no_variant_whatever_the_engine_says() -> None:
    """Who reads the gateway's log takes the header for the route's word."""
    other = spec_of(two(500), PLACE)["rules"][1]
    assert {"path": {"type": "Exact", "value": "/health"}} in other["matches"]
    (found,) = other["filters"]
    assert found["responseHeaderModifier"] == {"remove": ["x-headgate-variant"]}


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 100), (101, 100), (-1, 100)])
def test_mirror__no_part_of_the_requests__is_refused(numerator: int, denominator: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        spec_of(two(500), PLACE, RouteMirror(service("chat-v3-cccc"), numerator, denominator))
    assert refused.value.field == "route.mirror"


def many(number: int, api: EngineApi) -> Route:
    names = [f"chat-v{index}-aaaa" for index in range(number)]
    return Route("chat", {names[0]: 10_000}, tuple(map(service, names)), names[0], api=api)


def test_rules__as_many_as_a_route_holds__are_taken() -> None:
    assert len(spec_of(many(MOST_RULES - 2, SMALL), PLACE)["rules"]) == MOST_RULES


def test_rules__one_more__is_refused_in_our_words() -> None:
    with pytest.raises(InvalidInput, match="17 rules for its 15 variants") as refused:
        spec_of(many(MOST_RULES - 1, SMALL), PLACE)
    assert refused.value.field == "route.backends"


def test_matches__more_than_a_route_holds__are_refused() -> None:
    api = EngineApi(tuple(f"/v1/call{index}" for index in range(40)))
    with pytest.raises(InvalidInput, match=f"at most {MOST_MATCHES}") as refused:
        spec_of(many(3, api), PLACE)
    assert refused.value.field == "route.api"


def test_backend__address__is_not_known_here() -> None:
    backends = (at_address(V1, "10.0.0.1", 8000), service(V2))
    with pytest.raises(InvalidInput, match="does not know backends of kind 'address'"):
        spec_of(replace(two(0), backends=backends), PLACE)


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "x" * 64, "Team/chat", "a/b/c"])
def test_backend__no_name_of_a_service__is_refused_with_the_field(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        spec_of(replace(two(0), backends=(Backend(V1, "service", name=name), service(V2))), PLACE)
    assert refused.value.field == "route.backends"


def test_backend__other_namespace_and_port__are_in_the_reference() -> None:
    backend = Backend(V1, "service", name="team-b/chat-v1", address=":9000")
    ref = split(spec_of(replace(two(0), backends=(backend, service(V2))), PLACE))["backendRefs"][0]
    assert (ref["namespace"], ref["name"], ref["port"]) == ("team-b", "chat-v1", 9000)


def test_backend__one_service_for_two_variants__is_refused() -> None:
    with pytest.raises(InvalidInput, match="the same Service"):
        spec_of(replace(two(0), backends=(service(V1, "same"), service(V2, "same"))), PLACE)


def test_document__labels_and_annotations__say_whose_route_it_is_and_what_was_written() -> None:
    layout = RouteLayout((V1, V2), {V1: 9_500, V2: 500}, 17)
    document = document_of(two(500), PLACE, token=4, since=12.5, layout=layout)
    metadata = document["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("chat", "team-a")
    assert metadata["labels"]["headgate.dev/installation"] == "8d1f2c"
    annotations = metadata["annotations"]
    assert annotations["headgate.dev/desired-revision"] == "17"
    assert annotations["headgate.dev/places"] == f'["{V1}","{V2}"]'
    assert annotations["headgate.dev/fencing-token"] == "4"
    assert annotations["headgate.dev/backends-since"] == "12.500"
    assert annotations["headgate.dev/spec-digest"] == digest_of(document["spec"])
    assert all(isinstance(value, str) for value in annotations.values())


def test_document__backends_in_another_order__is_the_same() -> None:
    turned = replace(two(500), backends=tuple(reversed(two(500).backends)))
    assert spec_of(turned, PLACE) == spec_of(two(500), PLACE)


def test_arms_order__other_weights__is_the_same() -> None:
    assert arms_order(spec_of(two(500), PLACE)) == arms_order(spec_of(two(700), PLACE))


def test_arms_order__a_variant_more__is_another() -> None:
    three = replace(two(500), backends=(*two(500).backends, service("chat-v0-0000")))
    assert arms_order(spec_of(three, PLACE)) != arms_order(spec_of(two(500), PLACE))


ENDPOINTS = some.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)


@given(ENDPOINTS)
def test_route_name__any_endpoint__is_a_legal_name_and_part_of_a_host(endpoint: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", route_name(endpoint))


@given(some.lists(ENDPOINTS, unique=True, min_size=2, max_size=2))
def test_route_name__two_endpoints__never_have_the_same(endpoints: list[str]) -> None:
    one, other = endpoints
    assert route_name(one) != route_name(other)
    assert route_name(route_name(one)) != route_name(other) or route_name(one) == other


@given(some.integers(0, 10_000))
def test_split__any_share__weights_sum_to_the_whole(candidate_bp: int) -> None:
    found = weights(spec_of(two(candidate_bp), PLACE))
    assert sum(found.values()) == 10_000
    assert found[V2] == candidate_bp
