"""What a cluster would not serve: asked before anything is stored, and met again at the launch of what was stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from controlplane.access.roles import Role
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, NotFound
from registry.models import Version
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.images import Image
from rollouts.domain.limits import Limits
from rollouts.domain.variants import ServingSpec
from rollouts.models import Variant
from rollouts.services.commands.serving_specs import check_serving, engines_of
from tests import factories
from tests.rollouts.memory_world import ERRORS, MemoryWorld

pytestmark = pytest.mark.django_db

CLUSTER = MemoryCluster(ManualClock(factories.right_now()))


def check(spec: ServingSpec, *, paths: tuple[str, ...] = ("config.json",)) -> None:
    version = Version(number=2)
    version.manifest = [{"path": path, "size": 1, "sha256": "0" * 64} for path in paths]
    check_serving(spec=spec, version=version, cluster=CLUSTER)


def test_check__declared_options__are_fine() -> None:
    check(ServingSpec(arguments={"max-model-len": 256}, environment={"OMP_NUM_THREADS": "2"}))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (ServingSpec(engine="no-such"), "serving.engine"),
        (ServingSpec(arguments={"scheduler-cls": "x"}), "serving.arguments.scheduler-cls"),
        (ServingSpec(environment={"BASH_ENV": "x"}), "serving.environment.BASH_ENV"),
    ],
)
def test_check__what_the_engine_does_not_allow__names_the_field(spec: ServingSpec, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(spec)
    assert caught.value.field == field


def test_check__file__must_be_in_the_manifest_of_this_version() -> None:
    spec = ServingSpec(arguments={"chat-template": "chat.jinja"})
    check(spec, paths=("chat.jinja",))
    with pytest.raises(InvalidInput, match="manifest does not have"):
        check(spec)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (ServingSpec(resources={"gpu": 1}), "serving.resources.gpu"),
        (ServingSpec(resources={"memory_mb": 1, "tpu": 0}), "serving.resources.tpu"),
        (ServingSpec(replicas=3), "serving.replicas"),
        (ServingSpec(image=Image("registry.example/x", "v2")), "serving.image"),
        (ServingSpec(accelerators=Accelerators(2, "amd.com/gpu")), "serving.accelerators"),
    ],
)
def test_check__what_the_cluster_cannot_give__names_the_field(spec: ServingSpec, field: str) -> None:
    cluster = MemoryCluster(ManualClock(factories.right_now()))
    cluster.most = Limits(resources=frozenset({"memory_mb"}), replicas=2)
    with pytest.raises(InvalidInput) as caught:
        check_serving(spec=spec, version=Version(number=2), cluster=cluster)
    assert caught.value.field == field


def test_check__what_the_cluster_gives__is_fine() -> None:
    check(ServingSpec(resources={"memory_mb": 3_000}, replicas=64))


@pytest.mark.story
def test_launch__what_the_spec_asks_of_the_cluster__reaches_it(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    image, accelerators = Image("registry.example/vllm", "v2"), Accelerators(2, "nvidia.com/gpu")
    spec = ServingSpec(resources={"memory_mb": 3_000}, replicas=2, image=image, accelerators=accelerators)
    w.start(2, serving=spec)
    w.run_for(5)
    launched = w.cluster.launched(w.variant(2).name)
    assert launched is not None
    asked = (launched.resources, launched.replicas, launched.image, launched.accelerators)
    assert asked == ({"memory_mb": 3_000}, 2, image, accelerators)


def test_engines_of__unknown_cluster__is_not_found(tmp_path: Path) -> None:
    worlds = MemoryWorld(tmp_path).worlds
    assert [options.engine for options in engines_of(cluster="here", worlds=worlds)] == ["vllm"]
    with pytest.raises(NotFound):
        engines_of(cluster="elsewhere", worlds=worlds)


@pytest.mark.story
@pytest.mark.parametrize(
    "change", [{"arguments": {"scheduler-cls": "evil"}}, {"environment": {"BASH_ENV": "/x"}}]
)
def test_launch__stored_spec_that_is_allowed_no_more__fails_naming_it_and_pages_show_it(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2)
    stored = Variant.objects.get(version__number=2)
    stored.serving = {**stored.serving, **change}  # as an earlier version of Headgate let it be
    stored.save()
    w.run_to("rolled-back")
    (name,) = next(iter(change.values()))
    assert (w.rollout.cause, w.workload(2).reason) == ("launch:bad-spec", "bad-spec")
    assert repr(name) in w.rollout.cause_sentence
    client = Client()
    client.force_login(factories.person(Role.VIEWER))
    for address in ("/", "/endpoints/triage", f"/rollouts/{w.rollout.pk}"):
        assert client.get(address).status_code == 200
    assert name in client.get(f"/rollouts/{w.rollout.pk}").content.decode()
