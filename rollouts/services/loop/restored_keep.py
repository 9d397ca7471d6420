"""Keeping what serves after a restore: the variant that has the traffic becomes the stable one, known to the database
again.

A variant that the database knows is kept as it is, whatever became of its version and of what may be set since then.
But a copy may be older than the variant. What the cluster was asked to launch says all that a variant is, and its name
is a hash of that: a variant that is written down again under the same name is the same one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from controlplane.kernel.errors import HeadgateError, Refused
from registry.models import Version
from rollouts.domain.lifecycle.effects import DrainWorkload
from rollouts.domain.lifecycle.moves import end_watch, overtaken
from rollouts.domain.lifecycle.states import ACTIVE, Phase
from rollouts.domain.restored import Restored
from rollouts.domain.variants import ServingSpec, variant_digest, variant_name
from rollouts.models import Effect, EffectState, Endpoint, Rollout, Variant, Workload
from rollouts.ports import FULL_SHARE_BP, WorkloadSpec
from rollouts.services.commands.endpoints import CheckedSpec, checked_spec, ensure_variant
from rollouts.services.locks import lock_rollout
from rollouts.services.loop.backends import backend_json
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.views import view_of
from rollouts.services.world import World
from rollouts.services.writing import add_effects, apply_decision

UNKNOWN = "this database does not know it, and the cluster does not say what it was launched with"


@dataclass(frozen=True, slots=True)
class Unknown:
    """What a variant is that the database does not know, proven by its name."""

    version: Version
    spec: CheckedSpec


Keepable = Variant | Unknown | HeadgateError  # the last: why it cannot be kept


def find_keepable(*, endpoint: Endpoint, names: Iterable[str], world: World) -> dict[str, Keepable]:
    """What each variant would be kept as. Asks the cluster: call it outside a transaction."""
    wanted = set(names)
    known = {variant.name: variant for variant in Variant.objects.filter(endpoint=endpoint, name__in=wanted)}
    keepable: dict[str, Keepable] = {**known}
    for name in wanted - set(known):
        try:
            keepable[name] = _launched(endpoint, name, world)
        except HeadgateError as error:
            keepable[name] = error
    return keepable


def keep_variant(
    *, endpoint: Endpoint, found: Restored, kept: Keepable, seen: Observation, now: datetime
) -> str:
    """Makes the chosen variant the stable one and ends what the database holds for under way; returns what is in the
    way, empty when it is done. Runs inside a transaction."""
    status = seen.status(found.choice)
    if status is None or not status.is_ready:
        return f"{found.choice} is not known to be ready."
    if isinstance(kept, HeadgateError):
        return str(kept)
    if isinstance(kept, Unknown):
        variant = ensure_variant(endpoint=endpoint, version=kept.version, spec=kept.spec, now=now)
    else:
        variant = kept
    _end_rollouts(endpoint, found.choice, now)
    Effect.objects.filter(endpoint=endpoint, state=EffectState.PENDING).update(
        state=EffectState.SUPERSEDED, done_at=now
    )
    backend = {} if status.backend is None else backend_json(status.backend)
    Workload.objects.filter(variant=variant).update(
        wanted=True, wanted_since=now, phase=status.phase.value, backend=backend
    )
    others = Workload.objects.filter(variant__endpoint=endpoint, wanted=True).exclude(variant=variant)
    drained = tuple(map(DrainWorkload, others.values_list("variant__name", flat=True)))
    add_effects(endpoint=endpoint, rollout=None, effects=drained, now=now)
    endpoint.stable, endpoint.previous = variant, None
    endpoint.desired_shares, endpoint.desired_fallback = {variant.name: FULL_SHARE_BP}, variant.name
    endpoint.outage = {}
    endpoint.save(update_fields=["stable", "previous", "desired_shares", "desired_fallback", "outage"])
    return ""


def _end_rollouts(endpoint: Endpoint, kept: str, now: datetime) -> None:
    sentence = f"The database was restored from an older copy, and {kept} was kept, which serves."
    active = Rollout.objects.filter(endpoint=endpoint, phase__in=[phase.value for phase in ACTIVE])
    for pk in list(active.values_list("pk", flat=True)):
        rollout = lock_rollout(pk)
        decision = overtaken(view_of(rollout), sentence=sentence)
        apply_decision(rollout=rollout, decision=decision, now=now)
    watched = Rollout.objects.filter(endpoint=endpoint, phase=Phase.SUCCEEDED.value, watching=True)
    for pk in list(watched.values_list("pk", flat=True)):
        rollout = lock_rollout(pk)
        decision = end_watch(view_of(rollout), sentence=sentence, keep_baseline=True)
        apply_decision(rollout=rollout, decision=decision, now=now)


def _launched(endpoint: Endpoint, name: str, world: World) -> Unknown:
    """What the cluster says that it launched. Raises Refused when that is not what the name says or may not be stored,
    and what the cluster raises."""
    number = re.fullmatch(rf"{re.escape(endpoint.name)}-v(\d+)-[0-9a-f]+", name)
    launched = world.cluster.launched(name)
    if number is None or launched is None:
        raise Refused(f"{name} cannot be kept: {UNKNOWN}.", code="cannot-be-kept")
    version = Version.objects.filter(model=endpoint.model_id, number=int(number[1])).first()
    if version is None or version.manifest_value is None:
        raise Refused(
            f"{name} cannot be kept: the files of version {number[1]} are not registered here.",
            code="cannot-be-kept",
            fix="Wait until the mirror has read MLflow and taken the version's manifest.",
        )
    for spec in _specs(endpoint, launched):
        if _name_of(endpoint, version, spec) != name:
            continue
        checked = checked_spec(endpoint=endpoint, version=version, spec=spec, cluster=world.cluster)
        if _name_of(endpoint, version, checked) != name:
            raise Refused(
                f"{name} cannot be kept: its secrets were not encrypted yet when it was launched, and encrypted it has "
                "another name.",
                code="cannot-be-kept",
            )
        return Unknown(version, checked)
    raise Refused(
        f"{name} cannot be kept: what it was launched with is not what its name says.", code="cannot-be-kept"
    )


def _name_of(endpoint: Endpoint, version: Version, spec: ServingSpec) -> str:
    digest = variant_digest(manifest_digest=version.manifest_digest, spec=spec)
    return variant_name(endpoint=endpoint.name, version=version.number, digest=digest)


def _specs(endpoint: Endpoint, launched: WorkloadSpec) -> Iterator[ServingSpec]:
    """The serving specs that it may have: launches of an earlier version do not say which resources were asked for."""
    asked: list[Mapping[str, int]] = [launched.resources, {}]
    asked += [variant.spec.resources for variant in Variant.objects.filter(endpoint=endpoint)]
    for resources in asked:
        yield ServingSpec(
            engine=launched.engine,
            arguments=launched.arguments,
            environment=launched.environment,
            resources=resources,
            replicas=launched.replicas,
            image=launched.image,
            accelerators=launched.accelerators,
            adopts=launched.adopts,
        )
