"""What is known of a gateway by trials, and when it is tried."""

from __future__ import annotations

import pytest

from rollouts.domain.capabilities import Capability
from rollouts.domain.trials import (
    AGAIN_SECONDS,
    GatewayTrait,
    KnownBy,
    TrialFinding,
    Trials,
    capabilities_now,
)

EVERY = frozenset(GatewayTrait)
CAN = frozenset({Capability.FORCED_VARIANT})


def finding(trait: GatewayTrait, *, holds: bool = True) -> TrialFinding:
    return TrialFinding(trait, holds, f"{trait.value} in numbers")


def tried(*findings: TrialFinding, gateway: str = "edge 1", at: float = 1000.0) -> Trials:
    return Trials(gateway, at, findings or (finding(GatewayTrait.KEEPS_ZERO),), gateway, at)


def test_due__never_tried__is() -> None:
    assert Trials().is_due("edge 1", 0.0)


def test_due__tried_in_this_state__is_not_for_ever() -> None:
    assert not tried().is_due("edge 1", 1e12)


def test_due__another_state__is_at_once() -> None:
    assert tried().is_due("edge 2", 1001.0)


@pytest.mark.parametrize(("after", "due"), [(1.0, False), (AGAIN_SECONDS, True), (-5.0, True)])
def test_due__trial_that_came_to_no_end__is_after_a_while(after: float, due: bool) -> None:
    last = Trials(tried="edge 1", tried_at=1000.0, problem="no node")
    assert last.is_due("edge 1", 1000.0 + after) is due


def test_due__later_trial_came_to_no_end__is_after_a_while() -> None:
    last = Trials("edge 1", 10.0, (finding(GatewayTrait.KEEPS_ZERO),), "edge 1", 1000.0, "no node")
    assert not last.is_due("edge 1", 1001.0)
    assert last.is_due("edge 1", 1000.0 + AGAIN_SECONDS)


def test_missing__refuted_header__is_the_forced_variant() -> None:
    assert tried(finding(GatewayTrait.HEADER_WINS, holds=False)).missing == CAN
    assert tried(finding(GatewayTrait.HEADER_WINS)).missing == frozenset()


def test_refuted__what_was_not_tried__is_not() -> None:
    assert not Trials().refuted(GatewayTrait.KEEPS_ZERO)


def test_json__as_it_was_written__is_read_back() -> None:
    whole = Trials(
        "edge 1", 10.0, (finding(GatewayTrait.KEEPS_ZERO, holds=False),), "edge 2", 20.0, "no node"
    )
    assert Trials.from_json(whole.to_json()) == whole
    assert Trials.from_json({}) == Trials()


def test_json__trait_of_a_newer_version__is_left_out() -> None:
    said = tried().to_json()
    said["findings"].append({"trait": "sings", "holds": True, "words": "la"})
    assert Trials.from_json(said) == tried()


def test_capabilities__gateway_that_was_not_tried__are_declared() -> None:
    found = {one.name: one.known_by for one in capabilities_now(CAN, EVERY, Trials())}
    assert found == {
        "keeps-zero": KnownBy.DECLARED,
        "header-wins": KnownBy.DECLARED,
        "mirrors-a-part": KnownBy.DECLARED,
        "fallback": KnownBy.MISSING,
        "sticky": KnownBy.MISSING,
    }


def test_capabilities__tried__are_proven_or_refuted_with_numbers_and_time() -> None:
    seen = tried(finding(GatewayTrait.KEEPS_ZERO), finding(GatewayTrait.HEADER_WINS, holds=False))
    zero, header, mirror, *_ = capabilities_now(CAN, frozenset({GatewayTrait.KEEPS_ZERO}), seen)
    assert (zero.known_by, zero.detail, zero.at) == (KnownBy.PROVEN, "Keeps-zero in numbers.", 1000.0)
    assert header.known_by is KnownBy.REFUTED
    assert (mirror.known_by, mirror.at) == (KnownBy.MISSING, None)


def test_capabilities__router_with_nothing_to_try__are_what_it_declares() -> None:
    found = {one.name: one.known_by for one in capabilities_now(CAN, None, Trials())}
    assert found == {one.value: KnownBy.DECLARED if one in CAN else KnownBy.MISSING for one in Capability}
