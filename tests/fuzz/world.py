"""An installation with a rollout in every phase, for tests that call everything there is."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.access.models import User
from controlplane.access.roles import Role
from controlplane.access.services import Scope, create_token
from registry.models import GoldenSet, Model
from rollouts.domain.lifecycle.states import Phase
from rollouts.models import Endpoint, GatePolicyVersion, Rollout, Variant
from tests import factories
from tests.factories import bandits

CANARIES = {
    Phase.PENDING: factories.rollout_pending,
    Phase.PROVISIONING: factories.rollout_launching,
    Phase.PAUSED: factories.rollout_paused,
    Phase.ROLLED_BACK: factories.rollout_rolled_back,
    Phase.SUCCEEDED: factories.rollout_promoted,
}
BANDITS = {
    "bandit-pending": bandits.bandit_pending,
    "bandit-launching": bandits.bandit_launching,
    "bandit-tied": bandits.bandit_tied,
    "bandit-promoted": bandits.bandit_promoted,
}


@dataclass(frozen=True)
class World:
    """Who calls, and what is there to be named: `values` by the part of an address that comes before them."""

    admin: User
    secret: str
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)


def build_world() -> World:
    """A rollout in every phase, each on an endpoint of its own; bandits; a token that may do everything."""
    admin = factories.person(Role.ADMINISTRATOR)
    _, secret = create_token(
        user=admin, name="everything", scopes=tuple(Scope), expires_at=None, now=factories.right_now()
    )
    for phase in Phase:
        _rollout_in(phase)
    for name, made in BANDITS.items():
        made(of=factories.endpoint(name, of=bandits.bandit_model()))
    factories.minutes_of_traffic(factories.endpoint("idle"))
    return World(admin, secret, _values())


def _rollout_in(phase: Phase) -> None:
    owner = factories.endpoint(f"canary-{phase.value}")
    if phase in CANARIES:
        made = CANARIES[phase](of=owner)
    else:
        made = factories.rollout_progressing(of=owner, intervals=4)
        made.phase = phase.value
        made.save()
    assert made.phase == phase.value


def _values() -> dict[str, tuple[str, ...]]:
    endpoints = tuple(Endpoint.objects.values_list("name", flat=True))
    models = tuple(Model.objects.values_list("name", flat=True))
    policies = tuple(GatePolicyVersion.objects.values_list("name", flat=True))
    sets = tuple(GoldenSet.objects.values_list("name", flat=True))
    return {
        "rollouts": tuple(str(number) for number in Rollout.objects.values_list("pk", flat=True)),
        "clusters": ("here", "local", "paris"),
        "endpoints": endpoints,
        "models": models,
        "policies": policies,
        "gate-policies": (*policies, *(f"{name}@1" for name in policies)),
        "golden-sets": sets,
        "versions": ("1", "2"),
        "variants": tuple(Variant.objects.values_list("name", flat=True)),
    }
