"""Keeps MLflow true to what serves: each endpoint's alias, and the tags of the versions that were decided on.

Level-triggered, and for ever: what MLflow should say follows from our rows (which version is stable, how each rollout
ended) and is compared with what it was last read to say (the mirror). What differs is written, whoever changed it: our
own decision, somebody's hand, a database of MLflow that was restored. An endpoint that cannot be written keeps its
error and is tried again with growing pauses; all others are written. It runs beside the loop, never in it: no rollback
waits for MLflow.

The effects that decisions wrote (`WriteBack`) are what MLflow has not been told yet: they are done when it was read
back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q

from controlplane.audit.services import record
from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import Conflict
from controlplane.passes.services import Pauses, Report, run_each
from controlplane.timekeeping.claims import is_over
from controlplane.web.live import publish
from registry.models import Alias, AliasMove, Version
from registry.ports import ModelStore
from registry.services.write_back import decision_tags, point_alias, tag_version
from rollouts.domain.effects import WriteBack
from rollouts.domain.intervals import BASELINE
from rollouts.domain.states import Phase
from rollouts.models import Arm, Effect, EffectState, Endpoint, Variant
from rollouts.selectors import WRITE_BACKS
from rollouts.services.writing import tell

__all__ = ["WRITE_BACKS", "keep_mlflow_true"]

PAUSES = Pauses(first=5, longest=600)
PASS_SECONDS = 45.0
# Tags of versions that were decided on longer ago are history; the version that serves keeps its own for ever.
TAGS_KEPT = timedelta(days=30)
# Somebody else who moves our alias again and again is another machine: it is put back ever more slowly.
PATIENCE = timedelta(hours=1)
MOVES_IN_PATIENCE = 3
LOOKED_AT_WITHIN = timedelta(minutes=1)
SERVING, PROMOTED, ROLLED_BACK = "serving", "promoted", "rolled-back"


@dataclass(frozen=True, slots=True)
class _Wish:
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


def keep_mlflow_true(*, store: ModelStore, clock: Clock) -> Report:
    """Writes what differs, one endpoint after another. Eight queries when nothing does.

    What one endpoint takes is bounded by the store's time-out for each call. When the store does not answer at all,
    the run stops: the next one begins anew.
    """
    wishes = _wishes(clock.now())
    report = run_each(
        name=WRITE_BACKS,
        items=wishes,
        key=lambda wish: wish.endpoint.pk,
        label=lambda wish: f"alias {wish.endpoint.alias} of {wish.endpoint.model.name}",
        work=lambda wish: _write(wish, store, clock.now()),
        clock=clock,
        source=store.ping,
        pauses=PAUSES,
        seconds=PASS_SECONDS,
    )
    if report.news:
        publish("overview", *(f"endpoint:{wish.endpoint.pk}" for wish in wishes), now=clock.now())
    return report


def _write(wish: _Wish, store: ModelStore, now: datetime) -> None:
    endpoint, model = wish.endpoint, wish.endpoint.model.name
    if wish.rival:
        raise Conflict(
            f"{endpoint.name} and {wish.rival} both keep the alias {endpoint.alias} of {model}, and serve different "
            "versions.",
            fix="Give one of the endpoints an alias of its own.",
        )
    # The alias goes first: it is what others read. No alias can point to a version that was deleted there.
    if wish.version.gone_at is None and (wish.effects or wish.alias_at != wish.version.number):
        _point(wish, store, now)
    for version, tags in wish.tags.items():
        known = version.pk not in wish.untold and tags.items() <= version.tags.items()
        if version.gone_at is None and not known:
            tag_version(store=store, model=version.model.name, version_number=version.number, tags=tags)
    if wish.effects:
        gone = wish.version.gone_at is not None
        told = Effect.objects.filter(pk__in=[effect.pk for effect in wish.effects], state=EffectState.PENDING)
        told.update(
            state=EffectState.FAILED if gone else EffectState.DONE,
            done_at=now,
            problem=f"{wish.version} was deleted in MLflow: no alias can point to it." if gone else "",
        )


def _point(wish: _Wish, store: ModelStore, now: datetime) -> None:
    """Moves the alias, and tells of it once."""
    endpoint, version = wish.endpoint, wish.version
    put_back = not wish.effects
    if put_back:
        _be_patient(wish, now)
    by = f"endpoint {endpoint.name}"
    why = f"{version.label} serves: the alias follows it."
    if not put_back:
        rollout = wish.effects[-1].rollout
        by = f"rollout #{rollout.pk}" if rollout else by
        why = (rollout.cause_sentence or rollout.reason) if rollout else "first version of the endpoint"
    move = point_alias(
        store=store,
        model=endpoint.model.name,
        alias=endpoint.alias,
        version_number=version.number,
        by=by,
        why=why,
        now=now,
    )
    if move is None:
        return
    with transaction.atomic():
        record(
            at=now,
            actor="Headgate",
            actor_kind="headgate",
            action="alias.moved",
            object_kind="model",
            object_id=endpoint.model.name[:120],
            after={"alias": endpoint.alias, "version": version.number},
            why=by,
        )
        if put_back and wish.alias_at is not None:
            tell(
                endpoint=endpoint,
                rollout=None,
                kind="alias-put-back",
                title=f"The alias {endpoint.alias} pointed to v{wish.alias_at} in MLflow and was put back",
                detail=why,
                now=now,
            )
        publish(f"endpoint:{endpoint.pk}", "overview", now=now)


def _be_patient(wish: _Wish, now: datetime) -> None:
    """Raises Conflict when the alias was put back several times within the hour: the pause then grows by itself."""
    ours = AliasMove.objects.filter(
        model=wish.endpoint.model, alias=wish.endpoint.alias, by=f"endpoint {wish.endpoint.name}"
    )
    recent = list(
        ours.filter(moved_at__gt=now - PATIENCE).order_by("-moved_at").values_list("moved_at", flat=True)
    )
    if len(recent) < MOVES_IN_PATIENCE or recent[0] is None:
        return
    pause = timedelta(seconds=min(PATIENCE.total_seconds(), 60.0 * 2 ** (len(recent) - MOVES_IN_PATIENCE)))
    if not is_over(recent[0], now=now, lifetime=pause):
        raise Conflict(
            f"Somebody else moves the alias too: it was put back {len(recent)} times within the hour and points to "
            f"v{wish.alias_at} again.",
            fix="Find who moves it, or give the endpoint an alias of its own.",
        )


# --- what MLflow should say -------------------------------------------------------------------------------------------


def _wishes(now: datetime) -> list[_Wish]:
    """One for each endpoint that has served. The waiting effects are read first: what they ask for is then seen."""
    pending = Effect.objects.filter(kind=WriteBack.kind, state=EffectState.PENDING)
    effects: dict[int, list[Effect]] = {}
    for effect in pending.order_by("pk").select_related("rollout"):
        effects.setdefault(effect.endpoint_id, []).append(effect)
    # A database that was restored from an older copy does not know what serves until the loop has looked.
    looked_at = Q(reconciled_at=None) | Q(reconciled_at__gt=now - LOOKED_AT_WITHIN)
    endpoints = list(
        Endpoint.objects.filter(looked_at, restored_state="")
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
    wishes = []
    for endpoint in endpoints:
        assert endpoint.stable is not None
        serving = endpoint.stable.version_id
        about = {serving, *of_endpoint.get(endpoint.pk, ())}
        wishes.append(
            _Wish(
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
    return wishes


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
    names = {str(effect.payload["tagged_variant"]) for some in effects.values() for effect in some}
    found: dict[int, set[int]] = {}
    for endpoint_id, version_id in Variant.objects.filter(name__in=names).values_list(
        "endpoint_id", "version_id"
    ):
        found.setdefault(endpoint_id, set()).add(version_id)
    return found


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
