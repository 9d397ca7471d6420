"""Clusters as people see and set them: what they are, whether they can be used, and why not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from controlplane.access.actors import Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.audit.services import record
from controlplane.kernel.errors import InvalidInput, NotFound, Unavailable
from controlplane.kernel.stored import ODD
from controlplane.passes.words import odd_words
from rollouts.domain.belongings import Belongings
from rollouts.domain.clusters import ClusterSpec
from rollouts.domain.secrets import FILE_NAME
from rollouts.domain.trials import CapabilityNow, Trials, capabilities_now
from rollouts.models import Cluster
from rollouts.models.endpoints import check_name
from rollouts.services.loop.leases import look_soon
from rollouts.services.policies.versions import first_of
from rollouts.services.world import Worlds

LONGEST_CONFIGURATION = 50  # values
Problems = Callable[[ClusterSpec], Sequence[InvalidInput]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterNow:
    """A cluster and whether this process can use it. No secret is in it, only the name of one.

    problem      why it cannot be used; None when it can. Nobody is asked: a cluster that does not answer can be used
    endpoint_url where people reach the endpoint of a name; None while it cannot be used
    belongings   what was found there last that no endpoint uses; None when it was never looked at
    capabilities what its router can do, each with how that is known; none while it cannot be used
    trials       of its gateway; None where there is nothing to try
    """

    name: str
    kind: str
    configuration: Mapping[str, Any]
    secret: str
    problem: Unavailable | None
    endpoint_url: Callable[[str], str] | None
    belongings: Belongings | None = None
    capabilities: tuple[CapabilityNow, ...] = ()
    trials: Trials | None = None


def all_clusters(*, worlds: Worlds) -> tuple[ClusterNow, ...]:
    """Every cluster, by name. 1 query."""
    return tuple(cluster_now(row, worlds=worlds) for row in Cluster.objects.order_by("name"))


def one_cluster(*, name: str, worlds: Worlds) -> ClusterNow:
    """One cluster. Raises NotFound. 1 query."""
    row = Cluster.objects.filter(name=name).first()
    if row is None:
        raise NotFound(f"There is no cluster {name!r}.", code="cluster-not-found")
    return cluster_now(row, worlds=worlds)


@requires(Action.MANAGE_CLUSTERS)
def set_cluster(
    *,
    name: str,
    kind: str,
    configuration: Mapping[str, Any],
    secret: str,
    problems: Problems,
    actor: Actor,
    now: datetime,
) -> bool:
    """Writes a cluster down, a new one or another configuration of one that there is; True when it was made.

    problems  everything that is wrong with a cluster as it would be written down

    Processes that run take the change over by themselves; nothing is moved or ended by it. What it says already changes
    nothing. Raises Forbidden, and InvalidInput naming every wrong field.
    """
    spec = ClusterSpec(name, kind, dict(configuration), secret)
    _check_form(spec)
    with transaction.atomic():
        # All rows, so that two that are written down at once see each other: they must share no folder and no port.
        rows = {row.name: row for row in Cluster.objects.select_for_update(no_key=True).order_by("name")}
        row = rows.get(name)
        if row is not None and _says(row.spec) == _says(spec):
            return False
        wrong = problems(spec)
        if wrong:
            raise first_of(wrong)
        before = None if row is None else _audited(row.spec)
        Cluster.objects.update_or_create(
            name=name, defaults={"kind": kind, "configuration": spec.configuration, "secret": secret}
        )
        record(
            at=now,
            actor=actor.name,
            actor_kind=actor.kind,
            action="cluster.created" if row is None else "cluster.changed",
            object_kind="cluster",
            object_id=name,
            before=before,
            after=_audited(spec),
            request_id=actor.request_id,
        )
        look_soon(cluster__name=name)
    return row is None


def _check_form(spec: ClusterSpec) -> None:
    try:
        check_name(spec.name)
    except ValidationError as error:
        raise InvalidInput(
            f"{spec.name!r} is no name of a cluster. {error.messages[0]}", field="name"
        ) from error
    if spec.secret and FILE_NAME.fullmatch(spec.secret) is None:
        raise InvalidInput(
            f"{spec.secret!r} is no name of a secret file.",
            field="secret",
            fix="Give the name of a file in the folder of the clusters' secrets, without a folder.",
        )
    if len(spec.configuration) > LONGEST_CONFIGURATION:
        raise InvalidInput(
            f"The configuration has more than {LONGEST_CONFIGURATION} values.",
            field="configuration",
            fix="Send what the kind asks for only.",
        )


def cluster_now(row: Cluster, *, worlds: Worlds) -> ClusterNow:
    """What the row says, and whether it can be used. No query. A row whose stored values are odd cannot, and no other
    cluster is kept from being shown by that."""
    try:
        return _cluster_now(row, worlds)
    except ODD as error:
        log.exception("cluster.row_odd name=%s", row.name)
        problem = Unavailable(
            odd_words(f"the cluster {row.name}", error),
            fix="Run the version of Headgate that wrote it, or put the row back from a backup.",
            code="cluster-unusable",
        )
        return ClusterNow(row.name, row.kind, row.configuration, row.secret, problem, None)


def _cluster_now(row: Cluster, worlds: Worlds) -> ClusterNow:
    problem, endpoint_url, trials = None, None, None
    capabilities: tuple[CapabilityNow, ...] = ()
    try:
        world = worlds.of(row.name)
    except Unavailable as error:
        problem = error
    else:
        endpoint_url = world.endpoint_url
        trials = None if world.trials is None else Trials.from_json(row.trials)
        declared = None if world.trials is None else world.trials.declared()
        capabilities = capabilities_now(world.router.capabilities(), declared, trials or Trials())
    return ClusterNow(
        row.name,
        row.kind,
        row.configuration,
        row.secret,
        problem,
        endpoint_url,
        Belongings.from_json(row.belongings),
        capabilities,
        trials,
    )


def unusable_clusters(*, worlds: Worlds) -> dict[str, Unavailable]:
    """Why a cluster cannot be used, by the names of those that cannot. No query."""
    found = {}
    for name in worlds.names:
        try:
            worlds.of(name)
        except Unavailable as error:
            found[name] = error
    return found


def _says(spec: ClusterSpec) -> str:
    """Equal for rows that say the same; 8700.0 and true are not 8700 and 1, which a kind would refuse."""
    return json.dumps(_audited(spec), sort_keys=True)


def _audited(spec: ClusterSpec) -> dict[str, Any]:
    """As it stands in the row, where the configuration may be anything."""
    return {"kind": spec.kind, "configuration": spec.configuration, "secret": spec.secret}
