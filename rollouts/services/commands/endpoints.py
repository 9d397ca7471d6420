"""Endpoints and variants come into being."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NewType

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from controlplane.access.actors import Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.kernel.errors import Conflict, InvalidInput, NotFound, Refused
from registry.models import GoldenSet, Model, Version
from rollouts.domain.lifecycle.effects import EnsureWorkload
from rollouts.domain.variants import ServingSpec, variant_digest, variant_name
from rollouts.models import Cluster, Endpoint, GatePolicyVersion, Variant, Workload
from rollouts.models.endpoints import check_name
from rollouts.ports import Cluster as ClusterPort
from rollouts.services.commands.secrets import sealed_spec
from rollouts.services.commands.serving_specs import check_serving
from rollouts.services.locks import locked_endpoints
from rollouts.services.world import Worlds
from rollouts.services.writing import add_effects, note_change


def ensure_cluster(*, name: str, kind: str = "local") -> Cluster:
    """The cluster of that name, made when it does not exist."""
    return Cluster.objects.get_or_create(name=name, defaults={"kind": kind})[0]


CheckedSpec = NewType("CheckedSpec", ServingSpec)
"""A spec that the cluster would serve, with its secrets sealed: the only kind that is stored."""


def checked_spec(
    *, endpoint: Endpoint, version: Version, spec: ServingSpec, cluster: ClusterPort
) -> CheckedSpec:
    """The spec as a variant of this endpoint stores it: before, it may hold secrets as they were sent.

    Asks the endpoint's `cluster`: call it outside a transaction. Raises Refused when the version's files may not be
    launched or no key is there to seal with, InvalidInput naming the field when the cluster would not serve it so, and
    Unavailable when the cluster cannot say now (`check_serving`).
    """
    check_launchable(version)
    options = check_serving(spec=spec, version=version, cluster=cluster)
    return CheckedSpec(sealed_spec(spec=spec, options=options, stable=endpoint.stable))


def _as_it_runs(serving: ServingSpec, endpoint: str, cluster: ClusterPort) -> ServingSpec:
    """The spec with as many replicas as the server has that it adopts, as far as the cluster gives them to a variant: a
    candidate gets as many."""
    if not serving.adopts:
        return serving
    cluster.limits().check_adopts(serving.adopts, prefix="serving.")
    try:
        replicas = cluster.adoptable(serving.adopts, endpoint)
    except InvalidInput as error:
        raise InvalidInput(error.message, field="serving.adopts", fix=error.fix) from error
    return replace(serving, replicas=min(replicas, cluster.limits().replicas))


def ensure_variant(*, endpoint: Endpoint, version: Version, spec: CheckedSpec, now: datetime) -> Variant:
    """The one variant of this content."""
    digest = variant_digest(manifest_digest=version.manifest_digest, spec=spec)
    variant, _ = Variant.objects.get_or_create(
        endpoint=endpoint,
        version=version,
        digest=digest,
        defaults={
            "name": variant_name(endpoint=endpoint.name, version=version.number, digest=digest),
            "serving": spec.to_json(),
            "created_at": now,
        },
    )
    Workload.objects.get_or_create(variant=variant)
    return variant


def check_launchable(version: Version) -> None:
    """Raises Refused, with the reason and the remedy, when a version may not be launched."""
    if version.gone_at is not None:
        raise Refused(
            f"{version} was deleted in MLflow.", code="version-gone", fix="Choose a version that exists."
        )
    if version.manifest_state == "pending":
        raise Refused(
            f"The files of {version} were not read yet.",
            code="manifest-pending",
            fix="Wait until its manifest was taken, usually some seconds after registration.",
        )
    if not version.may_launch:
        raise Refused(
            f"{version} may not be launched: {(version.manifest_problem or version.manifest_state).rstrip('.')}.",
            code="manifest-" + version.manifest_state,
            # What is wrong with files that were never right, is said with its remedy already.
            fix="Restore the files as they were registered, or register a new version."
            if version.manifest_state == "changed"
            else "",
        )


@requires(Action.EDIT_ENDPOINT)
def create_endpoint(
    *,
    name: str,
    model: Model,
    version: Version,
    serving: ServingSpec,
    gate_policy: GatePolicyVersion,
    golden_set: GoldenSet | None,
    cluster: Cluster,
    worlds: Worlds,
    actor: Actor,
    now: datetime,
    alias: str = "",
    environment: str = "production",
    rescue: bool = True,
) -> Endpoint:
    """Makes an endpoint and asks for its first variant to run; it is routed as soon as it is ready.

    worlds  that of `cluster` is asked whether it would serve the version so
    rescue  whether a healthy variant that no gate blames answers for a dead one

    Raises Forbidden, Conflict (the name is taken), InvalidInput (name, golden set missing for a paired gate, whatever
    the engine's options do not allow), Refused (the version may not be launched), Unavailable (the cluster cannot say
    now).
    """
    try:
        check_name(name)
    except ValidationError as error:
        raise InvalidInput(f"{name!r} is no endpoint name. {error.messages[0]}", field="name") from error
    for field, value, longest in (("alias", alias, 80), ("environment", environment, 40)):
        if len(value) > longest:
            raise InvalidInput(f"{field} has at most {longest} characters.", field=field, fix="Shorten it.")
    if version.model_id != model.pk:
        raise InvalidInput(f"{version} is not a version of {model.name}.", field="version")
    if golden_set is None and any(gate.kind == "paired" for gate in gate_policy.policy.gates):
        raise InvalidInput(
            f"{gate_policy} has a gate on a golden set, and the endpoint has none.",
            field="golden_set",
            fix="Upload a golden set, or choose a policy without one.",
        )
    endpoint = Endpoint(
        name=name,
        environment=environment,
        cluster=cluster,
        model=model,
        gate_policy=gate_policy,
        golden_set=golden_set,
        alias=alias or f"{name}-production",
        rescue=rescue,
        created_at=now,
    )
    asked = worlds.of(cluster.name).cluster
    asked_for = _as_it_runs(serving, name, asked)
    spec = checked_spec(endpoint=endpoint, version=version, spec=asked_for, cluster=asked)
    try:
        with transaction.atomic():
            endpoint.save(force_insert=True)
            variant = ensure_variant(endpoint=endpoint, version=version, spec=spec, now=now)
            endpoint.stable = variant
            endpoint.desired_fallback = variant.name
            endpoint.save(update_fields=["stable", "desired_fallback"])
            add_effects(endpoint=endpoint, rollout=None, effects=(EnsureWorkload(variant.name),), now=now)
            note_change(
                endpoint=endpoint,
                action="endpoint.created",
                kind="endpoint-created",
                title=f"Endpoint {name} created with {variant.name}",
                after={"variant": variant.name, "gate_policy": str(gate_policy)},
                actor=actor,
                now=now,
            )
    except IntegrityError as error:
        raise Conflict(
            f"An endpoint {name!r} exists.", code="endpoint-exists", fix="Choose another name."
        ) from error
    return endpoint


@requires(Action.EDIT_ENDPOINT)
def set_rescue(*, endpoint_name: str, on: bool, actor: Actor, now: datetime) -> Endpoint:
    """Sets whether a healthy variant that no gate blames answers for a dead one. The router follows at its next turn.

    Set to what it is, nothing changes. Raises Forbidden, NotFound.
    """
    with transaction.atomic():
        endpoint = locked_endpoints().filter(name=endpoint_name).first()
        if endpoint is None:
            raise NotFound(f"There is no endpoint {endpoint_name!r}.", code="endpoint-not-found")
        if endpoint.rescue == on:
            return endpoint
        endpoint.rescue = on
        endpoint.save(update_fields=["rescue"])
        note_change(
            endpoint=endpoint,
            action="endpoint.rescue-set",
            kind="rescue",
            title="Another variant answers for a dead one" if on else "Nobody answers for a dead baseline",
            detail="" if on else "the baseline still answers for a dead candidate",
            before={"rescue": not on},
            after={"rescue": on},
            actor=actor,
            now=now,
        )
    return endpoint
