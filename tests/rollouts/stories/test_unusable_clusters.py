"""A cluster that cannot be used is one cluster's trouble: its endpoints say so, and everything else goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.kernel.errors import Unavailable
from controlplane.passes.models import ItemTrouble
from controlplane.web.health import reported
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.domain.lifecycle.looking import RESYNC_SECONDS
from rollouts.models import Cluster, Endpoint
from rollouts.ports import WorkloadStatus
from rollouts.services.loop.glances import Glances, report_routers
from rollouts.services.loop.reconcile import reconcile_endpoints
from rollouts.services.world import World, Worlds
from tests import factories
from tests.rollouts.memory_world import ERRORS, QUALITY, MemoryWorld
from tests.rollouts.probing import probe_rollouts
from tests.rollouts.worlds import worlds_of

pytestmark = pytest.mark.django_db
WHY = "The cluster elsewhere cannot be used. kind: There is no kind of clusters 'moonbase'."


def broken(w: MemoryWorld) -> Worlds:
    """The worlds of `w`, and one that cannot be made."""

    def build(name: str) -> World:
        if name == "here":
            return w.world
        raise Unavailable(WHY, fix="Use one of: local.")

    return Worlds(("elsewhere", "here"), build, w.clock)


def strand() -> Endpoint:
    """An endpoint on a cluster whose kind nobody knows."""
    made = factories.endpoint("stranded")
    made.cluster = Cluster.objects.create(name="elsewhere", kind="moonbase")
    made.save()
    return made


# --- passes -----------------------------------------------------------------------------------------------------------


def test_loop__unusable_cluster__its_endpoint_keeps_the_error_and_the_others_have_their_turns(
    tmp_path: Path,
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    stranded = strand()
    Endpoint.objects.update(next_look_at=None)
    w.clock.advance(1.0)
    report = reconcile_endpoints(worlds=broken(w), clock=w.clock, threads=1)
    assert (report.done, report.failed) == (1, 1)
    assert Endpoint.objects.get(name="triage").reconciled_at == w.now
    trouble = ItemTrouble.objects.get()
    assert trouble.item == str(stranded.pk)
    assert WHY in trouble.error


@pytest.mark.parametrize("with_rollouts", [False, True])
def test_loop__unusable_cluster_with_many_endpoints__those_of_others_have_their_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_rollouts: bool
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    monkeypatch.setattr("rollouts.services.loop.reconcile.QUIET_A_TICK", 2)
    monkeypatch.setattr("rollouts.services.loop.reconcile.TROUBLED_A_TICK", 2)
    elsewhere = strand().cluster
    for name in ("b", "c", "d"):
        endpoint = factories.endpoint(name)
        if with_rollouts:
            factories.rollout_progressing(of=endpoint)
        Endpoint.objects.filter(pk=endpoint.pk).update(cluster=elsewhere)
    for _ in range(8):
        w.clock.advance(RESYNC_SECONDS)
        reconcile_endpoints(worlds=broken(w), clock=w.clock, threads=1)
    assert Endpoint.objects.get(name="triage").reconciled_at == w.now
    tried = ItemTrouble.objects.values_list("last_attempt_at", flat=True)
    assert len(tried) == 4
    assert min(tried) >= w.now - timedelta(seconds=2 * RESYNC_SECONDS), "each is tried again and again"


def test_tick__cluster_hangs__ends_after_one_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollouts.services.loop.reconcile.BATCH", 1)
    w = MemoryWorld(tmp_path, gates=(ERRORS,))
    elsewhere = strand().cluster
    for name in ("b", "c", "d"):
        Endpoint.objects.filter(pk=factories.endpoint(name).pk).update(cluster=elsewhere)
    looks: list[str] = []

    class Hanging(MemoryCluster):
        def statuses(self) -> dict[str, WorkloadStatus]:
            looks.append("elsewhere")
            w.clock.advance(20)
            raise Unavailable("It does not answer.")

    worlds = worlds_of(w.world, replace(w.world, name="elsewhere", cluster=Hanging(w.clock)))
    assert reconcile_endpoints(worlds=worlds, clock=w.clock, threads=1).left == 3
    assert len(looks) == 1
    for _ in range(3):
        reconcile_endpoints(worlds=worlds, clock=w.clock, threads=1)
    assert not Endpoint.objects.filter(reconciled_at=None).exists(), "each has its turn in time"


def test_loop__cluster_that_is_mended__its_endpoint_goes_on(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    strand()
    reconcile_endpoints(worlds=broken(w), clock=w.clock, threads=1)
    w.clock.advance(10.0)
    mended = Worlds(("elsewhere", "here"), lambda name: replace(w.world, name=name), w.clock)
    report = reconcile_endpoints(worlds=mended, clock=w.clock, threads=1)
    assert report.failed == 0
    assert not ItemTrouble.objects.exists()


def test_glance__unusable_cluster__is_reported_and_others_are_seen(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    glances = Glances()
    assert glances.changed(broken(w)) == {"triage"}
    report_routers(glances=glances, now=w.now)
    (router,) = [part for part in reported(now=w.now) if part.name == "router"]
    assert (router.state, router.message) == ("failing", f"elsewhere: {WHY} Use one of: local.")

    glances.changed(w.worlds)
    glances.changed(Worlds(("elsewhere", "here"), lambda name: w.world, w.clock))
    report_routers(glances=glances, now=w.now)
    (router,) = [part for part in reported(now=w.now) if part.name == "router"]
    assert router.state == "ok"


def test_report_routers__several_are_silent__their_sentences_do_not_run_together(tmp_path: Path) -> None:
    def build(name: str) -> World:
        raise Unavailable("It is not there.", fix=f"mkdir -m 700 /srv/{name}")

    glances, clock = Glances(), MemoryWorld(tmp_path, gates=(ERRORS,)).clock
    glances.changed(Worlds(("berlin", "paris"), build, clock))
    report_routers(glances=glances, now=clock.now())
    (router,) = [part for part in reported(now=clock.now()) if part.name == "router"]
    assert "mkdir -m 700 /srv/berlin; paris: " in router.message


def test_glance__router_of_a_cluster_that_is_gone__is_not_reported_for_ever(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    glances = Glances()
    glances.changed(broken(w))
    glances.changed(w.worlds)
    assert glances.silent_routers() == ()


def test_probes__unusable_cluster__others_are_probed(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(QUALITY, ERRORS)).serve()
    w.start(2)
    w.run_to("progressing")
    factories.rollout_progressing(of=strand())
    report = probe_rollouts(broken(w))
    assert (report.done, report.failed) == (1, 1)
    assert WHY in ItemTrouble.objects.get(pass_name="probes").error
