"""What the dry run says of a router that cannot do everything."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from controlplane.kernel.clock import ManualClock
from rollouts import wiring
from rollouts.adapters.routers.memory import CAN, MemoryRouter
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.capabilities import WORDS, Capability
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.strategies import STRATEGIES
from rollouts.domain.strategies.dry_run import Check
from rollouts.models import Endpoint
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
    others = (3,) if strategy == "bandit" else ()
    preview = preview_rollout(
        endpoint=endpoint, version_number=2, other_versions=others, plan=PLANS[strategy],
        worlds=without(*missing), now=NOW,
    )  # fmt: skip
    return [check for check in preview.checks if check.code.removeprefix("no-") in set(Capability)]


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
