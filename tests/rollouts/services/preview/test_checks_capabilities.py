"""What the dry run says of a router that cannot do everything."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Refused
from rollouts import wiring
from rollouts.adapters.routers.memory import CAN, MemoryRouter
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.capabilities import WORDS, Capability
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.strategies import STRATEGIES
from rollouts.domain.strategies.dry_run import Check
from rollouts.domain.trials import TRIED, GatewayTrait, TrialFinding, Trials
from rollouts.models import Endpoint
from rollouts.services.commands.start import start_rollout
from rollouts.services.preview.rollout import preview_rollout
from rollouts.services.world import Worlds
from tests import factories
from tests.rollouts.worlds import worlds_of

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
PLANS = {"canary": factories.PLAN, "bandit": Plan("bandit", (), settings=BanditSpec())}


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint(now=NOW)


def without(*missing: Capability) -> Worlds:
    """The endpoint's cluster, behind a router that cannot do these."""
    router = MemoryRouter(ManualClock(NOW), random.Random(7), can=CAN - set(missing))
    return worlds_of(replace(wiring.worlds().of("here"), router=router))


def said(endpoint: Endpoint, strategy: str, *missing: Capability) -> list[Check]:
    """The checks of capabilities."""
    return [
        check
        for check in every_check(endpoint, strategy, *missing)
        if check.code.removeprefix("no-") in set(Capability)
    ]


def every_check(endpoint: Endpoint, strategy: str, *missing: Capability) -> tuple[Check, ...]:
    others = (3,) if strategy == "bandit" else ()
    preview = preview_rollout(
        endpoint=endpoint, version_number=2, other_versions=others, plan=PLANS[strategy],
        worlds=without(*missing), now=NOW,
    )  # fmt: skip
    return preview.checks


def test_plans__every_strategy__is_tried_here() -> None:
    assert set(PLANS) == set(STRATEGIES)
    assert set(WORDS) == set(Capability)


@pytest.mark.parametrize("strategy", PLANS)
def test_preview__router_that_can_what_is_needed__says_nothing_of_the_rest(
    endpoint: Endpoint, strategy: str
) -> None:
    """No strategy copies requests or keeps callers, so nothing is said of a router that cannot."""
    assert set(Capability) > CAN
    assert said(endpoint, strategy) == []


@pytest.mark.parametrize("needed", [one for one in Capability if one not in CAN])
def test_preview__strategy_that_needs_what_the_router_cannot__is_refused_with_its_words(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, needed: Capability
) -> None:
    monkeypatch.setattr(STRATEGIES["canary"], "NEEDS", CAN | {needed})
    (check,) = said(endpoint, "canary")
    assert (check.state, check.code) == ("refused", f"no-{needed.value}")
    assert check.title == f"The router of here cannot {needed.words}"


@pytest.mark.parametrize("strategy", PLANS)
def test_preview__no_forced_variant__is_refused_by_name_of_the_cluster(
    endpoint: Endpoint, strategy: str
) -> None:
    (check,) = said(endpoint, strategy, Capability.FORCED_VARIANT)
    assert (check.state, check.code) == ("refused", "no-forced-variant")
    assert check.title == "The router of here cannot send a request to one variant on purpose"
    assert check.fix


@pytest.mark.parametrize("strategy", PLANS)
def test_preview__no_fallback__warns_that_requests_are_lost(endpoint: Endpoint, strategy: str) -> None:
    (check,) = said(endpoint, strategy, Capability.FALLBACK)
    assert check.state == "warning"
    assert "requests are lost here" in check.detail
    assert "has no effect here" in check.detail


def test_preview__no_fallback_and_nobody_is_to_answer__does_not_speak_of_the_switch(
    endpoint: Endpoint,
) -> None:
    endpoint.rescue = False
    (check,) = said(endpoint, "canary", Capability.FALLBACK)
    assert "has no effect" not in check.detail


# --- what a trial refuted ---------------------------------------------------------------------------------------------


def tried(endpoint: Endpoint, trait: GatewayTrait, *, holds: bool) -> None:
    found = TrialFinding(trait, holds, "a backend got 3 of 200 requests")
    endpoint.cluster.trials = Trials("edge", 10.0, (found,), "edge", 10.0).to_json()
    endpoint.cluster.save()


@pytest.mark.parametrize("strategy", PLANS)
def test_preview__weight_zero_leaks__refuses_a_first_share_with_what_was_found(
    endpoint: Endpoint, strategy: str
) -> None:
    tried(endpoint, GatewayTrait.KEEPS_ZERO, holds=False)
    (check,) = [one for one in every_check(endpoint, strategy) if one.code == "no-zero-share"]
    assert check.state == "refused"
    assert check.title == "The router of here cannot keep requests away from a variant with a share of 0"
    assert "a backend got 3 of 200 requests" in check.detail
    assert "manage.py try_gateway here" in check.fix


@pytest.mark.parametrize("strategy", PLANS)
def test_preview__forced_variant_is_declared_and_refuted__is_refused_with_what_was_found(
    endpoint: Endpoint, strategy: str
) -> None:
    tried(endpoint, GatewayTrait.HEADER_WINS, holds=False)
    (check,) = said(endpoint, strategy)
    assert (check.state, check.code) == ("refused", "no-forced-variant")
    assert "When its gateway was tried, a backend got 3 of 200 requests." in check.detail


@pytest.mark.parametrize("trait", TRIED)
def test_preview__proven__says_nothing(endpoint: Endpoint, trait: GatewayTrait) -> None:
    tried(endpoint, trait, holds=True)
    assert [one for one in every_check(endpoint, "canary") if one.code.startswith("no-")] == []


def test_preview__mirror_is_refuted_and_nobody_needs_it__says_nothing(endpoint: Endpoint) -> None:
    tried(endpoint, GatewayTrait.MIRRORS_A_PART, holds=False)
    assert [one for one in every_check(endpoint, "canary") if one.code.startswith("no-")] == []


def test_start__weight_zero_leaks__is_refused(endpoint: Endpoint) -> None:
    tried(endpoint, GatewayTrait.KEEPS_ZERO, holds=False)
    manager = Actor.person(factories.person(Role.RELEASE_MANAGER))
    with pytest.raises(Refused, match="keep requests away") as refusal:
        start_rollout(
            endpoint=endpoint, version_number=2, plan=PLANS["canary"], actor=manager,
            worlds=without(), now=NOW,
        )  # fmt: skip
    assert refusal.value.code == "no-zero-share"
