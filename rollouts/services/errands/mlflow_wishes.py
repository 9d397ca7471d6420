"""What MLflow should say of what serves: each endpoint's alias, and the tags of the versions that were decided on.

Typed reads of our own rows, and of what the mirror last read; MLflow itself is not asked. `write_backs` makes it true.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F, Q

from registry.models import Alias, Version
from registry.services.write_back import decision_tags
from rollouts.domain.lifecycle.effects import WriteBack
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Arm, Effect, EffectState, Endpoint, Variant

# Tags of versions that were decided on longer ago are history; the version that serves keeps its own for ever.
TAGS_KEPT = timedelta(days=30)
LOOKED_AT_WITHIN = timedelta(minutes=1)
SERVING, PROMOTED, ROLLED_BACK = "serving", "promoted", "rolled-back"


@dataclass(frozen=True, slots=True)
class Wish:
    """What MLflow should say for one endpoint, and what it was last read to say.

    version   the one that serves; `alias_at` is the number that the alias points to, None when it is not there
    tags      wanted tags by version
    effects   decisions that MLflow was not told of yet, oldest first
    untold    ids of the versions that these are about
    rival     another endpoint that keeps the same alias of the same model, empty when there is none
    """

    endpoint: Endpoint
    version: Version
    alias_at: int | None
    tags: Mapping[Version, Mapping[str, str]]
    effects: Sequence[Effect]
    untold: Collection[int]
    rival: str

    @property
    def alias_differs(self) -> bool:
        """No alias can point to a version that was deleted there. A decision is told even where the alias was last read
        to be right."""
        return self.version.gone_at is None and (bool(self.effects) or self.alias_at != self.version.number)

    @property
    def untrue_tags(self) -> dict[Version, Mapping[str, str]]:
        """Wanted tags that MLflow is not known to have, by version; deleted versions have none."""
        return {
            version: tags
            for version, tags in self.tags.items()
            if version.gone_at is None
            and (version.pk in self.untold or not tags.items() <= version.tags.items())
        }

    @property
    def differs(self) -> bool:
        return bool(self.effects) or self.alias_differs or bool(self.untrue_tags)


def wish_of(endpoint: Endpoint, now: datetime) -> Wish | None:
    """What is wanted of one endpoint now; None while nobody knows what it serves. Eight queries."""
    of_model = wishes(now, model_id=endpoint.model_id)
    return next((wish for wish in of_model if wish.endpoint.pk == endpoint.pk), None)


def wishes(now: datetime, *, model_id: int | None = None) -> list[Wish]:
    """One for each endpoint that has served, with `model_id` for those of that model. Eight queries at most.

    The waiting effects are read first: what they ask for is then seen.
    """
    pending = Effect.objects.filter(kind=WriteBack.kind, state=EffectState.PENDING)
    if model_id is not None:
        pending = pending.filter(endpoint__model=model_id)
    effects: dict[int, list[Effect]] = {}
    for effect in pending.order_by("pk").select_related("rollout"):
        effects.setdefault(effect.endpoint_id, []).append(effect)
    # A database that was restored from an older copy does not know what serves until the loop has looked.
    looked_at = Q(reconciled_at=None) | Q(reconciled_at__gt=now - LOOKED_AT_WITHIN)
    of_model = Q() if model_id is None else Q(model=model_id)
    endpoints = list(
        Endpoint.objects.filter(looked_at, of_model, restored_state="")
        .exclude(stable=None)
        .exclude(desired_shares={})
        .select_related("model", "stable__version__model")
        .defer("stable__version__manifest", "stable__version__file_classes", "last_reading")
        .order_by("pk")
    )
    if not endpoints:
        return []
    decisions, of_endpoint = _decisions(endpoints, now)
    versions = _versions(endpoints, of_endpoint)
    aliases = _aliases(endpoints)
    untold = _versions_of_effects(effects)
    made = []
    for endpoint in endpoints:
        assert endpoint.stable is not None
        serving = endpoint.stable.version_id
        about = {serving, *of_endpoint.get(endpoint.pk, ())}
        made.append(
            Wish(
                endpoint=endpoint,
                version=versions[serving],
                alias_at=aliases.get((endpoint.model_id, endpoint.alias)),
                tags={
                    versions[pk]: _tags(versions[pk], *decisions.get(pk, (SERVING, "")))
                    for pk in sorted(about)
                },
                effects=effects.get(endpoint.pk, ()),
                untold=untold.get(endpoint.pk, ()),
                rival=_rival(endpoint, endpoints),
            )
        )
    return made


def _decisions(
    endpoints: Sequence[Endpoint], now: datetime
) -> tuple[dict[int, tuple[str, str]], dict[int, set[int]]]:
    """The last decision about each version (the word, the rollout's number), and the versions by endpoint. One query.

    A version that two endpoints decided on carries the last word of both.
    """
    recent = Q(rollout__phase_since__gte=now - TAGS_KEPT)
    serves = Q(variant__in=[endpoint.stable_id for endpoint in endpoints])
    back = Q(rollout__phase=Phase.ROLLED_BACK.value)
    promoted = Q(rollout__phase=Phase.SUCCEEDED.value, variant=F("rollout__candidate"))
    rows = (
        Arm.objects.filter(recent | serves, back | promoted, rollout__endpoint__in=endpoints)
        .exclude(name=BASELINE)
        .order_by("rollout_id")
        .values_list("rollout__endpoint_id", "variant__version_id", "rollout__phase", "rollout_id")
    )
    decisions: dict[int, tuple[str, str]] = {}
    of_endpoint: dict[int, set[int]] = {}
    for endpoint_id, version_id, phase, rollout_id in rows:
        word = ROLLED_BACK if phase == Phase.ROLLED_BACK.value else PROMOTED
        decisions[version_id] = (word, str(rollout_id))
        of_endpoint.setdefault(endpoint_id, set()).add(version_id)
    return decisions, of_endpoint


def _versions(endpoints: Sequence[Endpoint], of_endpoint: Mapping[int, set[int]]) -> dict[int, Version]:
    """Every version that carries tags, by id, without its manifest. One query."""
    wanted = {endpoint.stable.version_id for endpoint in endpoints if endpoint.stable is not None}
    wanted.update(*of_endpoint.values())
    found = Version.objects.filter(pk__in=wanted).select_related("model").defer("manifest", "file_classes")
    return {version.pk: version for version in found}


def _aliases(endpoints: Sequence[Endpoint]) -> dict[tuple[int, str], int]:
    """Where the aliases pointed when MLflow was last read. One query."""
    rows = Alias.objects.filter(model__in={endpoint.model_id for endpoint in endpoints})
    return {
        (model_id, name): number
        for model_id, name, number in rows.values_list("model_id", "name", "version__number")
    }


def _versions_of_effects(effects: Mapping[int, Sequence[Effect]]) -> dict[int, set[int]]:
    """Which versions the waiting decisions are about, by endpoint. One query."""
    names = {_tagged_variant(effect) for some in effects.values() for effect in some}
    found: dict[int, set[int]] = {}
    for endpoint_id, version_id in Variant.objects.filter(name__in=names).values_list(
        "endpoint_id", "version_id"
    ):
        found.setdefault(endpoint_id, set()).add(version_id)
    return found


def _tagged_variant(effect: Effect) -> str:
    """The variant that a decision is about; empty where what is stored of the decision is odd, which stops no other."""
    payload: object = effect.payload
    return str(payload.get("tagged_variant", "")) if isinstance(payload, Mapping) else ""


def _rival(endpoint: Endpoint, endpoints: Sequence[Endpoint]) -> str:
    """Another endpoint that wants the same alias on another version."""
    assert endpoint.stable is not None
    for other in endpoints:
        same = (other.model_id, other.alias) == (
            endpoint.model_id,
            endpoint.alias,
        ) and other.pk != endpoint.pk
        if same and other.stable is not None and other.stable.version_id != endpoint.stable.version_id:
            return other.name
    return ""


def _tags(version: Version, decision: str, rollout: str) -> dict[str, str]:
    return decision_tags(rollout=rollout, decision=decision, digest=version.manifest_digest)
