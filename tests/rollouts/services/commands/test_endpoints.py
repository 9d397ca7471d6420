"""Endpoints and variants come into being: whole or not at all, and refused with the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Conflict, InvalidInput, NotFound, Refused
from registry.models import Version
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.domain.belongings import ModelServer
from rollouts.domain.limits import Limits
from rollouts.domain.variants import ServingSpec
from rollouts.models import Cluster, Effect, Endpoint, HistoryEvent, Variant, Workload
from rollouts.services.commands.endpoints import (
    CheckedSpec,
    check_launchable,
    create_endpoint,
    ensure_cluster,
    ensure_variant,
    set_rescue,
)
from tests import factories
from tests.rollouts.worlds import world_in_memory, worlds_of

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


def manager() -> Actor:
    return Actor.person(factories.person(Role.RELEASE_MANAGER))


def create(**changes: Any) -> Endpoint:
    model = factories.model(now=NOW)
    arguments: dict[str, Any] = {
        "name": "triage", "model": model, "version": model.versions.get(number=1), "serving": ServingSpec(),
        "gate_policy": factories.gate_policy(), "golden_set": factories.golden_set(),
        "cluster": ensure_cluster(name="here"), "worlds": worlds_of(world_in_memory(ManualClock(NOW))),
        "actor": manager(), "now": NOW,
    }  # fmt: skip
    return create_endpoint(**{**arguments, **changes})


# --- made -------------------------------------------------------------------------------------------------------------


def test_create__new_one__asks_for_its_variant_to_run_and_moves_no_traffic() -> None:
    made = create()
    assert made.stable is not None
    assert (made.desired_fallback, made.desired_shares) == (made.stable.name, {})
    assert list(Effect.objects.values_list("kind", "payload")) == [
        ("ensure-workload", {"variant": made.stable.name})
    ]
    assert Workload.objects.get().variant == made.stable
    assert (AuditEvent.objects.get(action="endpoint.created").after or {})["variant"] == made.stable.name
    assert HistoryEvent.objects.get().kind == "endpoint-created"


def test_create__without_an_alias__has_one_of_its_own_name() -> None:
    assert create().alias == "triage-production"


def test_create__name_that_is_taken__conflict_and_nothing_of_it_is_kept() -> None:
    create()
    with pytest.raises(Conflict) as refused:
        create(serving=ServingSpec(arguments={"max-model-len": 128}))
    assert refused.value.code == "endpoint-exists"
    assert (Variant.objects.count(), Effect.objects.count(), AuditEvent.objects.count()) == (1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Triage"}, "name"),
        ({"name": "triage\n"}, "name"),
        ({"alias": "a" * 81}, "alias"),
        ({"environment": "e" * 41}, "environment"),
        ({"golden_set": None}, "golden_set"),
        ({"serving": ServingSpec(arguments={"trust-remote-code": True})}, "arguments.trust-remote-code"),
    ],
)
def test_create__what_cannot_be__names_the_field_and_keeps_nothing(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        create(**changes)
    assert refused.value.field.endswith(field)
    assert not Endpoint.objects.exists()


def test_create__version_of_another_model__names_the_field() -> None:
    other = factories.model("another", now=NOW).versions.get(number=1)
    with pytest.raises(InvalidInput) as refused:
        create(version=other)
    assert refused.value.field == "version"


# --- what may be launched ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (Version(number=2, gone_at=NOW, manifest_state="verified"), "version-gone"),
        (Version(number=2, manifest_state="pending"), "manifest-pending"),
        (Version(number=2, manifest_state="changed", manifest_problem="w differs."), "manifest-changed"),
        (Version(number=2, manifest_state="failed", manifest_problem="A pickle."), "manifest-failed"),
    ],
)
def test_check_launchable__may_not_be__says_why(version: Version, code: str) -> None:
    version.model = factories.model(now=NOW)
    with pytest.raises(Refused) as refused:
        check_launchable(version)
    assert refused.value.code == code
    assert version.manifest_problem.rstrip(".") in refused.value.message


def test_check_launchable__verified__may_be() -> None:
    check_launchable(factories.model(now=NOW).versions.get(number=1))


def test_ensure_variant__same_content_twice__is_one_variant_with_one_workload() -> None:
    endpoint = factories.endpoint(now=NOW)
    version, spec = endpoint.model.versions.get(number=2), CheckedSpec(ServingSpec())
    first = ensure_variant(endpoint=endpoint, version=version, spec=spec, now=NOW)
    assert ensure_variant(endpoint=endpoint, version=version, spec=spec, now=NOW) == first
    assert Workload.objects.filter(variant=first).count() == 1


def test_ensure_variant__other_content__is_another_name() -> None:
    endpoint = factories.endpoint(now=NOW)
    version = endpoint.model.versions.get(number=2)
    specs = (CheckedSpec(ServingSpec()), CheckedSpec(ServingSpec(replicas=2)))
    made = [ensure_variant(endpoint=endpoint, version=version, spec=spec, now=NOW).name for spec in specs]
    assert len(set(made)) == 2


def test_ensure_cluster__that_is_there__stays_of_its_kind() -> None:
    ensure_cluster(name="paris", kind="kubernetes")
    assert ensure_cluster(name="paris").kind == "kubernetes"
    assert Cluster.objects.filter(name="paris").count() == 1


# --- the switch -------------------------------------------------------------------------------------------------------


def test_set_rescue__to_another__is_told_with_before_and_after() -> None:
    factories.endpoint(now=NOW)
    assert not set_rescue(endpoint_name="triage", on=False, actor=manager(), now=NOW).rescue
    told = AuditEvent.objects.get(action="endpoint.rescue-set")
    assert (told.before, told.after) == ({"rescue": True}, {"rescue": False})
    assert not Endpoint.objects.get().rescue


def test_set_rescue__to_what_it_is__tells_nothing() -> None:
    factories.endpoint(now=NOW)
    Endpoint.objects.update(next_look_at=NOW)
    set_rescue(endpoint_name="triage", on=True, actor=manager(), now=NOW)
    assert not AuditEvent.objects.exists()
    assert Endpoint.objects.get().next_look_at == NOW


def test_set_rescue__of_no_endpoint__is_not_found() -> None:
    with pytest.raises(NotFound):
        set_rescue(endpoint_name="nobody", on=True, actor=manager(), now=NOW)


# --- a server that runs already ---------------------------------------------------------------------------------------


def adopting(**of: Any) -> dict[str, Any]:
    """What adopts the server llama, which answers to the endpoint's name unless `of` says otherwise."""
    world = world_in_memory(ManualClock(NOW))
    cluster = world.cluster
    assert isinstance(cluster, MemoryCluster)
    cluster.servers = (ModelServer("Deployment llama", "vllm/vllm-openai:v1", **{"model": "triage", **of}),)
    return {"serving": ServingSpec(adopts="llama"), "worlds": worlds_of(world)}


def test_create__with_a_server_that_answers_to_its_name__is_its_first_variant() -> None:
    made = create(**adopting())
    assert made.stable is not None
    assert made.stable.spec.adopts == "llama"


@pytest.mark.parametrize("of", [{"model": "other"}, {"unfit": "It has no readiness probe."}])
def test_create__with_a_server_that_cannot_answer_for_it__names_the_field_and_keeps_nothing(
    of: dict[str, str],
) -> None:
    with pytest.raises(InvalidInput) as refused:
        create(**adopting(**of))
    assert refused.value.field == "serving.adopts"
    assert not Endpoint.objects.exists()


def test_create__with_a_server_on_a_cluster_that_adopts_none__names_the_field() -> None:
    changes = adopting()
    changes["worlds"].of("here").cluster.most = Limits()
    with pytest.raises(InvalidInput, match="adopts no servers") as refused:
        create(**changes)
    assert refused.value.field == "serving.adopts"


@pytest.mark.parametrize(("runs", "most", "replicas"), [(3, 64, 3), (30, 8, 8), (0, 64, 1)])
def test_create__with_a_server_of_several_replicas__candidates_get_as_many_as_the_cluster_gives(
    runs: int, most: int, replicas: int
) -> None:
    changes = adopting(desired=runs)
    changes["worlds"].of("here").cluster.most = Limits(replicas=most, adopts=True)
    made = create(**changes)
    assert made.stable is not None
    assert made.stable.spec.to_launch.replicas == replicas
